"""What stands in for AWS in tests: moto's server, extended so that pipelines execute and endpoints serve."""
