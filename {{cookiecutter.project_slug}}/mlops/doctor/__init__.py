"""What is missing or wrong in the project, on GitHub and in an account."""
