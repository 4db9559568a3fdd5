"""A project's data: guesses about a new file, and checks of schema, header, metric and threshold."""
