"""TF Serving over gRPC."""
