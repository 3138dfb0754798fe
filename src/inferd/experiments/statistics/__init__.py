"""The formulas behind an experiment's report, each with its source."""
