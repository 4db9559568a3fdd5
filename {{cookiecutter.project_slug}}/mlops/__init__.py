"""The machinery of this repository: settings, the pipeline definition, and the verbs of `mlops`."""
