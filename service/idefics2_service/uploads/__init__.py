"""Files that callers upload: received in pieces, kept for a while, found by id or by sha-256."""
