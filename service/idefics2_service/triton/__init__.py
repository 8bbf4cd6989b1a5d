"""NVIDIA Triton: the backend that talks to one, and the embedded server that runs one here."""
