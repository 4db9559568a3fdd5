"""Deploying, rolling back and promoting in the fake AWS, through the command line."""
