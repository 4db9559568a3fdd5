"""The generated project's workflows, run as they are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clean_copy import ROOT
from conftest import Bake, find_uv, without_shell_settings
from filelock import FileLock
from workflow_lab import Repository

Open = Callable[..., Repository]


@pytest.fixture(scope="session")
def locked(baked: Bake, project_env: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baked project with the uv.lock that a user commits. Read-only."""
    project = tmp_path_factory.mktemp("locked") / "my-model"
    shutil.copytree(baked(), project, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
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
