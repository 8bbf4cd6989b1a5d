"""The HTTP face: health and metrics so far."""
