"""GitHub's REST API, as far as the verbs need it. GITHUB_API_URL and GITHUB_TOKEN are set in every workflow.

Source: docs.github.com/rest, "Pulls", "Deployment environments" and "Best practices" (rate limits).
A repository's deployment environments: who must approve a deployment to one, and from which branch it may come.

The roles in AWS trust a workflow by its environment's name, so these rules guard them. Source: docs.github.com/rest,
"Deployment environments" and "Deployment branch policies".
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sagegate.errors import USAGE, SagegateError

Json = Any
ATTEMPTS = 4
LONGEST_WAIT = 60.0  # seconds
ACTIONS_SETTING = (
    "in the repository's Settings > Actions > General turn on"
    ' "Allow GitHub Actions to create and approve pull requests"'
)


class GitHubError(SagegateError):
    """A request that GitHub refused; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class GitHub:
    """A client for one repository (`owner/name`); `need` in its calls is the job permission that they take."""

    api_url: str
    token: str
    repository: str
    sleep: Callable[[float], None] = time.sleep

    # --- pull requests ---------------------------------------------------------------------------------------------
    def pulls(self, branch: str, base: str, state: str = "open") -> list[Json]:
        """The pull requests from a branch of this repository into `base`, the newest first; at most 100."""
        owner = self.repository.partition("/")[0]
        query = {"head": f"{owner}:{branch}", "base": base, "state": state, "per_page": "100"}
        query |= {"sort": "created", "direction": "desc"}
        found: list[Json] = self._repo("GET", f"/pulls?{urlencode(query)}", need="pull-requests: read")
        return found

    def create_pull(self, title: str, body: str, branch: str, base: str) -> Json:
        """Open a pull request; raises GitHubError with status 422 if the branch has one already."""
        request = {"title": title, "body": body, "head": branch, "base": base}
        return self._repo("POST", "/pulls", request, need="pull-requests: write")

    def pulls_of_commit(self, commit: str) -> list[Json]:
        """The pull requests that brought a commit into a branch, or hold it."""
        found: list[Json] = self._repo("GET", f"/commits/{commit}/pulls", need="pull-requests: read")
        return found

    def update_pull(self, number: int, **changes: str) -> Json:
        """Change a pull request's title, body or state."""
        return self._repo("PATCH", f"/pulls/{number}", changes, need="pull-requests: write")

    # --- environments ----------------------------------------------------------------------------------------------
    def environment(self, name: str) -> Json | None:
        """A deployment environment with its protection rules, or None if there is none."""
        try:
            return self._repo("GET", f"/environments/{quote(name, safe='')}", need="actions: read")
        except GitHubError as error:
            if error.status == 404:
                return None
            raise

    def put_environment(self, name: str, reviewers: list[Json], *, protected_branches: bool, wait_minutes: int) -> Json:
        """Make or change an environment. `reviewers` are `{"type": "User" or "Team", "id": ...}`, six at most."""
        policy = {"protected_branches": True, "custom_branch_policies": False} if protected_branches else None
        request = {"wait_timer": wait_minutes, "reviewers": reviewers, "deployment_branch_policy": policy}
        return self._repo("PUT", f"/environments/{quote(name, safe='')}", request, need="administration: write")

    # --- people ----------------------------------------------------------------------------------------------------
    def user(self, login: str) -> Json:
        """A user; raises GitHubError with status 404 if there is none."""
        return self.call("GET", f"/users/{quote(login, safe='')}")

    def team(self, organisation: str, slug: str) -> Json:
        """A team of an organisation; raises GitHubError with status 404 if there is none."""
        return self.call("GET", f"/orgs/{quote(organisation, safe='')}/teams/{quote(slug, safe='')}")

    # --- the wire --------------------------------------------------------------------------------------------------
    def _repo(self, method: str, path: str, body: Json = None, need: str = "") -> Json:
        return self.call(method, f"/repos/{self.repository}{path}", body, need)

    def call(self, method: str, path: str, body: Json = None, need: str = "") -> Json:
        """One request, tried again while GitHub says so; its JSON. Raises GitHubError, in one line."""
        request = urllib.request.Request(self.api_url.rstrip("/") + path, method=method)
        request.add_header("Accept", "application/vnd.github+json")
        request.add_header("X-GitHub-Api-Version", "2022-11-28")
        request.add_header("User-Agent", "sagegate")
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")  # never to another host
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    content = answer.read()
                return json.loads(content) if content else None
            except urllib.error.HTTPError as error:
                said = _said(error)
                wait = _wait(error, said, attempt)
                if wait is None or attempt == ATTEMPTS:
                    line = explain(error.code, said, f"{method} {path.partition('?')[0]}", self.repository, need)
                    raise GitHubError(error.code, line) from None
            except (OSError, http.client.HTTPException) as error:
                wait = 2.0**attempt
                if attempt == ATTEMPTS:
                    reason = getattr(error, "reason", error)
                    raise SagegateError(f"GitHub does not answer at {self.api_url} ({reason}): repeat later") from None
            except ValueError:
                raise SagegateError(f"{self.api_url} does not answer with JSON: is GITHUB_API_URL right?") from None
            self.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def open_github(repository: str) -> GitHub:
    """The client for this process; raises SagegateError where there is no token."""
    token = os.environ.get("GITHUB_TOKEN")
    if not token:
        raise SagegateError(
            "GITHUB_TOKEN is not set: in a workflow pass it by `env:`; here, GITHUB_TOKEN=$(gh auth token)", USAGE
        )
    return GitHub(os.environ.get("GITHUB_API_URL") or "https://api.github.com", token, repository)


def explain(status: int, said: str, call: str, repository: str, need: str) -> str:
    """What a refusal means and what to do, in one line."""
    if status == 401:
        return f"GitHub does not accept GITHUB_TOKEN ({said}): it has expired or was revoked, get a new one"
    if status == 403 and "not permitted to create or approve" in said:
        return f"GitHub refused {call} ({said}): {ACTIONS_SETTING}"
    if status == 403 and "rate limit" in said.lower():
        return f"GitHub's rate limit is reached ({said}): wait and repeat the command"
    if status == 403:
        wanted = f"give the job `permissions: {need}`" if need else "use a token that may"
        return f"GitHub refused {call} ({said}): {wanted}"
    if status == 404:
        where = f"{repository} has none, or GITHUB_TOKEN may not see it"
        return f"GitHub found nothing at {call}: {where}; check `repository` in mlops.toml and the token"
    return f"GitHub refused {call} ({status}): {said}"


def _said(error: urllib.error.HTTPError) -> str:
    """GitHub's message with its details, in one line."""
    try:
        found = json.loads(error.read())
        details = [d.get("message") or d.get("code", "") if isinstance(d, dict) else d for d in found.get("errors", [])]
        text = ": ".join(str(part) for part in (found.get("message", ""), "; ".join(map(str, details))) if part)
    except (ValueError, AttributeError, TypeError, OSError):
        text = str(error.reason)
    return " ".join(text.split())[:500] or str(error.reason)


def _wait(error: urllib.error.HTTPError, said: str, attempt: int) -> float | None:
    """Seconds after which the same request may succeed; None if it will not."""
    limited = error.code == 429 or (error.code == 403 and "rate limit" in said.lower())
    if not limited and error.code < 500:
        return None
    after = error.headers.get("Retry-After", "")
    return min(float(after), LONGEST_WAIT) if after.isdecimal() else 2.0**attempt


BRANCH = "main"
MOST_REVIEWERS = 6


def ensure_environment(github: GitHub, name: str, reviewers: tuple[str, ...]) -> str:
    """Have the environment: deployments from main only, these reviewers (none given: those that it has).

    Returns `created`, `updated` or `unchanged`.
    """
    ids = [reviewer(github, who) for who in reviewers]
    if len(ids) > MOST_REVIEWERS:
        raise SagegateError(f"an environment has {MOST_REVIEWERS} reviewers at most: name a team instead", USAGE)
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
    """`LOGIN` or `ORG/TEAM` in the API's shape; raises SagegateError if there is none."""
    organisation, _, team = who.partition("/")
    try:
        found = github.team(organisation, team) if team else github.user(who)
    except GitHubError as error:
        if error.status != 404:
            raise
        what = "team" if team else "user"
        raise SagegateError(
            f"--reviewer {who}: GitHub knows no such {what}, or the token may not see it", USAGE
        ) from None
    return {"type": "Team" if team else "User", "id": found["id"]}


def _put(github: GitHub, name: str, wanted: Json) -> None:
    try:
        path = f"/repos/{github.repository}/environments/{name}"
        github.call("PUT", path, wanted, need="administration: write")
    except GitHubError as error:
        if error.status == 422 and wanted["reviewers"]:
            raise SagegateError(
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
