"""Requests in Redis or Valkey: the store of many replicas."""
