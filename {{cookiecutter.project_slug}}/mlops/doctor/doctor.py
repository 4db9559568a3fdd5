"""`mlops doctor [ENV]`: what is missing or wrong, each with its remedy. Changes nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.markup import escape

from mlops import show
from mlops.accounts import platform
from mlops.doctor import github as on_github
from mlops.doctor import project
from mlops.doctor.findings import Finding, examine, ok, problem, warning
from mlops.errors import FAILED, USAGE, MlopsError
from mlops.settings import PLACEHOLDER_ACCOUNT, Environment, Settings, load_environment, load_settings

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(root: Path, name: str | None) -> int:
    """The verb; the exit code: 1 if there is a problem."""
    if name is not None and name not in platform.HOSTED:
        raise MlopsError(f"{name!r}: choose {', '.join(platform.HOSTED)}, or none of them to look at all", USAGE)
    counts: Counter[str] = Counter()
    for where, found in findings(root, (name,) if name else platform.HOSTED):
        counts[found.state] += 1
        style = STYLES[found.state]
        show.console.print(f"[{style}]{found.state:<8}[/] {where:<8} {escape(found.line)}")
    show.line(", ".join(f"{state}: {counts[state]}" for state in STYLES))
    return FAILED if counts["problem"] else 0


def findings(root: Path, names: tuple[str, ...]) -> Iterator[tuple[str, Finding]]:
    """Everything that is found, each with where: `project`, an environment or `github`; as soon as it is known."""
    for found in examine("tools", lambda: project.tools(root)):
        yield "project", found
    try:
        settings = load_settings(root)
        environments = {one: load_environment(root, one) for one in platform.HOSTED}
    except MlopsError as error:
        yield "project", problem(str(error))
        yield "project", warning("accounts and GitHub not looked at", "mend the settings first")
        return
    yield "project", ok("settings are valid")
    for found in [
        *examine("the repository", lambda: project.repository(root, settings)),
        *examine("the definition", lambda: project.compiled(root, settings)),
        *examine("deployments/", lambda: project.pins(root)),
    ]:
        yield "project", found
    for name in names:
        for found in _account(root, settings, environments, name):
            yield name, found
    for found in _github(settings, names):
        yield "github", found


def _account(root: Path, settings: Settings, environments: dict[str, Environment], name: str) -> list[Finding]:
    environment = environments[name]
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        return [problem(platform.placeholder(name))]
    from botocore.exceptions import NoCredentialsError

    from mlops.aws import open_door
    from mlops.doctor import account

    place = f"account {environment.account_id}"
    try:
        door = open_door(root, settings, environment)
    except NoCredentialsError:
        fix = f"`aws sso login`, set AWS_PROFILE, or make a profile {settings.project.name}-{name}"
        return [warning(f"{place} not looked at: no AWS credentials here", fix)]
    except MlopsError as error:
        return [problem(str(error))]
    except Exception as error:
        from mlops.refusals import refusal

        said = refusal(error)
        if said is None:
            raise
        return [warning(f"{place} not looked at: {said}")]
    return [
        ok(f"credentials of {place}, {environment.region}"),
        *examine("the platform's stack", lambda: account.stack(root, door, settings, environments)),
        *examine("the identity provider", lambda: account.provider(door)),
        *examine("the roles", lambda: account.roles(door, settings.project.repository)),
        *examine("the bucket", lambda: account.bucket(door)),
        *examine("quotas", lambda: account.quotas(door)),
    ]


def _github(settings: Settings, names: tuple[str, ...]) -> list[Finding]:
    from mlops.repository.github import open_github

    if not os.environ.get("GITHUB_TOKEN"):
        again = "GITHUB_TOKEN=$(gh auth token) mlops doctor"
        return [warning("environments, reviewers and branch not looked at: GITHUB_TOKEN is not set", again)]
    github = open_github(settings.project.repository)
    found = []
    for name in names:
        found += examine(f"environment {name}", partial(on_github.environment, github, name))
    return [
        *found,
        *examine("branch", lambda: on_github.branch(github)),
        *examine("the settings of Actions", lambda: on_github.workflows(github)),
    ]
