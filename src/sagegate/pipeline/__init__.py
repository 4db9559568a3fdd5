"""What the pipeline is: the compiled definition, what it is compiled from, and what it must keep."""
