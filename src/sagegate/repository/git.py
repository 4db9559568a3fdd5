"""The project's git repository and its remote, without touching the working tree, the index or the current branch.

A commit is made from objects (hash-object, a scratch index, commit-tree) and pushed by its hash: nothing is checked
out, no hook runs, and a command that is killed leaves at most a few loose objects behind.
Where a deployment comes from: who, which commit, which pull request, which job. GitHub's variables say, or git.

Source: "Default environment variables" in the GitHub Actions documentation.
"""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sagegate.errors import USAGE, SagegateError
from sagegate.pipeline.parameters import code_commit, started_by

REMOTE = "origin"
# No ref of the clone is written: an empty --refmap keeps the remote-tracking branches as they are, for whose locks
# promotions at once would race.
FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=")
BOT = {"NAME": "github-actions[bot]", "EMAIL": "41898282+github-actions[bot]@users.noreply.github.com"}


class Moved(Exception):
    """The remote changed between a look and a push: look again."""


@dataclass(frozen=True)
class Repository:
    """The repository around a project's folder."""

    root: Path

    def run(self, *args: str, text: str | None = None, env: dict[str, str] | None = None) -> str:
        """Run git; its output. Raises SagegateError with git's last line."""
        done = self._git(*args, text=text, env=env)
        if done.returncode:
            raise SagegateError(f"git {args[0]}: {_last_line(done.stderr)}")
        return done.stdout

    def check(self) -> None:
        """Raises SagegateError where there is no repository, or none with a remote."""
        if self._git("rev-parse", "--git-dir").returncode:
            raise SagegateError(f"{self.root.name} is not a git repository: a pull request needs one", USAGE)
        if self._git("remote", "get-url", REMOTE).returncode:
            raise SagegateError(f"this git repository has no remote {REMOTE!r}: `git remote add {REMOTE} ...`", USAGE)

    def remote_heads(self, branch: str) -> tuple[str, str, str | None]:
        """The remote's default branch, its commit, and the commit of `branch` (None if it has none). All fetched.

        Raises Moved if the remote changed meanwhile.
        """
        listed = self._remote("ls-remote", "--symref", REMOTE, "HEAD", f"refs/heads/{branch}").splitlines()
        heads = {name: commit for commit, name in (line.split("\t") for line in listed if not line.startswith("ref:"))}
        bases = [line.split()[1].removeprefix("refs/heads/") for line in listed if line.startswith("ref:")]
        if not bases or "HEAD" not in heads:
            raise SagegateError(f"remote {REMOTE!r} has no default branch yet: push one first")
        wanted = {"HEAD": heads["HEAD"], f"refs/heads/{branch}": heads.get(f"refs/heads/{branch}")}
        refs = [name for name, commit in wanted.items() if commit]
        done = self._git(*FETCH, REMOTE, *refs, env=self._credentials())
        if done.returncode and "couldn't find remote ref" in done.stderr:
            raise Moved
        if done.returncode:
            raise SagegateError(f"git fetch: {_last_line(done.stderr)}")
        for commit in filter(None, wanted.values()):
            if self._git("cat-file", "-e", commit + "^{commit}").returncode:
                raise Moved
        return bases[0], heads["HEAD"], heads.get(f"refs/heads/{branch}")

    def read(self, commit: str, path: str) -> str | None:
        """A file of a commit (path below the project's folder), or None if it has no such file."""
        done = self._git("cat-file", "blob", f"{commit}:{self._prefix()}{path}")
        return None if done.returncode else done.stdout

    def history(self, commit: str, path: str) -> list[str]:
        """The commits up to `commit` that changed a file, the oldest first. A shallow clone gets its history."""
        if self.run("rev-parse", "--is-shallow-repository").strip() == "true":
            self._remote(*FETCH, "--unshallow", REMOTE, "HEAD")
        listed = self.run("log", "--first-parent", "--reverse", "--format=%H", commit, "--", path)
        return listed.split()

    def commit_file(self, parent: str, path: str, content: str, message: str) -> str:
        """A new commit on top of `parent` in which one file has this content; its hash."""
        blob = self.run("hash-object", "-w", "--stdin", text=content).strip()
        with tempfile.TemporaryDirectory() as scratch:
            env = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            self.run("read-tree", parent, env=env)
            self.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{self._prefix()}{path}", env=env)
            tree = self.run("write-tree", env=env).strip()
        return self.run("commit-tree", tree, "-p", parent, "-F", "-", text=message, env=self._identity()).strip()

    def push(self, commit: str, branch: str, expected: str | None) -> None:
        """Make the remote's `branch` that commit, if it still is at `expected`; raises Moved if it is not."""
        ref = f"refs/heads/{branch}"
        lease = f"--force-with-lease={ref}:{expected or ''}"
        done = self._git("push", "--porcelain", lease, REMOTE, f"{commit}:{ref}", env=self._credentials())
        if done.returncode == 0:
            return
        said = f"{done.stdout}\n{done.stderr}"
        if any(words in said for words in ("stale info", "fetch first", "cannot lock ref", "already exists")):
            raise Moved
        refused = next((line.split("\t")[-1] for line in done.stdout.splitlines() if line.startswith("!")), "")
        reason = refused or _last_line(done.stderr)
        raise SagegateError(
            f"git push to {branch} was refused ({reason}): the job needs `permissions: contents: write`"
        )

    def _remote(self, *args: str) -> str:
        return self.run(*args, env=self._credentials())

    def _prefix(self) -> str:
        return self.run("rev-parse", "--show-prefix").strip()

    def _credentials(self) -> dict[str, str]:
        """GITHUB_TOKEN as a header, sent to GitHub's own host and over https only; else git's usual credentials.

        The first, empty value clears what actions/checkout may have left: GitHub refuses two such headers.
        """
        token = os.environ.get("GITHUB_TOKEN")
        url = urlsplit(self.run("remote", "get-url", REMOTE).strip())
        server = urlsplit(os.environ.get("GITHUB_SERVER_URL") or "https://github.com")
        quiet = {"GIT_TERMINAL_PROMPT": "0"}
        if not token or url.scheme != "https" or url.hostname != server.hostname:
            return quiet
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        key = f"http.https://{url.netloc.rpartition('@')[2]}/.extraheader"
        values = ("", f"AUTHORIZATION: basic {basic}")
        settings = {f"GIT_CONFIG_KEY_{n}": key for n in range(len(values))}
        settings |= {f"GIT_CONFIG_VALUE_{n}": value for n, value in enumerate(values)}
        return quiet | settings | {"GIT_CONFIG_COUNT": str(len(values))}

    def _identity(self) -> dict[str, str]:
        """Who commits: whom git is configured for, else GitHub's bot."""
        if self._git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT").returncode == 0:
            return {}
        return {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in BOT.items()}

    def _git(
        self, *args: str, text: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LC_ALL": "C", **(env or {})}
        try:
            return subprocess.run(
                ["git", *args],
                cwd=self.root,
                env=environment,
                input=text if text is not None else "",
                capture_output=True,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError:
            raise SagegateError("git is not installed: a pull request needs it", USAGE) from None


def _last_line(said: str) -> str:
    return next((line for line in reversed(said.splitlines()) if line.strip()), "no message").strip()


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
    from sagegate.repository.github import GitHubError, open_github

    try:
        found = open_github(repository).pulls_of_commit(commit)
    except GitHubError:
        return ""  # a deployment does not fail because its pull request cannot be named
    return str(found[0]["html_url"]) if found else ""
