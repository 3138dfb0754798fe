"""Batching and execution: the queue, the batch, the instances that run it."""
