"""The front service: gRPC and HTTP faces over one request lifecycle, in front of Triton."""
