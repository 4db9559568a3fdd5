"""`mlops bootstrap ENV`: make the account's platform, or bring it up to date, by a change set that is shown first.

For an administrator, from a laptop; workflows have no right to do it. Running it again changes nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mlops import show
from mlops.accounts import account, platform, stacks
from mlops.aws import Door, open_door
from mlops.errors import USAGE, MlopsError
from mlops.repository import github_environments
from mlops.repository.github import GitHub, open_github
from mlops.settings import Environment, Settings, load_environment, load_settings


def bootstrap(root: Path, name: str, yes: bool) -> None:
    """The verb: have the platform for environment `name`."""
    settings, environments = load(root)
    platform.check(settings, environments, name)
    text = platform.template(root)
    door = open_door(root, settings, environments[name])
    stack = stacks.settle(door.client("cloudformation"), door.names.platform_stack, show.line)
    found = account.look(door, stack)
    admitted = found.audiences is None or platform.AUDIENCE in found.audiences or "OidcProvider" in found.resources
    if not admitted:
        raise MlopsError(
            f"GitHub's identity provider does not admit {platform.AUDIENCE}: {account.admit(door)}, then repeat"
        )
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
    found = ", ".join(github_environments.reviewers_of(github.environment(name) or {}))
    show.verdict(True, f"GitHub environment {name}: {state}; from main only; reviewers: {found or 'none'}", None)
    if name != "dev" and not found:
        show.line(f"warning: {name} has no reviewers, so what is merged is deployed unasked: give it a --reviewer")


def load(root: Path) -> tuple[Settings, dict[str, Environment]]:
    """The settings, and every environment that can have a platform."""
    return load_settings(root), {name: load_environment(root, name) for name in platform.HOSTED}


def title(door: Door, hosts: tuple[str, ...]) -> str:
    """What is about to be changed, and where."""
    names = door.names
    return f"platform of {', '.join(hosts)} · stack {names.platform_stack} · account {names.account_id}, {names.region}"


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


def next_steps(root: Path, name: str, github: bool) -> list[str]:
    """What is left to do after the platform is there."""
    _, environments = load(root)
    steps = []
    if not github:
        reviewers = "" if name == "dev" else " --reviewer LOGIN_OR_ORG/TEAM"
        steps.append(f"GITHUB_TOKEN=$(gh auth token) mlops bootstrap {name} --github{reviewers}  # on GitHub")
    dev, here = environments["dev"], environments[name]
    if here.account_id != dev.account_id:
        steps.append("mlops bootstrap dev  # so that dev's account lets this one read models; no changes if it does")
    steps.append(f"mlops doctor {name}")
    if name == "dev":
        steps.append("mlops run --env dev")
    return steps


def _share_adopted_group(door: Door, accounts: list[str]) -> None:
    policy = json.dumps(platform.group_policy(door.names, accounts))
    door.sagemaker.put_model_package_group_policy(ModelPackageGroupName=door.names.group, ResourcePolicy=policy)
    show.line(f"model package group {door.names.group}: shared with {', '.join(accounts)}")
