"""SageMaker on your machine: the same calls and `/opt/ml` folders, without an AWS account and without containers."""
