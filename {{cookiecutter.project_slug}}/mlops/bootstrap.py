"""`mlops bootstrap ENV`: make the account's platform, or bring it up to date, by a change set that is shown first.

For an administrator, from a laptop; workflows have no right to do it. Running it again changes nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from mlops import github_environments, platform, show, stacks
from mlops.aws import Door, is_missing, open_door
from mlops.errors import USAGE, MlopsError
from mlops.github import GitHub, open_github
from mlops.platform import Found
from mlops.settings import Environment, Settings, load_environment, load_settings

Json = dict[str, Any]
SCALING_ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def bootstrap(root: Path, name: str, yes: bool) -> None:
    """The verb: have the platform for environment `name`."""
    settings, environments = load(root)
    platform.check(settings, environments, name)
    text = platform.template(root)
    door = open_door(root, settings, environments[name])
    found = look(door)
    _check_provider(door, found)
    hosts = platform.hosts(environments, name, found.parameters)
    values = platform.parameters(settings, environments, hosts, found)
    show.line(title(door, hosts))
    apply(door, platform.wanted(door.names, text, values), yes)
    if values["CreateModelPackageGroup"] == "false" and values["DeployingAccountIds"]:
        _share_adopted_group(door, values["DeployingAccountIds"].split(","))


def github_of(root: Path) -> GitHub:
    """The repository's client; raises MlopsError where there is no token."""
    return open_github(load_settings(root).project.repository)


def github_environment(github: GitHub, name: str, reviewers: tuple[str, ...]) -> None:
    """Have the GitHub environment whose workflows the roles trust."""
    state = github_environments.ensure(github, name, reviewers)
    found = github_environments.reviewers_of(github.environment(name) or {})
    show.verdict(True, f"GitHub environment {name}: {state}; from main only; reviewers: {', '.join(found) or 'none'}", None)
    if name != "dev" and not found:
        show.line(f"warning: {name} has no reviewers, so what is merged is deployed unasked: --reviewer LOGIN_OR_ORG/TEAM")


def load(root: Path) -> tuple[Settings, dict[str, Environment]]:
    """The settings, and every environment that can have a platform."""
    return load_settings(root), {name: load_environment(root, name) for name in platform.HOSTED}


def title(door: Door, hosts: tuple[str, ...]) -> str:
    """What is about to be changed, and where."""
    names = door.names
    return f"platform of {', '.join(hosts)} · stack {names.platform_stack} · account {names.account_id}, {names.region}"


def look(door: Door) -> Found:
    """What the account has. Waits for a change of the stack that is under way."""
    client = door.client("cloudformation")
    stack = stacks.settle(client, door.names.platform_stack, show.line)
    provider = _provider(door)
    has_role = _has_scaling_role(door)
    has_group = _has_group(door)
    if stack is None or stack["StackStatus"] in (*stacks.DEAD, "REVIEW_IN_PROGRESS"):
        return Found(audiences=provider, has_scaling_role=has_role, has_group=has_group)
    given = {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", [])}
    owned = stacks.resources(client, door.names.platform_stack)
    return Found(given, frozenset(owned), stacks.outputs_of(stack), provider, has_role, has_group)


def apply(door: Door, wanted: stacks.Wanted, yes: bool) -> bool:
    """Bring a stack to what is wanted: show, ask, deploy. False if nothing had to change."""
    client = door.client("cloudformation")
    change = stacks.propose(client, wanted, show.line)
    if change is None:
        show.line(f"{wanted.name}: no changes")
        return False
    try:
        changes_table(change)
        confirm("Deploy this?", yes)
    except BaseException:
        stacks.discard(client, change)
        raise
    outcome = stacks.execute(client, change, show.line)
    if not outcome.succeeded:
        raise MlopsError(f"stack {wanted.name} ended as {outcome.status}: {outcome.reason}")
    show.verdict(True, f"{wanted.name}: {outcome.status}", None)
    return True


def changes_table(change: stacks.Change) -> None:
    """A change set: what happens to each resource."""
    replacement = {"True": "replaced", "Conditional": "may be replaced"}
    rows = [
        [c["Action"], c["LogicalResourceId"], c["ResourceType"], replacement.get(c.get("Replacement", ""), "")]
        for c in change.changes
    ]
    show.table(["action", "resource", "type", "replacement"], rows)
    counts = {action: sum(row[0] == action for row in rows) for action in dict.fromkeys(row[0] for row in rows)}
    show.line(", ".join(f"{action}: {count}" for action, count in counts.items()) or "only outputs or tags change")


def confirm(question: str, yes: bool) -> None:
    """Ask, unless told not to; raises MlopsError where nobody can answer, click.Abort at a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise MlopsError(f"{question} Nobody can answer here, so nothing was changed: repeat with --yes", USAGE)
    click.confirm(question, abort=True)


def _check_provider(door: Door, found: Found) -> None:
    """Raises MlopsError for an identity provider, made by others, with which no role could be assumed."""
    if found.audiences is None or platform.AUDIENCE in found.audiences or "OidcProvider" in found.resources:
        return
    raise MlopsError(
        f"the account's identity provider {platform.PROVIDER} does not admit {platform.AUDIENCE}: `aws iam "
        f"add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {provider_arn(door)} "
        f"--client-id {platform.AUDIENCE}`, then repeat"
    )


def provider_arn(door: Door) -> str:
    """The ARN of GitHub's identity provider in the account."""
    return f"arn:{door.names.partition}:iam::{door.names.account_id}:oidc-provider/{platform.PROVIDER}"


def next_steps(root: Path, name: str, github: bool) -> list[str]:
    """What is left to do after the platform is there."""
    settings, environments = load(root)
    steps = []
    if not github:
        reviewers = "" if name == "dev" else " --reviewer LOGIN_OR_ORG/TEAM"
        steps.append(f"GITHUB_TOKEN=$(gh auth token) mlops bootstrap {name} --github{reviewers}  # its GitHub environment")
    dev, here = environments["dev"], environments[name]
    if here.account_id != dev.account_id:
        steps.append("mlops bootstrap dev  # so that dev's account lets this one read models; no changes if it does")
    steps.append(f"mlops doctor {name}")
    if name == "dev":
        steps.append("mlops run --env dev")
    return steps


def _provider(door: Door) -> tuple[str, ...] | None:
    """The audiences that GitHub's identity provider admits, or None if the account has none."""
    iam = door.client("iam")
    try:
        found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider_arn(door))
    except iam.exceptions.NoSuchEntityException:
        return None
    return tuple(found["ClientIDList"])


def _has_scaling_role(door: Door) -> bool:
    iam = door.client("iam")
    try:
        iam.get_role(RoleName=SCALING_ROLE)
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def _has_group(door: Door) -> bool:
    try:
        door.sagemaker.describe_model_package_group(ModelPackageGroupName=door.names.group)
    except Exception as error:
        if is_missing(door, error):
            return False
        raise
    return True


def _share_adopted_group(door: Door, accounts: list[str]) -> None:
    policy = json.dumps(platform.group_policy(door.names, accounts))
    door.sagemaker.put_model_package_group_policy(ModelPackageGroupName=door.names.group, ResourcePolicy=policy)
    show.line(f"model package group {door.names.group}: shared with {', '.join(accounts)}")
