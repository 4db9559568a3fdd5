"""A fake GitHub: its REST API over a bare git repository, so that pull requests are opened and merged for real.

    with FakeGitHub(bare) as github:    # GITHUB_API_URL=github.url GITHUB_TOKEN=github.token
        ...

The shapes are those of docs.github.com/rest, with the fields that are used. A token has permissions, as a job's has;
what it may not do is refused with GitHub's own words. `failures` plants answers, `requests` tells what was asked.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.github_git import Bare
from fakes.github_oidc import identity_token

Json = Any
TOKEN, OIDC_TOKEN = "fake-token", "fake-request-token"
PERMISSIONS = ("actions", "administration", "checks", "contents", "issues", "pull-requests", "statuses", "variables")


class Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, message: str, errors: list[Json] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": str(status),
        }
        if errors:
            self.body["errors"] = errors


@dataclass(frozen=True)
class Request:
    """What a route gets."""

    github: FakeGitHub
    query: dict[str, str]
    body: Json
    url: str

    def part(self, items: list[Json]) -> list[Json]:
        """The page of a list that was asked for."""
        size, page = int(self.query.get("per_page", 30)), int(self.query.get("page", 1))
        return items[(page - 1) * size : page * size]


@dataclass
class Failure:
    """An answer that is planted: for `times` requests that match `METHOD path`."""

    pattern: str
    status: int
    message: str = "planted"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


@dataclass(frozen=True)
class Route:
    """A method and path, the permission it needs (`contents: read`), and who answers: (request, path parts) -> JSON."""

    method: str
    pattern: re.Pattern[str]
    needs: str
    status: int
    answer: Callable[..., Json]


ROUTES: list[Route] = []


def route(method: str, path: str, needs: str = "", status: int = 200) -> Callable[[Callable[..., Json]], Any]:
    """Register who answers `METHOD path`. `REPO` stands for the repository, `{name}` for a part, `{name*}` for many."""
    pattern = path.replace("REPO", "/repos/[^/]+/[^/]+")
    pattern = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", pattern)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def register(answer: Callable[..., Json]) -> Callable[..., Json]:
        ROUTES.append(Route(method, re.compile(pattern), needs, status, answer))
        return answer

    return register


class FakeGitHub:
    """A running fake for one repository."""

    def __init__(self, bare_repository: Path, repository: str = "my-org/my-model", port: int = 0) -> None:
        from fakes import github_actions, github_pulls  # they register routes

        self.bare = Bare(bare_repository)
        self.repository = repository
        self.token = TOKEN
        self.tokens: dict[str, dict[str, str]] = {TOKEN: dict.fromkeys(PERMISSIONS, "write")}
        self.lock = threading.RLock()
        self.failures: list[Failure] = []
        self.requests: list[tuple[str, str]] = []
        self.before: Callable[[str], None] = lambda _: None  # called with `METHOD path` before it is answered
        self.pulls = github_pulls.Pulls(self)
        self.actions = github_actions.Actions()
        self._server = Server(port, self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> FakeGitHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and wait until it has."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def job_environment(self, environment: str | None = None) -> dict[str, str]:
        """The variables that Actions sets for a job, in a deployment environment if one is named."""
        where = f"?environment={environment}" if environment else "?"
        return {
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": self.repository,
            "GITHUB_TOKEN": self.token,
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/oidc/token{where}",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": OIDC_TOKEN,
        }

    def answer(self, method: str, url: str, authorization: str, body: Json) -> tuple[int, Json, dict[str, str]]:
        """Status, body and headers for a request."""
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
                    raise Refused(404, "Not Found")
                chosen, match = found[0]
                parts = {name: int(part) if part.isdecimal() else part for name, part in match.groupdict().items()}
                said = chosen.answer(Request(self, query, body or {}, self.url), **parts)
                return chosen.status, said, {}
            except Refused as refused:
                return refused.status, refused.body, {}

    def _authorize(self, authorization: str, path: str, needs: str) -> None:
        permissions = self.tokens.get(authorization.partition(" ")[2])
        if permissions is None:
            raise Refused(401, "Bad credentials")
        if path.startswith("/repos/") and not path.startswith(
            (f"/repos/{self.repository}/", f"/repos/{self.repository}")
        ):
            raise Refused(404, "Not Found")
        name, _, level = needs.partition(": ")
        has = permissions.get(name)
        if needs and (has is None or (level == "write" and has != "write")):
            raise Refused(403, "Resource not accessible by integration")

    def _identity(self, authorization: str, query: dict[str, str]) -> Json:
        if authorization.lower() != f"bearer {OIDC_TOKEN}":
            raise Refused(401, "Bad credentials")
        branch = self.bare.default_branch
        ref, sha = f"refs/heads/{branch}", self.bare.branch(branch) or ""
        audience = query.get("audience", f"https://github.com/{self.repository.partition('/')[0]}")
        return {"value": identity_token(self.repository, query.get("environment"), audience, ref, sha)}


class Server(ThreadingHTTPServer):
    """On the loopback interface."""

    daemon_threads = True

    def __init__(self, port: int, github: FakeGitHub) -> None:
        self.github = github
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server

    def _any(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(content) if content else None
        authorization = self.headers.get("Authorization", "")
        status, said, headers = self.server.github.answer(self.command, self.path, authorization, body)
        answer = b"" if said is None else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
