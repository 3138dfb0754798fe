"""Built-in runtimes, one framework a file."""
