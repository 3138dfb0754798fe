"""TorchServe's inference and management APIs."""
