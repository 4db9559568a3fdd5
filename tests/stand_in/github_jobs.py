"""The stand-in for GitHub gives each job's token the permissions that its workflow asks for, as GitHub does."""

from __future__ import annotations

from typing import Any

from stand_in.github import Request, route

CONTROL_TOKEN = "stand-in-control-token"


@route("POST", "/stand-in/job")
def begin(request: Request) -> Any:
    """From now on `token` has `permissions`, and no others."""
    request.github.tokens[request.body["token"]] = dict(request.body["permissions"])
    return {}
