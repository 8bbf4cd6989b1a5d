"""The gRPC face: wire messages in and out, errors as google.rpc.Status, one interceptor."""
