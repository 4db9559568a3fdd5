"""GitHub's API for one repository: branches and files, pull requests, deployment environments.

GITHUB_API_URL and GITHUB_TOKEN are set in every workflow. Source: docs.github.com/rest ("Git database", "Repository
contents", "Pulls", "Deployment environments", "Deployment branch policies", and "Best practices" for rate limits) and
docs.github.com/graphql ("updateRefs").
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json

ATTEMPTS = 4
LONGEST_WAIT = 60.0  # seconds
NO_COMMIT = "0" * 40  # updateRefs' name for a branch that does not exist
UPDATE_REFS = "mutation($input: UpdateRefsInput!) { updateRefs(input: $input) { clientMutationId } }"
ACTIONS_SETTING = (
    "in the repository's Settings > Actions > General turn on"
    ' "Allow GitHub Actions to create and approve pull requests"'
)
WORKFLOWS = "without `workflows` permission"  # in GitHub's refusal of a commit that changes .github/workflows
ALLOW_WORKFLOWS = "or use a GitHub App with the permission `workflows: write`, which GITHUB_TOKEN cannot have"
BRANCH = "main"  # the only branch that deployments may come from


class GitHubError(SagegateError):
    """A request that GitHub rejected; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BranchMovedError(Exception):
    """Another process moved the branch after it was read."""


@dataclass(frozen=True)
class GitHub:
    """A client for one repository (`owner/name`). `need` in its calls is the permission that a job's token needs."""

    api_url: str
    token: str
    repository: str

    # --- branches and files -----------------------------------------------------------------------------------------
    def default_branch(self) -> str:
        """Return the name of the default branch."""
        return str(self.call("GET", "")["default_branch"])

    def branch_commit(self, branch: str) -> str | None:
        """Return the commit that a branch points to, or None if there is no such branch."""
        ref = self._get_or_none(f"/git/ref/heads/{quote(branch)}", need="contents: read")
        return str(ref["object"]["sha"]) if ref else None

    def read_file(self, commit: str, path: str) -> str | None:
        """Return a file's text at a commit, or None if the commit has no such file."""
        file = self._get_or_none(f"/contents/{quote(path)}?{urlencode({'ref': commit})}", need="contents: read")
        return base64.b64decode(file["content"]).decode() if file else None

    def commits_of_file(self, commit: str, path: str) -> list[str]:
        """Return the commits up to `commit` that changed a file, the newest first; at most 100."""
        query = urlencode({"sha": commit, "path": path, "per_page": 100})
        return [str(entry["sha"]) for entry in self.call("GET", f"/commits?{query}", need="contents: read")]

    def commit_file(self, parent: str, path: str, text: str, message: str) -> str:
        """Create a commit on top of `parent` in which one file has this text, on no branch yet; return its hash."""
        need = "contents: write"
        base_tree = self.call("GET", f"/git/commits/{parent}", need=need)["tree"]["sha"]
        file = {"path": path, "mode": "100644", "type": "blob", "content": text}
        tree = self.call("POST", "/git/trees", {"base_tree": base_tree, "tree": [file]}, need)["sha"]
        body = {"message": message, "tree": tree, "parents": [parent]}
        return str(self.call("POST", "/git/commits", body, need)["sha"])

    def move_branch(self, branch: str, before: str | None, after: str) -> None:
        """Make a branch point to commit `after`; create it if `before` is None.

        Raises BranchMovedError if the branch is not at `before` any more. REST cannot compare and update in one
        request; GraphQL's updateRefs can.
        """
        update = {"name": f"refs/heads/{branch}", "beforeOid": before or NO_COMMIT, "afterOid": after, "force": True}
        variables = {"input": {"repositoryId": self.call("GET", "")["node_id"], "refUpdates": [update]}}
        # GitHub Enterprise Server has REST at /api/v3 and GraphQL at /api/graphql.
        url = f"{self.api_url.removesuffix('/v3')}/graphql"
        answer = self._send("POST", url, {"query": UPDATE_REFS, "variables": variables}, "contents: write")
        if not answer.get("errors"):
            return
        current = self.branch_commit(branch)
        if current not in (before, after):
            raise BranchMovedError
        if current != after:
            reason = "; ".join(str(error.get("message")) for error in answer["errors"])
            remedy = "check the repository's rules for it"
            if WORKFLOWS in reason:
                remedy = f"the default branch has other workflows by now: delete {branch}, {ALLOW_WORKFLOWS}"
            raise GitHubError(422, f"GitHub did not move branch {branch} ({reason}): {remedy}")

    # --- pull requests ----------------------------------------------------------------------------------------------
    def pulls(self, branch: str, base: str) -> list[Json]:
        """Return all pull requests from a branch of this repository into `base`, the newest first; at most 100."""
        owner = self.repository.partition("/")[0]
        query = {"head": f"{owner}:{branch}", "base": base, "state": "all", "per_page": "100"}
        query |= {"sort": "created", "direction": "desc"}
        pulls: list[Json] = self.call("GET", f"/pulls?{urlencode(query)}", need="pull-requests: read")
        return pulls

    def create_pull(self, title: str, body: str, branch: str, base: str) -> Json:
        """Open a pull request. Raises GitHubError with status 422 if the branch has an open one."""
        request = {"title": title, "body": body, "head": branch, "base": base}
        pull: Json = self.call("POST", "/pulls", request, need="pull-requests: write")
        return pull

    def update_pull(self, number: int, title: str, body: str) -> None:
        """Change a pull request's title and body."""
        self.call("PATCH", f"/pulls/{number}", {"title": title, "body": body}, need="pull-requests: write")

    def pulls_of_commit(self, commit: str) -> list[Json]:
        """Return the pull requests that contain a commit."""
        pulls: list[Json] = self.call("GET", f"/commits/{commit}/pulls", need="pull-requests: read")
        return pulls

    # --- environments and accounts ----------------------------------------------------------------------------------
    def environment(self, name: str) -> Json | None:
        """Return a deployment environment with its protection rules, or None if there is none."""
        return self._get_or_none(f"/environments/{quote(name, safe='')}", need="actions: read")

    def subject_prefix(self) -> str:
        """Return how the subject of this repository's OIDC tokens begins, such as `repo:OWNER@ID/NAME@ID`.

        Raises SagegateError if the owner has set another form, which no role of the project would trust, or if GitHub
        does not say it. Source: docs.github.com/rest/actions/oidc and "OpenID Connect reference".
        """
        found = self.call("GET", "/actions/oidc/customization/sub", need="actions: read")
        if not found.get("use_default", True):
            keys = ", ".join(found.get("include_claim_keys") or ["other claims"])
            path = f"repos/{self.repository}/actions/oidc/customization/sub"
            raise SagegateError(
                f"the tokens of {self.repository} have a subject made of {keys}, but the roles trust environments: "
                f"`gh api -X PUT {path} -F use_default=true`"
            )
        if not found.get("sub_claim_prefix"):
            raise GitHubError(
                200,
                f"GitHub does not say how the subject of the tokens of {self.repository} begins: give it to `sagegate "
                "bootstrap` as --subject-prefix repo:OWNER@OWNER_ID/NAME@REPOSITORY_ID, or the former repo:OWNER/NAME",
            )
        return str(found["sub_claim_prefix"])

    def set_variable(self, name: str, value: str) -> None:
        """Set a variable that the repository's workflows read as `vars.NAME`."""
        if self._get_or_none(f"/actions/variables/{name}", need="") is None:
            self.call("POST", "/actions/variables", {"name": name, "value": value})
        else:
            self.call("PATCH", f"/actions/variables/{name}", {"name": name, "value": value})

    def get_account(self, path: str) -> Json:
        """Return the user (`users/LOGIN`) or team (`orgs/ORG/teams/SLUG`). Raises GitHubError 404 if there is none."""
        account: Json = self._send("GET", f"{self.api_url}/{quote(path)}", None, "")
        return account

    # --- HTTP -------------------------------------------------------------------------------------------------------
    def call(self, method: str, path: str, body: Json | None = None, need: str = "") -> Any:
        """Send a request for a path below the repository, such as `/pulls`, and return the JSON of the response.

        Retries server errors and rate limits. Raises GitHubError if GitHub rejects the request.
        """
        return self._send(method, f"{self.api_url}/repos/{self.repository}{path}", body, need)

    def _get_or_none(self, path: str, need: str) -> Json | None:
        try:
            found: Json = self.call("GET", path, need=need)
            return found
        except GitHubError as error:
            if error.status == 404:
                return None
            raise

    def _send(self, method: str, url: str, body: Json | None, need: str) -> Any:
        request = urllib.request.Request(url, method=method)
        request.add_header("Accept", "application/vnd.github+json")
        request.add_header("X-GitHub-Api-Version", "2022-11-28")
        request.add_header("User-Agent", "sagegate")
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")  # never sent to another host
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        for attempt in range(1, ATTEMPTS + 1):
            wait = 2.0**attempt
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    content = response.read()
                return json.loads(content) if content else None
            except urllib.error.HTTPError as error:
                message = _message(error)
                limited = error.code == 429 or (error.code == 403 and "rate limit" in message.lower())
                if attempt == ATTEMPTS or not (limited or error.code >= 500):
                    call = f"{method} {url.removeprefix(self.api_url).partition('?')[0]}"
                    raise GitHubError(error.code, self._explain(error.code, message, call, need)) from None
                after = error.headers.get("Retry-After", "")
                wait = min(float(after), LONGEST_WAIT) if after.isdecimal() else wait
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS:
                    reason = getattr(error, "reason", error)
                    raise SagegateError(
                        f"GitHub does not answer at {self.api_url} ({reason}): try again later"
                    ) from None
            except ValueError:
                raise SagegateError(f"{self.api_url} does not answer with JSON: check GITHUB_API_URL") from None
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _explain(self, status: int, message: str, call: str, need: str) -> str:
        """Return one line: what GitHub rejected, why, and what to do."""
        if status == 401:
            return f"GitHub does not accept GITHUB_TOKEN ({message}): it has expired or was revoked, get a new one"
        if status == 403 and "not permitted to create or approve" in message:
            return f"GitHub rejected {call} ({message}): {ACTIONS_SETTING}"
        if WORKFLOWS in message:
            return f"GitHub rejected {call} ({message}): delete the promotion's branch, {ALLOW_WORKFLOWS}"
        if status == 403 and "rate limit" in message.lower():
            return f"GitHub's rate limit is reached ({message}): wait, then run the command again"
        if status == 403:
            remedy = f"give the job `permissions: {need}`" if need else "use a token with that permission"
            return f"GitHub rejected {call} ({message}): {remedy}"
        if status == 404:
            where = f"{self.repository} has none, or GITHUB_TOKEN may not see it"
            token = f"the token, which needs `{need}`" if need else "the token"
            return f"GitHub found nothing at {call}: {where}; check `repository` in mlops.toml and {token}"
        return f"GitHub rejected {call} ({status}): {message}"


def open_github(repository: str) -> GitHub:
    """Return the client of a repository. Raises SagegateError if GITHUB_TOKEN is not set."""
    token = os.environ.get("GITHUB_TOKEN")
    if not token:
        raise SagegateError(
            "GITHUB_TOKEN is not set: in a workflow pass it in `env:`; locally, GITHUB_TOKEN=$(gh auth token)", USAGE
        )
    api_url = os.environ.get("GITHUB_API_URL") or "https://api.github.com"
    return GitHub(api_url.rstrip("/"), token, repository)


def _message(error: urllib.error.HTTPError) -> str:
    """Return GitHub's message with its details, in one line."""
    try:
        body = json.loads(error.read())
        details = [d.get("message") or d.get("code", "") if isinstance(d, dict) else d for d in body.get("errors", [])]
        text = ": ".join(str(part) for part in (body.get("message", ""), "; ".join(map(str, details))) if part)
    except (ValueError, AttributeError, TypeError, OSError):
        text = str(error.reason)
    return " ".join(text.split())[:500] or str(error.reason)


# --- deployment environments: the roles in AWS trust a workflow by its environment, so these rules protect them ------
def ensure_environment(github: GitHub, name: str, reviewers: tuple[str, ...]) -> str:
    """Create or change an environment: deployments from main only, these reviewers (none: keep the present ones).

    A reviewer is `LOGIN` or `ORG/TEAM`. Returns `created`, `updated` or `unchanged`.
    """
    ids = [_reviewer(github, reviewer) for reviewer in reviewers]
    now = github.environment(name)
    request = environment_request(now, ids)
    changed = now is None or environment_request(now, []) != request or not from_named_branches(now)
    if changed:
        try:
            github.call("PUT", f"/environments/{quote(name, safe='')}", request, need="administration: write")
        except GitHubError as error:
            if error.status == 422 and request["reviewers"]:
                hint = "reviewers need access to the repository, and a GitHub plan with required reviewers"
                raise SagegateError(f"{error}: {hint}") from None
            raise
    found = branches(github, name)
    extra = [policy for policy in found if policy["name"] != BRANCH]
    policies = f"/environments/{quote(name, safe='')}/deployment-branch-policies"
    if len(found) == len(extra):
        github.call("POST", policies, {"name": BRANCH}, need="administration: write")
        changed = True
    for policy in extra:
        github.call("DELETE", f"{policies}/{policy['id']}", need="administration: write")
        changed = True
    return "created" if now is None else "updated" if changed else "unchanged"


def environment_request(now: Json | None, reviewers: list[Json]) -> Json:
    """Return the request that updates an environment: its present rules, with `reviewers` if there are any.

    GitHub resets each rule that a request leaves out.
    """
    rules = {rule["type"]: rule for rule in (now or {}).get("protection_rules", [])}
    required = rules.get("required_reviewers", {})
    present = [{"type": r["type"], "id": r["reviewer"]["id"]} for r in required.get("reviewers", [])]
    return {
        "wait_timer": rules.get("wait_timer", {}).get("wait_timer", 0),
        "prevent_self_review": bool(required.get("prevent_self_review", False)),
        "reviewers": sorted(reviewers or present, key=lambda r: (r["type"], r["id"])),
        "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
    }


def reviewers_of(environment: Json) -> list[str]:
    """Return the logins and teams that must approve a deployment."""
    rules = [r for r in environment.get("protection_rules", []) if r["type"] == "required_reviewers"]
    accounts = [entry["reviewer"] for rule in rules for entry in rule.get("reviewers", [])]
    return [str(account.get("login") or account.get("slug")) for account in accounts]


def from_named_branches(environment: Json) -> bool:
    """Return True if deployments may come only from branches in a list."""
    return bool((environment.get("deployment_branch_policy") or {}).get("custom_branch_policies"))


def branches(github: GitHub, name: str) -> list[Json]:
    """Return the branches that may deploy to an environment, as GitHub's branch policies."""
    path = f"/environments/{quote(name, safe='')}/deployment-branch-policies?per_page=100"
    policies: list[Json] = github.call("GET", path, need="actions: read")["branch_policies"]
    return policies


def _reviewer(github: GitHub, reviewer: str) -> Json:
    organisation, _, team = reviewer.partition("/")
    try:
        account = github.get_account(f"orgs/{organisation}/teams/{team}" if team else f"users/{reviewer}")
    except GitHubError as error:
        if error.status != 404:
            raise
        kind = "team" if team else "user"
        raise SagegateError(
            f"--reviewer {reviewer}: GitHub has no such {kind}, or the token may not see it", USAGE
        ) from None
    return {"type": "Team" if team else "User", "id": account["id"]}
