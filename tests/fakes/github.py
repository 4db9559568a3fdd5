"""A fake GitHub: REST routes over a bare git repository, so that pull requests are really opened and merged.

    with FakeGitHub(bare) as github:    # GITHUB_API_URL=github.url GITHUB_TOKEN=github.token
        ...

A token has permissions, like a job's token; a request without the permission is rejected in GitHub's words. Tests plant
errors in `failures`, and find all requests in `requests`. Source: docs.github.com/rest and "OpenID Connect reference".
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.github_git import Bare
from fakes.json_server import Json, JsonServer

TOKEN, OIDC_TOKEN, CONTROL_TOKEN = "fake-token", "fake-request-token", "fake-control-token"
ISSUER = "https://token.actions.githubusercontent.com"
PERMISSIONS = ("actions", "administration", "checks", "contents", "issues", "pull-requests", "statuses", "variables")


class Rejected(Exception):
    """An error response."""

    def __init__(self, status: int, message: str, errors: list[Json] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"message": message} | ({"errors": errors} if errors else {})


@dataclass(frozen=True)
class Request:
    """The argument of a route."""

    github: FakeGitHub
    query: dict[str, str]
    body: Json

    def part(self, items: list[Json]) -> list[Json]:
        """Return the requested page of a list."""
        size, page = int(self.query.get("per_page", 30)), int(self.query.get("page", 1))
        return items[(page - 1) * size : page * size]


@dataclass
class Failure:
    """An error that a test plants, for the next `times` requests that match `METHOD path`."""

    pattern: str
    status: int
    message: str = "planted"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


@dataclass(frozen=True)
class Route:
    """A method and path, the permission it needs (`contents: read`), and the function that answers it."""

    method: str
    pattern: re.Pattern[str]
    needs: str
    status: int
    answer: Callable[..., Json]


ROUTES: list[Route] = []


def route(method: str, path: str, needs: str = "", status: int = 200) -> Callable[[Callable[..., Json]], Any]:
    """Register the function for a path: `REPO` is the repository, `{name}` one part, `{name*}` several."""
    pattern = path.replace("REPO", "/repos/[^/]+/[^/]+")
    pattern = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", pattern)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def register(answer: Callable[..., Json]) -> Callable[..., Json]:
        ROUTES.append(Route(method, re.compile(pattern), needs, status, answer))
        return answer

    return register


class FakeGitHub(JsonServer):
    """A running fake with one repository."""

    def __init__(self, bare_repository: Path, repository: str = "my-org/my-model") -> None:
        from fakes import github_routes  # it registers the routes

        self.bare = Bare(bare_repository)
        self.repository = repository
        self.token = TOKEN
        self.tokens: dict[str, dict[str, str]] = {TOKEN: dict.fromkeys(PERMISSIONS, "write")}
        self.lock = threading.RLock()
        self.failures: list[Failure] = []
        self.requests: list[tuple[str, str]] = []
        self.job: dict[str, str] = {}  # ref, workflow, environment and permission id-token of the job that runs
        self.before: Callable[[str], None] = lambda _: None  # is called with `METHOD path` before each answer
        self.pulls = github_routes.Pulls(self)
        self.actions = github_routes.Actions()
        super().__init__()

    def job_environment(self) -> dict[str, str]:
        """Return the variables that Actions sets for a job."""
        return {
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": self.repository,
            "GITHUB_TOKEN": self.token,
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/oidc/token?",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": OIDC_TOKEN,
        }

    def answer(self, method: str, url: str, authorization: str, body: Json) -> tuple[int, Json, dict[str, str]]:
        """Return status, body and headers for a request."""
        split = urlsplit(url)
        path = unquote(split.path).removeprefix("/api/v3")  # Enterprise's prefix
        query = {name: values[-1] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
        with self.lock:
            self.requests.append((method, path))
            self.before(f"{method} {path}")
            planted = next((f for f in self.failures if f.times and re.search(f.pattern, f"{method} {path}")), None)
            if planted:
                planted.times -= 1
                return planted.status, {"message": planted.message}, planted.headers
            try:
                found = [(r, m) for r in ROUTES if r.method == method and (m := r.pattern.fullmatch(path))]
                if path == "/oidc/token":
                    return 200, self._identity(authorization, query), {}
                self._authorize(authorization, path, found[0][0].needs if found else "")
                if not found:
                    raise Rejected(404, "Not Found")
                chosen, match = found[0]
                parts = {name: int(part) if part.isdecimal() else part for name, part in match.groupdict().items()}
                answer = chosen.answer(Request(self, query, body or {}), **parts)
                return chosen.status, answer, {}
            except Rejected as error:
                return error.status, error.body, {}

    def _authorize(self, authorization: str, path: str, needs: str) -> None:
        permissions = self.tokens.get(authorization.partition(" ")[2])
        if permissions is None:
            raise Rejected(401, "Bad credentials")
        if path.startswith("/repos/") and not path.startswith(
            (f"/repos/{self.repository}/", f"/repos/{self.repository}")
        ):
            raise Rejected(404, "Not Found")
        name, _, level = needs.partition(": ")
        has = permissions.get(name)
        if needs and (has is None or (level == "write" and has != "write")):
            raise Rejected(403, "Resource not accessible by integration")

    def _identity(self, authorization: str, query: dict[str, str]) -> Json:
        if authorization.lower() != f"bearer {OIDC_TOKEN}":
            raise Rejected(401, "Bad credentials")
        if self.job.get("id-token") != "write":  # GitHub gives such a job no request token
            raise Rejected(403, "the job has no permission id-token: write")
        from fakes.github_routes import OWNER_ID, REPOSITORY_ID, subject_prefix

        ref = self.job.get("ref") or f"refs/heads/{self.bare.default_branch}"
        environment, owner = self.job.get("environment"), self.repository.partition("/")[0]
        where = f"environment:{environment}" if environment else f"ref:{ref}"
        claims = {
            "sub": f"{subject_prefix(self.repository, self.actions.has_immutable_subject)}:{where}",
            "aud": query.get("audience", f"https://github.com/{owner}"),
            "repository": self.repository,
            "repository_id": str(REPOSITORY_ID),
            "repository_owner": owner,
            "repository_owner_id": str(OWNER_ID),
            "actor": owner,
            "ref": ref,
            "sha": self.bare.branch(ref.removeprefix("refs/heads/")) or "",
            "job_workflow_ref": f"{self.repository}/.github/workflows/{self.job.get('workflow', 'deploy')}.yml@{ref}",
        }
        return {"value": identity_token(claims | ({"environment": environment} if environment else {}))}


@route("POST", "/fake/token")
def grant(request: Request) -> Json:
    """Give a token these permissions and no others; the fake actions call this."""
    request.github.tokens[request.body["token"]] = dict(request.body["permissions"])
    return {}


@route("POST", "/fake/job")
def begin_job(request: Request) -> Json:
    """Begin a job: its identity tokens name its ref, workflow and environment. GitHub knows these; the fake is told."""
    request.github.job = dict(request.body)
    return {}


def identity_token(claims: dict[str, str]) -> str:
    """Return the JSON Web Token of a job, without a signature that anybody could check."""
    parts = ({"typ": "JWT", "alg": "RS256"}, {"iss": ISSUER} | claims, "signature")
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
