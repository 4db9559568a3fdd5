"""Run a project's workflows on this machine, as they are: act in place of GitHub's runners.

Each action that a workflow uses is stood in for by one of tests/actions; git, uv, the machinery and all else
is real. The repository is a bare one, GitHub's API a fake over it, AWS (where a test has it) the fake AWS.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from conftest import find_uv, without_shell_settings
from fakes.github import GitHubStandIn
from fakes.github_jobs import CONTROL_TOKEN

Json = dict[str, Any]
ACT = Path(sysconfig.get_path("scripts")) / "act"
ACTIONS = Path(__file__).resolve().parents[1] / "actions"
RUNNERS = ("ubuntu-24.04", "macos-15", "windows-2025")
REPOSITORY = "acme/my-model"
WHO = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
}


@dataclass
class Run:
    """A workflow that has run: each job's result and summary, the steps' results, all output, how long it took."""

    workflow: str
    exit_code: int = 0
    jobs: dict[str, str] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=lambda: defaultdict(str))
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0

    @property
    def summary(self) -> str:
        """What a person sees on the run's page."""
        return "\n".join(self.summaries.values())

    @property
    def succeeded(self) -> set[str]:
        """The jobs that did."""
        return {job for job, result in self.jobs.items() if result == "success"}

    def failed_steps(self) -> list[tuple[str, str]]:
        """(job, step) of each step that failed."""
        return [(job, step) for job, step, result in self.steps if result == "failure"]


def workflow_files(project: Path) -> dict[str, Json]:
    """The workflows by file name."""
    files = sorted((project / ".github" / "workflows").glob("*.yml"))
    found: dict[str, dict[Any, Any]] = {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}
    # YAML 1.1 reads the key `on` as true.
    return {name: {"on" if key is True else key: value for key, value in w.items()} for name, w in found.items()}


def jobs_of(workflow: Json) -> dict[str, Json]:
    """Each job's environment and permissions."""
    found = {}
    for name, job in workflow["jobs"].items():
        environment = job.get("environment")
        if isinstance(environment, dict):
            environment = environment["name"]
        found[name] = {"environment": environment, "permissions": job.get("permissions", workflow["permissions"])}
    return found


def matches(path: str, patterns: list[str]) -> bool:
    """Whether a path filter names a path; `**` crosses folders, as fnmatch's `*` does."""
    return any(fnmatch.fnmatchcase(path, pattern.replace("**", "*")) for pattern in patterns)


class Repository:
    """A project in git with a bare remote, a fake GitHub, and runners."""

    def __init__(
        self, project: Path, folder: Path, environment: Path | None, aws: dict[str, str] | None = None
    ) -> None:
        """`project` becomes the first commit of `main`; `environment` is a folder with its packages."""
        self.folder = folder
        self.bare, self.work = folder / "remote.git", folder / "work"
        self.environment, self.aws = environment, aws or {}
        self.extra: dict[str, str] = {}  # more variables for runners
        self.path: list[Path] = []  # folders in front of runners' path
        self.history: list[Run] = []
        self.home, self.artifacts = folder / "home", folder / "artifacts"
        for made in (self.home, self.artifacts):
            made.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(self.bare)], check=True)
        self.git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=self.bare)
        url = f"https://github.com/{REPOSITORY}"
        (self.home / ".gitconfig").write_text(
            f'[url "file://{self.bare}"]\n\tinsteadOf = {url}\n[init]\n\tdefaultBranch = main\n', encoding="utf-8"
        )
        shutil.copytree(project, self.work, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
        self.git("init", "-q", "--initial-branch=main")
        self.git("remote", "add", "origin", url)
        self.github = GitHubStandIn(self.bare, REPOSITORY)
        self.github.tokens[CONTROL_TOKEN] = {}

    def close(self) -> None:
        """End the fake GitHub."""
        self.github.close()

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Run git in the working copy; its output."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | WHO | {"HOME": str(self.home)}
        done = subprocess.run(["git", *args], cwd=cwd or self.work, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"git {args[0]}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, message: str, branch: str = "main") -> str:
        """Commit all changes of the working copy and push them; the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def pull(self) -> str:
        """Bring the working copy to the remote's `main`; the commit."""
        self.git("fetch", "-q", "origin")
        self.git("checkout", "-q", "-B", "main", "origin/main")
        return self.git("rev-parse", "HEAD")

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the working copy."""
        path = self.work / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    # --- events ----------------------------------------------------------------------------------------------------
    def push(self, before: str | None = None) -> tuple[str, Json]:
        """The event of a push to main: what the working copy's HEAD is, after `before` (its first parent)."""
        after = self.git("rev-parse", "HEAD")
        before = before or self.git("rev-parse", "HEAD^")
        message = self.git("log", "-1", "--format=%B")
        return "push", {
            "ref": "refs/heads/main",
            "before": before,
            "after": after,
            "head_commit": {"id": after, "message": message, "author": {"name": "Ada"}},
        }

    def pull_request(self, branch: str, title: str, head: str = "acme", number: int = 7) -> tuple[str, Json]:
        """The event of a pull request from `branch` of `head`'s repository; the working copy is its merge commit."""
        self.git("checkout", "-q", "--detach", "origin/main")
        self.git("merge", "-q", "--no-ff", "-m", f"Merge {branch} into main", "refs/heads/change")
        self.git("push", "-q", "-f", "origin", f"HEAD:refs/pull/{number}/merge")
        return "pull_request", {
            "action": "opened",
            "number": number,
            "pull_request": {
                "number": number,
                "title": title,
                "body": title,
                "head": {"ref": branch, "sha": "0" * 40, "repo": {"full_name": f"{head}/my-model", "fork": True}},
                "base": {"ref": "main", "sha": self.git("rev-parse", "HEAD^1")},
            },
        }

    def merge(self, number: int) -> tuple[str, Json]:
        """A reviewer merges a pull request: the push event of that. The working copy is what main is then."""
        before = self.git("rev-parse", "refs/heads/main", cwd=self.bare)
        self.github.pulls.merge(number)
        self.pull()
        return self.push(before)

    def triggered(self, changed: list[str]) -> list[str]:
        """The workflows that a push to main which changes these files starts."""
        found = []
        for name, workflow in workflow_files(self.work).items():
            push = workflow["on"].get("push")
            if push and "main" in push["branches"]:
                patterns = push.get("paths")
                if patterns is None or any(matches(path, patterns) for path in changed):
                    found.append(name)
        return found

    def changed(self, before: str) -> list[str]:
        """The files that differ between a commit and HEAD."""
        return self.git("diff", "--name-only", before, "HEAD").splitlines()

    # --- running ---------------------------------------------------------------------------------------------------
    def run(self, workflow: str, event: tuple[str, Json], *options: str, actor: str = "ada", job: str = "") -> Run:
        """Run one workflow of the working copy's commit, for an event."""
        name, payload = event
        payload = payload | {
            "repository": {
                "full_name": REPOSITORY,
                "default_branch": "main",
                "html_url": f"https://github.com/{REPOSITORY}",
            },
            "sender": {"login": actor},
        }
        scratch = self.folder / "act"
        scratch.mkdir(exist_ok=True)
        (scratch / "event.json").write_text(json.dumps(payload), encoding="utf-8")
        workflows = workflow_files(self.work)
        known = {w["name"]: jobs_of(w) for w in workflows.values()}
        (scratch / "jobs.json").write_text(json.dumps(known), encoding="utf-8")
        command = [str(ACT), name, "--json", "--no-skip-checkout", "--no-cache-server", "--concurrent-jobs=1", "--rm"]
        command += ["--workflows", f".github/workflows/{workflow}", "--eventpath", str(scratch / "event.json")]
        command += ["--actor", actor, "--defaultbranch", "main", "--secret", f"GITHUB_TOKEN={self.github.token}"]
        command += [f"--platform={runner}=-self-hosted" for runner in RUNNERS]
        command += [
            f"--local-repository={used}={ACTIONS / used.split('@')[0].split('/')[1]}" for used in uses(self.work)
        ]
        command += [f"--env={key}={value}" for key, value in self.variables(scratch).items()]
        command += [f"--job={job}"] if job else []
        started = time.monotonic()
        env = without_shell_settings({"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / ".cache")})
        leaking = [key for key in env if key.startswith(("GITHUB_", "STAND_IN_", "SAGEGATE_", "GIT_", "UV"))]
        env = {key: value for key, value in env.items() if key not in leaking} | {"UV_CACHE_DIR": uv_cache()}
        env["PATH"] = os.pathsep.join([*map(str, self.path), env["PATH"]])
        with subprocess.Popen(
            [*command, *options], cwd=self.work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout
            run = read(workflow, list(process.stdout))
        run.exit_code, run.seconds = process.returncode, time.monotonic() - started
        self.history.append(run)
        print(f"{workflow} on {name}: {run.seconds:.1f} s: {run.jobs}")
        return run

    def variables(self, scratch: Path) -> dict[str, str]:
        """What the runner and the fakes need to know; AWS is reached without credentials."""
        github = self.github.job_environment()
        wanted = ("GITHUB_API_URL", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        aws = {key: self.aws[key] for key in ("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED") if key in self.aws}
        given = {key: github[key] for key in wanted} | aws
        own = {
            "SAGEGATE_POLL_SECONDS": "0.1",
            "STAND_IN_ACTIONS": str(ACTIONS),
            "STAND_IN_ARTIFACTS": str(self.artifacts),
            "STAND_IN_ENVIRONMENT": str(self.environment),
            "STAND_IN_JOBS": str(scratch / "jobs.json"),
            "STAND_IN_PYTHON": sys.executable,
            "STAND_IN_TOKEN": CONTROL_TOKEN,
            "STAND_IN_UV": str(Path(find_uv()).resolve()),
        }
        return given | own | self.extra


def uv_cache() -> str:
    """Where uv keeps packages on this machine."""
    return subprocess.run([find_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()


def uses(project: Path) -> list[str]:
    """The actions that the workflows use, `owner/name@commit`."""
    texts = [file.read_text(encoding="utf-8") for file in (project / ".github" / "workflows").glob("*.yml")]
    return sorted({used for text in texts for used in re.findall(r"uses: ([\w./-]+@[0-9a-f]{40})", text)})


def read(workflow: str, lines: list[str]) -> Run:
    """What act says, as a run."""
    run = Run(workflow)
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            run.output += line
            continue
        run.output += said.get("msg", "").rstrip("\n") + "\n"
        job = said.get("jobID", "")
        if "jobResult" in said:
            run.jobs[job] = said["jobResult"]
        if said.get("command") == "summary":
            run.summaries[job] += said["content"]
        if "stepResult" in said and said.get("stage") == "Main":
            run.steps.append((job, said["step"], said["stepResult"]))
    return run
