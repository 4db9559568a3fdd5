"""The local clone: files and their history, and the origin of a deployment.

Source: "Default environment variables" in the GitHub Actions documentation.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sagegate.errors import USAGE, SagegateError
from sagegate.pipeline.parameters import code_commit, started_by


def path_prefix(root: Path) -> str:
    """Return the project's folder in its repository, such as `models/churn/`; empty if it is the repository's root.

    Raises SagegateError if the project is not in a git repository.
    """
    done = _git(root, "rev-parse", "--show-prefix")
    if done.returncode:
        raise SagegateError(f"{root.name} is not in a git repository: promotion and rollback need one", USAGE)
    return done.stdout.strip()


def remote_url(root: Path) -> str:
    """Return the URL of the remote `origin`, or the empty string if there is none."""
    return _git(root, "remote", "get-url", "origin").stdout.strip()


def read_file(root: Path, commit: str, path: str) -> str | None:
    """Return a file's text at a commit, or None if the commit has no such file. `path` is below the project's root."""
    done = _git(root, "cat-file", "blob", f"{commit}:{path_prefix(root)}{path}")
    return None if done.returncode else done.stdout


def is_committed(root: Path, path: str) -> bool:
    """Return True if a file is as the current commit has it."""
    done = _git(root, "status", "--porcelain", "--", path)
    return done.returncode == 0 and not done.stdout


def commits_of_file(root: Path, path: str) -> list[str]:
    """Return the commits of the current branch that changed a file, the newest first."""
    if _git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        raise SagegateError("this clone is shallow, so it lacks the file's history: `git fetch --unshallow`")
    return _git(root, "log", "--first-parent", "--format=%H", "--", path).stdout.split()


@dataclass(frozen=True)
class Origin:
    """Who deploys, from which commit, pull request and job. An unknown part is the empty string."""

    by: str
    commit: str
    pull_request: str
    job: str

    @property
    def sentence(self) -> str:
        """The origin in one sentence for the registry, which allows 1024 characters."""
        parts = [f"by {self.by}", f"commit {self.commit[:12]}", self.pull_request, self.job]
        return ", ".join(part for part in parts if part)[:900]


def origin(root: Path, environment: str) -> Origin:
    """Return the origin of a deployment of this checkout to an environment.

    In a workflow the commit is the last one that changed deployments/ENV.json. GITHUB_SHA may be older if the job was
    queued.
    """
    server, repository = os.environ.get("GITHUB_SERVER_URL", ""), os.environ.get("GITHUB_REPOSITORY", "")
    job, sha = os.environ.get("GITHUB_RUN_ID", ""), os.environ.get("GITHUB_SHA")
    commit = code_commit(root)
    if sha:
        last = _git(root, "log", "-1", "--first-parent", "--format=%H", "--", f"deployments/{environment}.json")
        commit = last.stdout.strip() or sha
    return Origin(
        by=started_by(),
        commit=commit,
        pull_request=_pull_request(repository, commit),
        job=f"{server}/{repository}/actions/runs/{job}" if server and repository and job else "",
    )


def _pull_request(repository: str, commit: str) -> str:
    """Return the URL of the pull request that contains a commit; empty outside a workflow."""
    if not repository or not os.environ.get("GITHUB_TOKEN"):
        return ""
    from sagegate.repository.github import GitHubError, open_github

    try:
        pulls = open_github(repository).pulls_of_commit(commit)
    except GitHubError:
        return ""  # do not fail a deployment because its pull request is unknown
    return str(pulls[0]["html_url"]) if pulls else ""


def _git(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", *args], cwd=root, capture_output=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise SagegateError("git is not installed: sagegate needs it", USAGE) from None
