"""The platform of an AWS account: its CloudFormation stack."""
