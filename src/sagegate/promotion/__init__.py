"""Which model is pinned to an environment: changed by pull request."""
