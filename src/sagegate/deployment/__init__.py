"""A pinned model behind an endpoint: deployed, tried, asked."""
