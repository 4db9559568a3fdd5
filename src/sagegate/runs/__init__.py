"""Executions: started, followed, stopped, reported."""
