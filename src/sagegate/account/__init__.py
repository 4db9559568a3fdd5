"""The platform of an AWS account: create it, and compare its roles with the expected ones."""
