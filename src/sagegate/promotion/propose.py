"""Create or update the one promotion pull request of an environment. Safe to run concurrently: the loser retries.

The branch has one commit, on top of the default branch, which changes deployments/ENV.json. Commit and branch are
created through GitHub's API, so the working tree and the clone's branches stay as they are. The contents API does not
fit: it only adds commits to a branch, so a superseded proposal would stay in the history that a rollback reads, and
resetting the branch in between would make GitHub close its pull request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sagegate.config import Settings, parse_settings
from sagegate.errors import SagegateError
from sagegate.promotion.pull_request import Change, pull_request_body, pull_request_title
from sagegate.registry.deployments import Manifest, manifest_path, manifest_text, parse_manifest
from sagegate.repository.github import BranchMovedError, GitHub, GitHubError

ATTEMPTS = 5
OVERTAKEN = ("already exists", "No commits between")  # GitHub's messages if another process, or a merge, was faster


@dataclass(frozen=True)
class RemoteManifests:
    """The manifests at a commit on GitHub; `prefix` is the project's folder in the repository."""

    github: GitHub
    commit: str
    prefix: str

    def read(self, environment: str) -> Manifest | None:
        """Return an environment's manifest, or None if there is none. Raises SagegateError if it is invalid."""
        path = manifest_path(environment)
        text = self.github.read_file(self.commit, self.prefix + path)
        return None if text is None else parse_manifest(text, path)

    def settings(self) -> Settings:
        """Return the settings of the commit's mlops.toml."""
        text = self.github.read_file(self.commit, f"{self.prefix}mlops.toml")
        if text is None:
            raise SagegateError(f"{self.prefix}mlops.toml is missing on the default branch: push the project there")
        return parse_settings(text)

    def history(self, environment: str) -> list[str]:
        """Return the texts that the manifest has had, the oldest first."""
        path = self.prefix + manifest_path(environment)
        commits = reversed(self.github.commits_of_file(self.commit, path))
        return [text for commit in commits if (text := self.github.read_file(commit, path)) is not None]


@dataclass(frozen=True)
class Outcome:
    """The result, `created`, `updated`, `unchanged` or `declined: ...`, and the pull request."""

    result: str
    number: int
    url: str


def propose(
    github: GitHub, prefix: str, branch: str, choose: Callable[[RemoteManifests], Change], force: bool
) -> Outcome:
    """Create or update the pull request of `branch` with the change that `choose` returns for the default branch.

    If `force`, propose the change even if an earlier pull request for it was closed or reverted. Errors that `choose`
    raises pass through.
    """
    for _ in range(ATTEMPTS):
        try:
            return _propose_once(github, prefix, branch, choose, force)
        except BranchMovedError:
            continue
        except GitHubError as error:
            if error.status != 422 or not any(words in str(error) for words in OVERTAKEN):
                raise
    raise SagegateError(f"branch {branch} keeps changing: another promotion is running, try again when it is done")


def _propose_once(
    github: GitHub, prefix: str, branch: str, choose: Callable[[RemoteManifests], Change], force: bool
) -> Outcome:
    base = github.default_branch()
    base_commit, head = github.branch_commit(base), github.branch_commit(branch)
    if base_commit is None:
        raise SagegateError(f"{github.repository} has no commit on {base} yet: push one first")
    change = choose(RemoteManifests(github, base_commit, prefix))
    pulls = github.pulls(branch, base)
    pull = next((pull for pull in pulls if pull["state"] == "open"), None)
    if pull is None and not force:
        declined = next((pull for pull in pulls if change.is_in(pull.get("body"))), None)
        if declined:
            how = "merged and reverted since" if declined.get("merged_at") else "closed without merging"
            return Outcome(f"declined: it was {how}", declined["number"], declined["html_url"])

    title, body = pull_request_title(change), pull_request_body(change)
    commit = head
    if commit is None or pull is None or not change.after.is_same_as(_proposed(github, prefix, change, commit)):
        path, text = prefix + manifest_path(change.environment), manifest_text(change.after)
        commit = github.commit_file(base_commit, path, text, f"{title}\n")
        github.move_branch(branch, head, commit)
    if pull is None:
        pull, result = github.create_pull(title, body, branch, base), "created"
    elif commit == head and change.is_in(pull.get("body")):
        result = "unchanged"
    else:
        github.update_pull(pull["number"], title, body)
        result = "updated"
    if github.branch_commit(branch) != commit:
        raise BranchMovedError  # another promotion moved it before this one wrote title and body
    return Outcome(result, pull["number"], pull["html_url"])


def _proposed(github: GitHub, prefix: str, change: Change, commit: str) -> Manifest | None:
    try:
        return RemoteManifests(github, commit, prefix).read(change.environment)
    except SagegateError:
        return None  # someone edited the branch: write it again
