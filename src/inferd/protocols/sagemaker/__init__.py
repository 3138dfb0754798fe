"""SageMaker's container contract: /ping, /invocations and, for many models, /models."""
