"""TF Serving's REST API, and KServe's V1 protocol, which is a part of it."""
