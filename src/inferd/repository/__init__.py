"""The control plane: what should be served, and the steps that make it so."""
