"""One pull request per environment: opened, brought up to date, or left alone. Two processes at once end as one.

What is to be done follows from a look at the remote (commits and pull requests) and is a value; a push is made only if
the branch still is where it was seen, and whoever loses looks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops.errors import MlopsError
from mlops.promotion import pull_request
from mlops.promotion.pull_request import Change
from mlops.registry import deployments
from mlops.registry.deployments import Pin
from mlops.repository.git import Moved, Repository
from mlops.repository.github import GitHub, GitHubError

Json = Any
ATTEMPTS = 5
FASTER = ("already exists", "No commits between")  # what GitHub says when another process, or a merge, was faster


@dataclass(frozen=True)
class Seen:
    """The remote as it was: its default branch, the proposing branch, and that branch's pull requests."""

    base: str
    base_commit: str
    branch_commit: str | None
    proposed: Pin | None
    pulls: list[Json]  # the newest first, open and closed

    @property
    def open(self) -> Json | None:
        """The open pull request."""
        return next((pull for pull in self.pulls if pull["state"] == "open"), None)


@dataclass(frozen=True)
class Outcome:
    """What became of it: `created`, `updated`, `unchanged`, or `declined` before; the pull request's number and URL."""

    what: str
    number: int
    url: str


Decide = Callable[[str], Change | str]  # base commit -> the change, or why there is none


def propose(repository: Repository, github: GitHub, branch: str, decide: Decide, insists: bool) -> Outcome | str:
    """Make the branch and its pull request what `decide` says; a text of `decide`'s is passed on.

    With `insists`, a change that was proposed before and closed, or merged and undone since, is proposed again.
    """
    for _ in range(ATTEMPTS):
        try:
            seen = look(repository, github, branch)
            change = decide(seen.base_commit)
            if isinstance(change, str):
                return change
            before = None if insists else already_closed(seen, change)
            if before:
                what = "merged, and undone since" if before.get("merged_at") else "closed without merging"
                return Outcome(f"declined: it was {what}", before["number"], before["html_url"])
            outcome = perform(repository, github, seen, change)
            if repository.remote_heads(branch)[2] == outcome[1]:
                return outcome[0]
        except Moved:
            continue
        except GitHubError as error:
            if error.status != 422 or not any(words in str(error) for words in FASTER):
                raise
    raise MlopsError(f"branch {branch} keeps changing: another promotion is running, repeat when it is done")


def look(repository: Repository, github: GitHub, branch: str) -> Seen:
    """The remote now."""
    base, base_commit, branch_commit = repository.remote_heads(branch)
    proposed = None
    if branch_commit:
        file = deployments.path(branch.partition("/")[2])
        text = repository.read(branch_commit, file)
        try:
            proposed = deployments.loads(text, file) if text is not None else None
        except MlopsError:
            proposed = None  # somebody edited the branch: it is written anew
    return Seen(base, base_commit, branch_commit, proposed, github.pulls(branch, base, "all"))


def already_closed(seen: Seen, change: Change) -> Json | None:
    """The latest closed pull request that proposed this very change, unless one is open now."""
    if seen.open:
        return None
    return next((pull for pull in seen.pulls if pull_request.proposes(pull.get("body"), change.marker)), None)


def perform(repository: Repository, github: GitHub, seen: Seen, change: Change) -> tuple[Outcome, str]:
    """Push and write what differs from `seen`; the outcome, and the commit that the branch has now."""
    title, body = pull_request.title(change), pull_request.body(change)
    commit, pull, pushed = seen.branch_commit, seen.open, False
    if commit is None or pull is None or not change.after.is_same_as(seen.proposed):
        file, text = deployments.path(change.environment), deployments.dump(change.after)
        commit = repository.commit_file(seen.base_commit, file, text, f"{title}\n")
        repository.push(commit, change.branch, seen.branch_commit)
        pushed = True
    if pull is None:
        made = github.create_pull(title, body, change.branch, seen.base)
        return Outcome("created", made["number"], made["html_url"]), commit
    if not pushed and pull_request.proposes(pull.get("body"), change.marker):
        return Outcome("unchanged", pull["number"], pull["html_url"]), commit
    github.update_pull(pull["number"], title=title, body=body)
    return Outcome("updated", pull["number"], pull["html_url"]), commit
