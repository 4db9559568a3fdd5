"""The trust policies that infra/platform.yaml gives the project's roles, and their comparison with those in AWS."""

from __future__ import annotations

import json
from typing import Any

from sagegate.account.platform import AUDIENCE, PROVIDER
from sagegate.files import Json
from sagegate.names import Names
from sagegate.repository.github import BRANCH


def expected_trust(names: Names, repository: str, subject: str) -> dict[str, Json]:
    """Return the trust policy of each role that environment `names.environment` needs, by the role's purpose.

    `subject` is how the subject of the repository's tokens begins (`GitHub.subject_prefix`).
    """

    def github(environments: list[str], *workflows: str) -> Json:
        claims = {
            f"{PROVIDER}:aud": AUDIENCE,
            f"{PROVIDER}:sub": [f"{subject}:environment:{name}" for name in environments],
        }
        if names.partition == "aws":  # STS evaluates the claims below in the commercial regions only
            files = [f"{repository}/.github/workflows/{file}@refs/heads/{BRANCH}" for file in workflows]
            claims |= {f"{PROVIDER}:ref": f"refs/heads/{BRANCH}", f"{PROVIDER}:job_workflow_ref": files}
        return _policy(
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider_arn(names)},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": claims},
            }
        )

    if names.environment == "dev":
        return {
            "execution": _sagemaker_trust(names),
            "github-train": github(["dev"], "train.yml", "promote.yml"),
            "github-approve": github(["staging", "prod"], "deploy.yml"),
        }
    deploy = f"github-deploy-{names.environment}"
    return {"endpoint": _sagemaker_trust(names), deploy: github([names.environment], "deploy.yml")}


def provider_arn(names: Names) -> str:
    """Return the ARN of GitHub's OIDC provider in the account."""
    return f"arn:{names.partition}:iam::{names.account_id}:oidc-provider/{PROVIDER}"


def is_same_policy(policy: Json, other: Json) -> bool:
    """Return True if two policies have the same statements, in any order and with any Sid."""
    return bool(_canonical(_statements(policy)) == _canonical(_statements(other)))


def trusted_subjects(policy: Json) -> list[str]:
    """Return the values of the token's `sub` that a trust policy accepts, under any condition operator."""
    subjects: list[str] = []
    for statement in _statements(policy):
        for operator in statement.get("Condition", {}).values():
            value = operator.get(f"{PROVIDER}:sub", [])
            subjects += [value] if isinstance(value, str) else value
    return subjects


def _sagemaker_trust(names: Names) -> Json:
    return _policy(
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": names.account_id}},
        }
    )


def _policy(statement: Json) -> Json:
    return {"Version": "2012-10-17", "Statement": [statement]}


def _statements(policy: Json) -> list[Json]:
    statements = policy.get("Statement", [])
    return statements if isinstance(statements, list) else [statements]


def _canonical(value: Any) -> Any:
    """Return equal values for equal policies: IAM accepts one value in place of a list, and lists in any order."""
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items() if key != "Sid"}
    items = value if isinstance(value, list) else [value]
    return sorted(
        (_canonical(i) if isinstance(i, dict) else i for i in items), key=lambda i: json.dumps(i, sort_keys=True)
    )
