"""API keys: `<id>.<secret>`, kept as hashes in a file that a running service reads again when it changes."""
