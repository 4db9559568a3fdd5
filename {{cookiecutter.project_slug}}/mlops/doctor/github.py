"""What `mlops doctor` looks at on GitHub, where GITHUB_TOKEN is set. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from mlops.doctor.findings import Finding, ok, problem, warning
from mlops.repository import github_environments
from mlops.repository.github import ACTIONS_SETTING, GitHub, GitHubError

BRANCH = github_environments.BRANCH


def environment(github: GitHub, name: str) -> Iterator[Finding]:
    """The environment whose workflows the roles trust: its reviewers, and the branch that deployments come from."""
    found = github.environment(name)
    make = f"`mlops bootstrap {name} --github" + ("`" if name == "dev" else " --reviewer LOGIN_OR_ORG/TEAM`")
    if found is None:
        yield problem(f"GitHub environment {name} is missing", make)
        return
    reviewers = github_environments.reviewers_of(found)
    if name != "dev" and not reviewers:
        yield warning(f"GitHub environment {name} has no reviewers: what is merged is deployed unasked", make)
    names = [policy["name"] for policy in github_environments.branches(github, name)] if _lists(found) else []
    if names != [BRANCH]:
        admitted = ", ".join(names) or "any branch"
        yield problem(f"GitHub environment {name} takes deployments from {admitted}, not from {BRANCH} only", make)
    else:
        yield ok(f"GitHub environment {name}: from {BRANCH} only; reviewers: {', '.join(reviewers) or 'none'}")


def branch(github: GitHub) -> Iterator[Finding]:
    """Whether the branch that deploys can be pushed to without a review."""
    try:
        found = github.call("GET", f"/repos/{github.repository}/branches/{BRANCH}", need="contents: read")
    except GitHubError as error:
        if error.status != 404:
            raise
        yield warning(f"{github.repository} has no branch {BRANCH} yet, or the token may not see it", "push it")
        return
    if found.get("protected"):
        yield ok(f"branch {BRANCH} is protected")
    else:
        yield warning(
            f"branch {BRANCH} is not protected, so anyone who can push can deploy",
            "Settings > Rules: require a pull request, a review of code owners and the status check",
        )


def workflows(github: GitHub) -> Iterator[Finding]:
    """Whether workflows may open promotion pull requests."""
    need = "administration: read"
    found = github.call("GET", f"/repos/{github.repository}/actions/permissions/workflow", need=need)
    if found.get("can_approve_pull_request_reviews"):
        yield ok("workflows may open pull requests")
    else:
        yield problem("workflows may not open pull requests", ACTIONS_SETTING)


def _lists(environment: dict[str, object]) -> bool:
    return github_environments.from_named_branches(environment)
