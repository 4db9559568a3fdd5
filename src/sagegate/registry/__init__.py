"""The model registry: model packages and their lineage, the champion, and what is deployed where."""
