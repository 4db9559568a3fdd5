"""SageMaker on this machine: the same calls, the same `/opt/ml` contract, no account and no containers."""
