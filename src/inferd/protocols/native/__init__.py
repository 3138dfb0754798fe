"""The native protocol: /predict and its kin."""
