"""Traces: what happened to a call or a request, stretch by stretch, in the trace of who called."""
