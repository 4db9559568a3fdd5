"""The generated project's workflows, run as they are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clean_copy import ROOT
from conftest import bake_template, find_uv, run_module, without_shell_settings
from filelock import FileLock
from workflow_lab import REPOSITORY, Repository

if TYPE_CHECKING:
    from stand_in.remote import Remote

ACCOUNTS = {"dev": "111111111111", "staging": "222222222222", "prod": "333333333333"}


@pytest.fixture(scope="session")
def locked(template: Path, project_env: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baked project with the uv.lock that a user commits. Read-only."""
    project = bake_template(template, tmp_path_factory.mktemp("locked"), github_repository=REPOSITORY)
    kept = ROOT / "build" / "environments" / f"{project_env.parent.parent.name}.uv.lock"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            subprocess.run([find_uv(), "lock", "--quiet"], cwd=project, env=without_shell_settings(), check=True)
            shutil.copy2(project / "uv.lock", kept)
    shutil.copy2(kept, project / "uv.lock")
    return project


@pytest.fixture
def repository(locked: Path, project_env: Path, tmp_path: Path) -> Iterator[Repository]:
    """The project on GitHub, with two commits on main."""
    made = Repository(locked, tmp_path / "lab", project_env.parent.parent)
    made.commit("The project")
    made.commit("A first change")
    yield made
    made.close()


def test_ci_is_green_on_what_is_generated(repository: Repository) -> None:
    run = repository.run("ci.yml", repository.push())
    assert run.jobs == {"checks": "success", "pipeline": "success", "ci": "success"}, run.output
    print(run.summary)


@pytest.fixture
def with_aws(locked: Path, project_env: Path, tmp_path: Path, stand_in: "Remote") -> Iterator[Repository]:
    """The project on GitHub with accounts for its environments, whose platform stacks are there."""
    project = tmp_path / "my-model"
    shutil.copytree(locked, project)
    for name, account in ACCOUNTS.items():
        file = project / "environments" / f"{name}.toml"
        text = re.sub('account_id = ".*"', f'account_id = "{account}"', file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")
    for name, account in ACCOUNTS.items():
        run_module(project_env, project, "mlops", "bootstrap", name, "--yes", env=stand_in.environment(account))
    made = Repository(project, tmp_path / "lab", project_env.parent.parent, stand_in.environment(ACCOUNTS["dev"]))
    made.commit("The project")
    yield made
    made.close()


def test_training_ends_in_a_pull_request(with_aws: Repository) -> None:
    repository = with_aws
    repository.edit("mlops.toml", "max_depth = 4", "max_depth = 5")
    repository.commit("Deeper trees")
    event = repository.push()
    assert "train.yml" in repository.triggered(["mlops.toml"])
    run = repository.run("train.yml", event)
    print(run.summary)
    assert run.jobs == {"train": "success", "promote": "success"}, run.output
    (pull,) = repository.github.pulls.all("open")
    print(pull["body"])
