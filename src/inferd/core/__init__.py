"""Values, errors and life cycle that every layer shares; needs the standard library and numpy only."""
