"""Deploying, rolling back and promoting in the stand-in for AWS, through the command line."""
