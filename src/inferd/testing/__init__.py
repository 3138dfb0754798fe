"""Published contract kit and in-process client."""
