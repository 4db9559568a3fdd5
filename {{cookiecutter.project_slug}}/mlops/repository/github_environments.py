"""A repository's deployment environments: who must approve a deployment to one, and from which branch it may come.

The roles in AWS trust a workflow by its environment's name, so these rules guard them. Source: docs.github.com/rest,
"Deployment environments" and "Deployment branch policies".
"""

from __future__ import annotations

from typing import Any

from mlops.errors import USAGE, MlopsError
from mlops.repository.github import GitHub, GitHubError

Json = dict[str, Any]
BRANCH = "main"
MOST_REVIEWERS = 6


def ensure(github: GitHub, name: str, reviewers: tuple[str, ...]) -> str:
    """Have the environment: deployments from main only, these reviewers (none given: those that it has).

    Returns `created`, `updated` or `unchanged`.
    """
    ids = [reviewer(github, who) for who in reviewers]
    if len(ids) > MOST_REVIEWERS:
        raise MlopsError(f"an environment has {MOST_REVIEWERS} reviewers at most: name a team instead", USAGE)
    now = github.environment(name)
    wanted = request(now, ids)
    changed = now is None or request(now, []) != wanted or not from_named_branches(now)
    if changed:
        _put(github, name, wanted)
    branches_changed = _ensure_branch(github, name)
    if now is None:
        return "created"
    return "updated" if changed or branches_changed else "unchanged"


def request(now: Json | None, reviewers: list[Json]) -> Json:
    """The body of the PUT: what the environment has now, except what is given. (GitHub empties what is left out.)"""
    rules = {rule["type"]: rule for rule in (now or {}).get("protection_rules", [])}
    required = rules.get("required_reviewers", {})
    kept = [{"type": r["type"], "id": r["reviewer"]["id"]} for r in required.get("reviewers", [])]
    return {
        "wait_timer": rules.get("wait_timer", {}).get("wait_timer", 0),
        "prevent_self_review": bool(required.get("prevent_self_review", False)),
        "reviewers": sorted(reviewers or kept, key=lambda r: (r["type"], r["id"])),
        "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
    }


def reviewers_of(environment: Json) -> list[str]:
    """The logins and teams whose approval a deployment needs."""
    rules = [r for r in environment.get("protection_rules", []) if r["type"] == "required_reviewers"]
    found = [entry["reviewer"] for rule in rules for entry in rule.get("reviewers", [])]
    return [str(one.get("login") or one.get("slug")) for one in found]


def from_named_branches(environment: Json) -> bool:
    """Whether deployments come from branches that a list names."""
    return bool((environment.get("deployment_branch_policy") or {}).get("custom_branch_policies"))


def branches(github: GitHub, name: str) -> list[Json]:
    """The patterns of that list."""
    path = _policies(github, name)
    found: list[Json] = github.call("GET", f"{path}?per_page=100", need="actions: read")["branch_policies"]
    return found


def reviewer(github: GitHub, who: str) -> Json:
    """`LOGIN` or `ORG/TEAM` in the API's shape; raises MlopsError if there is none."""
    organisation, _, team = who.partition("/")
    try:
        found = github.team(organisation, team) if team else github.user(who)
    except GitHubError as error:
        if error.status != 404:
            raise
        what = "team" if team else "user"
        raise MlopsError(f"--reviewer {who}: GitHub knows no such {what}, or the token may not see it", USAGE) from None
    return {"type": "Team" if team else "User", "id": found["id"]}


def _put(github: GitHub, name: str, wanted: Json) -> None:
    try:
        path = f"/repos/{github.repository}/environments/{name}"
        github.call("PUT", path, wanted, need="administration: write")
    except GitHubError as error:
        if error.status == 422 and wanted["reviewers"]:
            raise MlopsError(
                f"{error}: reviewers need access to the repository, and a plan of GitHub that has them"
            ) from None
        raise


def _ensure_branch(github: GitHub, name: str) -> bool:
    """Leave main, and nothing else, in the list; whether that changed it."""
    path = _policies(github, name)
    found = branches(github, name)
    is_there = any(policy["name"] == BRANCH for policy in found)
    if not is_there:
        github.call("POST", path, {"name": BRANCH}, need="administration: write")
    others = [policy for policy in found if policy["name"] != BRANCH]
    for policy in others:
        github.call("DELETE", f"{path}/{policy['id']}", need="administration: write")
    return bool(others) or not is_there


def _policies(github: GitHub, name: str) -> str:
    return f"/repos/{github.repository}/environments/{name}/deployment-branch-policies"
