"""What stands in for AWS in the tests: moto's server, with SageMaker pipelines that truly execute."""
