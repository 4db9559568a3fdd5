"""What `mlops doctor` looks at in the repository itself: without credentials, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mlops.accounts import platform
from mlops.definitions import definition
from mlops.doctor.findings import Finding, ok, problem, warning
from mlops.registry import deployments
from mlops.settings import PLACEHOLDER_ACCOUNT, Environment, Settings

CODEOWNERS = ".github/CODEOWNERS"


def tools(root: Path) -> Iterator[Finding]:
    """Python, git and uv."""
    python = ".".join(map(str, sys.version_info[:3]))
    least = _least_python(root)
    if least and sys.version_info[:2] < least:
        wanted = ".".join(map(str, least))
        yield problem(f"Python {python} is too old", f"`uv python install {wanted}` and `uv sync`")
    else:
        yield ok(f"Python {python}")
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` sets UV
    for tool, path, fix in (("git", shutil.which("git"), "install git"), ("uv", uv, "`pip install uv`")):
        if path is None:
            yield problem(f"{tool} is not on the path", fix)
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        yield ok(said.stdout.strip()) if said.returncode == 0 else problem(f"{tool} does not run", fix)


def repository(root: Path, settings: Settings) -> Iterator[Finding]:
    """The repository that the roles trust, git's remote, and who must review."""
    name = settings.project.repository
    if name.partition("/")[0] == platform.PLACEHOLDER_OWNER:
        yield problem(f"mlops.toml: project.repository is the placeholder {name}", "put your own owner/name there")
    else:
        yield ok(f"repository {name}")
        remote = _remote(root)
        if remote is None:
            yield warning("git has no remote origin", f"`git remote add origin git@github.com:{name}.git`")
        elif not remote.removesuffix("/").removesuffix(".git").lower().endswith(name.lower()):
            yield warning(f"git's origin is {remote}, not {name}", "correct project.repository or the remote")
    owners = root / CODEOWNERS
    if not owners.is_file():
        yield warning(f"{CODEOWNERS} is missing", "restore it from git, for it asks for reviews of deployments")
    elif f"@{platform.PLACEHOLDER_OWNER}" in owners.read_text(encoding="utf-8"):
        yield problem(f"{CODEOWNERS} names the placeholder @{platform.PLACEHOLDER_OWNER}", "put a user or a team there")
    else:
        yield ok(CODEOWNERS)


def account(environment: Environment) -> Iterator[Finding]:
    """Whether an environment has an account yet."""
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        file = f"environments/{environment.name}.toml"
        yield problem(f"{file}: account_id is the placeholder {PLACEHOLDER_ACCOUNT}", "put your account there")


def compiled(root: Path, settings: Settings) -> Iterator[Finding]:
    """Whether pipeline/definition.json is what pipeline.py would give; imports no SDK."""
    if definition.is_stale(root, settings):
        yield problem("pipeline/definition.json is stale", "`mlops compile`, and commit it")
    else:
        yield ok("pipeline/definition.json is up to date")


def pins(root: Path) -> Iterator[Finding]:
    """Whether every file of deployments/ is good."""
    count = deployments.check(root)  # raises MlopsError, with its remedy, for one that is not
    yield ok(f"deployments/ has {count} good files" if count else "deployments/ is empty: nothing is deployed yet")


def _least_python(root: Path) -> tuple[int, ...] | None:
    """The oldest Python that pyproject.toml admits."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return None
    wanted = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}).get("requires-python", "")
    least = [part.strip().removeprefix(">=") for part in wanted.split(",") if part.strip().startswith(">=")]
    return tuple(int(number) for number in least[0].split(".")[:2]) if least else None


def _remote(root: Path) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    said = subprocess.run([git, "remote", "get-url", "origin"], cwd=root, capture_output=True, text=True, check=False)
    return said.stdout.strip() or None
