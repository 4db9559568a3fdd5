"""The project's git repository, and what GitHub knows of it."""
