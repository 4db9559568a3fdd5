"""Tests of the roles' trust policies: tokens of GitHub jobs are evaluated against each of them."""

import re

import pytest
from templates import DEV, OPS, PLATFORM, Json, Stack, as_list, conditions_hold, load, platform

ISSUER = "token.actions.githubusercontent.com"
ROLES = {
    "tumour-github-train": (["dev"], ["train.yml", "promote.yml"]),
    "tumour-github-image": (["dev"], ["image.yml"]),
    "tumour-github-approve": (["prod", "staging"], ["deploy.yml"]),
    "tumour-github-deploy-staging": (["staging"], ["deploy.yml"]),
    "tumour-github-deploy-prod": (["prod"], ["deploy.yml"]),
}
FILES = ("ci.yml", "train.yml", "image.yml", "promote.yml", "deploy.yml", "maintenance.yml", "added.yml")
OURS = "repo:my-org@1/tumour@2"
# Subjects of tokens by kind of job. Source: https://docs.github.com/en/actions/reference/security/oidc
OTHERS = {
    "fork": "repo:someone@3/tumour@4:environment:{environment}",
    "another repository": "repo:my-org@1/other@5:environment:{environment}",
    "a repository whose name starts alike": "repo:my-org@1/tumour-2@6:environment:{environment}",
    "a new owner of the same name": "repo:my-org@9/tumour@2:environment:{environment}",
    "a new repository of the same name": "repo:my-org@1/tumour@9:environment:{environment}",
    "a subject without ids": "repo:my-org/tumour:environment:{environment}",
    "branch without environment": f"{OURS}:ref:refs/heads/main",
    "tag": f"{OURS}:ref:refs/tags/v1",
    "pull request": f"{OURS}:pull_request",
    "a branch named like an environment": f"{OURS}:ref:refs/heads/environment:{{environment}}",
    "another environment": f"{OURS}:environment:test",
    "wildcard": "repo:my-org@1/tumour@2:*",
    "other case": "repo:My-Org@1/tumour@2:environment:{environment}",
}


def token(subject: str, file: str = "deploy.yml", ref: str = "refs/heads/main", **claims: str) -> dict[str, str]:
    """Return a GitHub token's claims as IAM context keys."""
    workflow = f"my-org/tumour/.github/workflows/{file}@{ref}"
    given = {"aud": "sts.amazonaws.com", "sub": subject, "ref": ref, "job_workflow_ref": workflow} | claims
    return {f"{ISSUER}:{name}": value for name, value in given.items()}


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
    return platform("dev staging prod", CreateImageRepository="true")


@pytest.mark.parametrize("name", ROLES)
def test_a_role_trusts_its_environments_and_workflows_only(stack: Stack, name: str) -> None:
    role, (environments, files) = stack.role(name), ROLES[name]
    for environment in ("dev", "staging", "prod"):
        subject = f"{OURS}:environment:{environment}"
        for file in FILES:
            assert trusts(role, token(subject, file)) == (environment in environments and file in files), file
        for file in files:
            assert not trusts(role, token(subject, file, ref="refs/heads/feature"))
            assert not trusts(role, token(subject, file, aud="https://github.com/my-org"))
            for what, other in OTHERS.items():
                assert not trusts(role, token(other.format(environment=environment), file)), what
        right = token(subject, files[0])
        assert not any(trusts(role, {k: v for k, v in right.items() if k != missing}) for missing in right)
        elsewhere = {key.replace(ISSUER, "token.actions.example.com"): value for key, value in right.items()}
        assert not trusts(role, elsewhere)


def test_a_repository_without_ids_in_its_subject_works_by_the_same_parameter() -> None:
    """Repositories made before 2026-07-15 and GitHub Enterprise Server send no ids."""
    role = platform("dev", GitHubSubject="repo:my-org/tumour").role("tumour-github-train")
    assert trusts(role, token("repo:my-org/tumour:environment:dev", "train.yml"))
    assert not trusts(role, token(f"{OURS}:environment:dev", "train.yml"))


def test_where_sts_does_not_know_the_claims_the_subject_decides() -> None:
    stack = platform("dev", **{"AWS::Partition": "aws-us-gov"})
    role = stack.role("tumour-github-train")
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert set(statement["Condition"]["StringEquals"]) == {f"{ISSUER}:aud", f"{ISSUER}:sub"}


@pytest.mark.parametrize(
    ("subject", "fits"),
    [
        (OURS, True),
        ("repo:my-org/tumour", True),
        ("repo:my-org@1/*", False),
        ("repo:my-org@1/tumour@2:environment:dev", False),
        ("my-org/tumour", False),
    ],
)
def test_the_stack_takes_only_an_exact_subject(subject: str, fits: bool) -> None:
    pattern = load(PLATFORM)["Parameters"]["GitHubSubject"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, subject)) == fits


def test_no_trust_has_a_wildcard_or_a_loose_operator(stack: Stack) -> None:
    for name in ROLES:
        (statement,) = stack.role(name)["AssumeRolePolicyDocument"]["Statement"]
        assert set(statement["Condition"]) == {"StringEquals"}
        assert "*" not in str(statement)


def test_service_roles_trust_requests_of_this_account_only(stack: Stack) -> None:
    services = {
        "execution": "sagemaker.amazonaws.com",
        "endpoint": "sagemaker.amazonaws.com",
        "trigger": ["events.amazonaws.com", "pipes.amazonaws.com"],
    }
    for name, service in services.items():
        (statement,) = stack.role(f"tumour-{name}")["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": service}
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
    hours = {name: stack.role(name).get("MaxSessionDuration", 3600) / 3600 for name in ROLES}
    assert hours["tumour-github-train"] == 12  # IAM's maximum, because a pipeline can run long
    assert all(hours[f"tumour-github-deploy-{e}"] == 4 for e in ("staging", "prod"))
    assert hours["tumour-github-approve"] == 4  # it sets the champion once the canary is over
