"""AssumeRoleWithWebIdentity as IAM judges it: moto takes every token for every role.

Source: "Configuring a role for GitHub OIDC identity provider" and "IAM and AWS STS condition context keys" in the IAM
user guide.
"""

from __future__ import annotations

import base64
import json
from fnmatch import fnmatchcase
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.models import iam_backends
from moto.sts.exceptions import STSClientError, STSValidationError
from moto.sts.responses import TokenResponse

from sagegate.files import Json

ISSUER = "token.actions.githubusercontent.com"


def install() -> None:
    """Patch moto."""
    assume_role = TokenResponse.assume_role_with_web_identity

    def judged(self: TokenResponse) -> ActionResult:
        arn, token = str(self._get_param("RoleArn")), str(self._get_param("WebIdentityToken"))
        backend = iam_backends[arn.split(":")[4]][arn.split(":")[1]]
        role = next((role for role in backend.roles.values() if role.arn == arn), None)
        if role is None or not trusts(json.loads(role.assume_role_policy_document), claims_of(token)):
            raise STSClientError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        if int(self._get_param("DurationSeconds", 3600)) > int(role.max_session_duration or 3600):
            raise STSValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
        return assume_role(self)

    TokenResponse.assume_role_with_web_identity = judged  # type: ignore[method-assign]


def claims_of(token: str) -> Json:
    """Return the claims of a token."""
    part = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def trusts(policy: Json, claims: Json) -> bool:
    """Return True if a trust policy lets a token with these claims assume the role."""
    return any(allows(statement, claims) for statement in policy["Statement"])


def allows(statement: Json, claims: Json) -> bool:
    """Evaluate one statement."""
    federated = as_list(statement.get("Principal", {}).get("Federated", []))
    if statement["Effect"] != "Allow" or "sts:AssumeRoleWithWebIdentity" not in as_list(statement["Action"]):
        return False
    if not any(name.endswith(f"oidc-provider/{ISSUER}") for name in federated):
        return False
    conditions = [
        (operator, key.removeprefix(f"{ISSUER}:"), as_list(values))
        for operator, block in statement.get("Condition", {}).items()
        for key, values in block.items()
    ]
    return all(holds(operator, str(claims.get(key, "")), values) for operator, key, values in conditions)


def holds(operator: str, claim: str, values: list[str]) -> bool:
    """Evaluate one condition; an unknown operator is False."""
    if operator == "StringEquals":
        return claim in values
    return operator == "StringLike" and any(fnmatchcase(claim, pattern) for pattern in values)


def as_list(value: Any) -> list[Any]:
    """Return a list; IAM accepts a single value in its place."""
    return value if isinstance(value, list) else [value]
