"""The data plane: a ready version, the table of what can be asked, the engine."""
