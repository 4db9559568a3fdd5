"""The fake for GitHub gives each job's token the permissions that its workflow asks for, as GitHub does."""

from __future__ import annotations

from typing import Any

from fakes.github import Request, route

CONTROL_TOKEN = "fake-control-token"


@route("POST", "/fake/job")
def begin(request: Request) -> Any:
    """From now on `token` has `permissions`, and no others."""
    request.github.tokens[request.body["token"]] = dict(request.body["permissions"])
    return {}
