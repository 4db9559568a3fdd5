"""The project's git repository: the local clone, and GitHub."""
