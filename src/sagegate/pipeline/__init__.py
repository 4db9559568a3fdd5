"""The pipeline: compiling it, reading its definition, packing its code and filling its parameters."""
