"""Deployments: checks, the endpoint stack, the smoke test, rollback; serving and invoking a model."""
