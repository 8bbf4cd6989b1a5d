"""Idefics2 over packed tokens: transformers' modules and weights, our own order of work."""
