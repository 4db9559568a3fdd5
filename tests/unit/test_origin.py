"""Where a deployment says that it comes from."""

import subprocess
from pathlib import Path

import pytest

from sagegate.repository.git import origin


def git(folder: Path, *args: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which a pull request was merged that pins a model, and more has happened since."""
    for name in ("GITHUB_TOKEN", "GITHUB_SHA", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    git(tmp_path, "switch", "-qc", "promote/staging")
    (tmp_path / "deployments").mkdir()
    (tmp_path / "deployments" / "staging.json").write_text("{}")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "pin")
    git(tmp_path, "switch", "-q", "main")
    git(tmp_path, "merge", "-q", "--no-ff", "-m", "merge", "promote/staging")
    git(tmp_path, "tag", "merge")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "later")
    return tmp_path


def test_a_job_names_the_commit_that_brought_the_pin(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that started it: a job that waited deploys what main pins by then."""
    monkeypatch.setenv("GITHUB_SHA", git(merged, "rev-parse", "HEAD"))
    assert origin(merged, "staging").commit == git(merged, "rev-parse", "merge")
    assert origin(merged, "prod").commit == git(merged, "rev-parse", "HEAD")


def test_outside_a_workflow_the_checkout_counts(merged: Path) -> None:
    assert origin(merged, "staging").commit == git(merged, "rev-parse", "HEAD")
    (merged / "deployments" / "staging.json").write_text("{ }")
    assert origin(merged, "staging").commit == git(merged, "rev-parse", "HEAD") + "-dirty"


def test_the_sentence_fits_the_registry(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTOR", "x" * 3000)
    assert len(origin(merged, "staging").sentence) <= 900
