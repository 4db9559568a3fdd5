"""An AWS account's platform: made, compared, removed, and who may use it."""
