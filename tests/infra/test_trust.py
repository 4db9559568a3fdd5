"""Tests of the roles' trust policies: tokens of GitHub jobs are evaluated against each of them."""

import pytest
from templates import DEV, OPS, Json, Stack, as_list, conditions_hold, platform

ISSUER = "token.actions.githubusercontent.com"
ROLES = {
    "tumour-github-train": ["dev"],
    "tumour-github-approve": ["prod", "staging"],
    "tumour-github-deploy-staging": ["staging"],
    "tumour-github-deploy-prod": ["prod"],
}
# Subjects of tokens by kind of job. Source: https://docs.github.com/en/actions/reference/security/oidc
SUBJECTS = {
    "environment": "repo:my-org/tumour:environment:{environment}",
    "fork": "repo:someone/tumour:environment:{environment}",
    "another repository": "repo:my-org/other:environment:{environment}",
    "a repository whose name starts alike": "repo:my-org/tumour-2:environment:{environment}",
    "branch without environment": "repo:my-org/tumour:ref:refs/heads/main",
    "another branch": "repo:my-org/tumour:ref:refs/heads/feature",
    "tag": "repo:my-org/tumour:ref:refs/tags/v1",
    "pull request": "repo:my-org/tumour:pull_request",
    "a branch named like an environment": "repo:my-org/tumour:ref:refs/heads/environment:{environment}",
    "another environment": "repo:my-org/tumour:environment:test",
    "wildcard": "repo:my-org/tumour:*",
    "other case": "repo:My-Org/tumour:environment:{environment}",
}


def token(subject: str, audience: str = "sts.amazonaws.com", issuer: str = ISSUER) -> dict[str, str]:
    """Return a GitHub token's claims as IAM context keys."""
    return {f"{issuer}:aud": audience, f"{issuer}:sub": subject}


def trusts(role: Json, claims: dict[str, str], provider: str = f"oidc-provider/{ISSUER}") -> bool:
    """Return True if sts:AssumeRoleWithWebIdentity with these claims succeeds."""
    return any(
        statement["Effect"] == "Allow"
        and as_list(statement["Action"]) == ["sts:AssumeRoleWithWebIdentity"]
        and str(statement["Principal"].get("Federated", "")).endswith(provider)
        and conditions_hold(statement["Condition"], claims)
        for statement in role["AssumeRolePolicyDocument"]["Statement"]
    )


@pytest.fixture(scope="module")
def stack() -> Stack:
    return platform("dev staging prod")


@pytest.mark.parametrize("name", ROLES)
def test_a_role_trusts_its_environments_only(stack: Stack, name: str) -> None:
    role = stack.role(name)
    for environment in ("dev", "staging", "prod"):
        subject = SUBJECTS["environment"].format(environment=environment)
        assert trusts(role, token(subject)) == (environment in ROLES[name]), environment
        assert not trusts(role, token(subject, audience="https://github.com/my-org"))
        assert not trusts(role, token(subject, issuer="token.actions.example.com"))
        assert not trusts(role, {f"{ISSUER}:sub": subject})
        assert not trusts(role, {f"{ISSUER}:aud": "sts.amazonaws.com"})
        for what, other in SUBJECTS.items():
            if what != "environment":
                assert not trusts(role, token(other.format(environment=environment))), what


def test_no_trust_has_a_wildcard_or_a_loose_operator(stack: Stack) -> None:
    for name in ROLES:
        (statement,) = stack.role(name)["AssumeRolePolicyDocument"]["Statement"]
        assert set(statement["Condition"]) == {"StringEquals"}
        assert set(statement["Condition"]["StringEquals"]) == {f"{ISSUER}:aud", f"{ISSUER}:sub"}
        assert "*" not in str(statement)


def test_the_check_finds_a_wildcard_trust(stack: Stack) -> None:
    loose = {f"{ISSUER}:sub": "repo:my-org/*", f"{ISSUER}:aud": "sts.amazonaws.com"}
    principal = {"Federated": f"arn:aws:iam::{DEV}:oidc-provider/{ISSUER}"}
    action = "sts:AssumeRoleWithWebIdentity"
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, "Condition": {"StringLike": loose}}
    assert trusts({"AssumeRolePolicyDocument": {"Statement": [statement]}}, token(SUBJECTS["another repository"]))


def test_service_roles_trust_requests_of_this_account_only(stack: Stack) -> None:
    for name, service in (("execution", "sagemaker"), ("endpoint", "sagemaker"), ("trigger", "events")):
        (statement,) = stack.role(f"tumour-{name}")["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": DEV}}


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        ("dev", ["approve", "train"]),
        ("staging", ["deploy-staging"]),
        ("prod", ["deploy-prod"]),
        ("staging prod", ["deploy-prod", "deploy-staging"]),
    ],
)
def test_an_account_has_the_roles_of_its_environments(hosts: str, names: list[str]) -> None:
    roles = platform(hosts, OPS).of_type("AWS::IAM::Role").values()
    assert sorted(r["RoleName"].removeprefix("tumour-github-") for r in roles if "github" in r["RoleName"]) == names


def test_every_role_has_the_permissions_boundary() -> None:
    boundary = f"arn:aws:iam::{DEV}:policy/boundary"
    bounded = platform("dev staging prod", PermissionsBoundaryArn=boundary).of_type("AWS::IAM::Role")
    assert bounded and all(role["PermissionsBoundary"] == boundary for role in bounded.values())
    assert all("PermissionsBoundary" not in r for r in platform("dev staging").of_type("AWS::IAM::Role").values())


def test_session_durations(stack: Stack) -> None:
    hours = {name: stack.role(name)["MaxSessionDuration"] / 3600 for name in ROLES}
    assert hours["tumour-github-train"] == 12  # IAM's maximum, because a pipeline can run long
    assert all(hours[f"tumour-github-deploy-{e}"] == 4 for e in ("staging", "prod"))
    assert hours["tumour-github-approve"] == 4  # it sets the champion once the canary is over
