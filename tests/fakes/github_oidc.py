"""Identity tokens as GitHub Actions gives them to jobs. Source: GitHub's documentation, "OpenID Connect reference"."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

ISSUER = "https://token.actions.githubusercontent.com"
KEY = b"fake"


def identity_token(repository: str, environment: str | None, audience: str, ref: str, sha: str) -> str:
    """A JSON Web Token for a job of `repository`, signed with HS256 (GitHub's are RS256)."""
    now = int(time.time())
    owner = repository.partition("/")[0]
    subject = f"environment:{environment}" if environment else f"ref:{ref}"
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": f"repo:{repository}:{subject}",
        "aud": audience,
        "repository": repository,
        "repository_owner": owner,
        "ref": ref,
        "sha": sha,
        "actor": owner,
        "event_name": "push",
        "workflow": "deploy",
        "run_id": "1",
        "runner_environment": "github-hosted",
        "jti": str(uuid.uuid4()),
        "iat": now,
        "nbf": now - 600,
        "exp": now + 300,
    }
    if environment:
        claims["environment"] = environment
    signed = f"{_part({'typ': 'JWT', 'alg': 'HS256', 'kid': 'fake'})}.{_part(claims)}"
    return f"{signed}.{_text(hmac.digest(KEY, signed.encode(), hashlib.sha256))}"


def _part(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
