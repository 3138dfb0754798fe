"""Settings, assembly, fronts, guard and run: the only place that knows everyone."""
