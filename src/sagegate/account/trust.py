"""Who may assume the project's roles: what infra/platform.yaml says of their trust, and what differs from it."""

from __future__ import annotations

import json
from typing import Any

from sagegate.account.platform import AUDIENCE, PROVIDER
from sagegate.files import Json
from sagegate.names import Names


def expected(names: Names, repository: str) -> dict[str, Json]:
    """The trust policy of each role that environment `names.environment` needs, by the role's purpose."""

    def github(*environments: str) -> Json:
        return github_trust(names, [f"repo:{repository}:environment:{name}" for name in environments])

    if names.environment == "dev":
        return {
            "execution": service_trust(names),
            "github-train": github("dev"),
            "github-approve": github("staging", "prod"),
        }
    return {"endpoint": service_trust(names), f"github-deploy-{names.environment}": github(names.environment)}


def github_trust(names: Names, subjects: list[str]) -> Json:
    """Workflows of these environments of the repository, and no others."""
    condition = {f"{PROVIDER}:aud": AUDIENCE, f"{PROVIDER}:sub": subjects}
    return _policy(
        {
            "Effect": "Allow",
            "Principal": {"Federated": provider_arn(names)},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": condition},
        }
    )


def service_trust(names: Names) -> Json:
    """SageMaker, for this account."""
    return _policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": names.account_id}},
        }
    )


def provider_arn(names: Names) -> str:
    """The ARN of GitHub's identity provider in the account."""
    return f"arn:{names.partition}:iam::{names.account_id}:oidc-provider/{PROVIDER}"


def is_exactly(found: Json, wanted: Json) -> bool:
    """Whether two policies say the same: no statement, principal, condition or value more or less."""
    return bool(_canonical(_statements(found)) == _canonical(_statements(wanted)))


def subjects(policy: Json) -> list[str]:
    """The values that a trust policy asks of a token's `sub`, whatever operator compares them."""
    found: list[str] = []
    for statement in _statements(policy):
        for operator in statement.get("Condition", {}).values():
            value = operator.get(f"{PROVIDER}:sub", [])
            found += [value] if isinstance(value, str) else value
    return found


def _statements(policy: Json) -> list[Json]:
    found = policy.get("Statement", [])
    return found if isinstance(found, list) else [found]


def _canonical(value: Any) -> Any:
    """The same for the same policy: IAM takes one value for a list of it, and lists in any order."""
    if isinstance(value, dict):
        return {key: _canonical(inside) for key, inside in value.items() if key != "Sid"}
    items = value if isinstance(value, list) else [value]
    return sorted(
        (_canonical(i) if isinstance(i, dict) else i for i in items), key=lambda i: json.dumps(i, sort_keys=True)
    )


def _policy(statement: Json) -> Json:
    return {"Version": "2012-10-17", "Statement": [statement]}
