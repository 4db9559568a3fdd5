"""The fixtures of these tests."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Once, RunIn, bake_template
from fakes.github import FakeGitHub

from promotion.lab import Lab, git


@pytest.fixture(scope="session")
def trained(template: Path, once: Once, run_in: RunIn) -> Path:
    """A generated project with three registered models and a git repository. Read-only: tests copy it."""

    def train(folder: Path) -> None:
        project = bake_template(template, folder)
        settings = project / "mlops.toml"
        settings.write_text(re.sub("(?m)^threshold = [0-9.]+", "threshold = 0.6", settings.read_text()))
        git(project, "init", "-q", "-b", "main")
        git(project, "add", "-A")
        git(project, "commit", "-qm", "the project")
        for depth in (2, 3, 4):
            run_in(project, "sagegate", "run", "--set", f"max_depth={depth}")

    return once("trained", train) / "my-model"


@pytest.fixture
def lab(trained: Path, tmp_path: Path, run_in: RunIn) -> Iterator[Lab]:
    """A project of one's own with its remote; nothing is deployed yet."""
    project, bare = tmp_path / "project", tmp_path / "remote.git"
    subprocess.run(["cp", "-r", str(trained), str(project)], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(project), str(bare)], check=True)
    git(project, "remote", "add", "origin", str(bare))
    with FakeGitHub(bare) as github:
        yield Lab(project, bare, github, run_in)
