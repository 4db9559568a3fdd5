"""Where a deployment comes from: who, which commit, which pull request, which job. GitHub's variables say, or git.

Source: "Default environment variables" in the GitHub Actions documentation.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mlops.definitions.parameters import code_commit, started_by


@dataclass(frozen=True)
class Origin:
    """For the record and for the approval's note. What is not known is the empty string."""

    by: str
    commit: str
    pull_request: str
    job: str

    @property
    def sentence(self) -> str:
        """One sentence for the registry, which has 1024 characters for it."""
        parts = [f"by {self.by}", f"commit {self.commit[:12]}"]
        parts += [part for part in (self.pull_request, self.job) if part]
        return ", ".join(parts)[:900]


def origin(root: Path, environment: str) -> Origin:
    """The origin of what runs now."""
    server = os.environ.get("GITHUB_SERVER_URL", "")
    repository, job = os.environ.get("GITHUB_REPOSITORY", ""), os.environ.get("GITHUB_RUN_ID", "")
    commit = _merged(root, environment) if os.environ.get("GITHUB_SHA") else code_commit(root)
    return Origin(
        by=started_by(),
        commit=commit,
        pull_request=_pull_request(repository, commit),
        job=f"{server}/{repository}/actions/runs/{job}" if server and repository and job else "",
    )


def _merged(root: Path, environment: str) -> str:
    """The commit of this branch that brought what ENV pins. Not GITHUB_SHA, which is older where a job had to wait."""
    command = ["git", "log", "-1", "--first-parent", "--format=%H", "--", f"deployments/{environment}.json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return done.stdout.strip() or os.environ["GITHUB_SHA"]


def _pull_request(repository: str, commit: str) -> str:
    """The address of the pull request that brought a commit; nothing outside a workflow."""
    if not repository or not os.environ.get("GITHUB_TOKEN"):
        return ""
    from mlops.repository.github import GitHubError, open_github

    try:
        found = open_github(repository).pulls_of_commit(commit)
    except GitHubError:
        return ""  # a deployment does not fail because its pull request cannot be named
    return str(found[0]["html_url"]) if found else ""
