"""Run a project's unchanged workflows locally with act, which takes the place of GitHub's runners.

tests/actions has a fake for each public action that the workflows use. The project's own composite action, git, uv and
the commands are real. The remote is a bare repository with a fake of GitHub's API, and AWS is a fake as well.
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
from fakes.github import CONTROL_TOKEN, FakeGitHub
from warm_python import socket_path

from sagegate.files import Json

ACT = Path(sysconfig.get_path("scripts")) / "act"
ACTIONS = Path(__file__).resolve().parents[1] / "actions"
BEGIN_JOB = '"$FAKE_PYTHON" "$FAKE_ACTIONS/job.py"'
REAL = ("checkout", "configure-aws-credentials")  # the actions that need nothing of GitHub but its API and git
REPOSITORY = "acme/my-model"
AUTHOR = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
}


@dataclass
class Run:
    """The outcome of one workflow run: results of jobs and steps, summaries by job, all output, duration."""

    workflow: str
    exit_code: int = 0
    jobs: dict[str, str] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=lambda: defaultdict(str))
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0

    @property
    def summary(self) -> str:
        """The summaries of all jobs, as the run's page shows them."""
        return "\n".join(self.summaries.values())

    @property
    def succeeded(self) -> set[str]:
        """The jobs that succeeded."""
        return {job for job, result in self.jobs.items() if result == "success"}

    def failed_steps(self) -> list[tuple[str, str]]:
        """Return (job, step) of each failed step."""
        return [(job, step) for job, step, result in self.steps if result == "failure"]


def workflow_files(project: Path) -> dict[str, Json]:
    """Return the project's workflows by file name."""
    files = sorted((project / ".github" / "workflows").glob("*.yml"))
    parsed: dict[str, dict[Any, Any]] = {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}
    # YAML 1.1 reads the key `on` as true.
    return {name: {"on" if key is True else key: value for key, value in w.items()} for name, w in parsed.items()}


def jobs_of(workflow: Json) -> dict[str, Json]:
    """Return each job's environment (or None) and permissions."""
    return {
        name: {"environment": job.get("environment"), "permissions": job.get("permissions", workflow["permissions"])}
        for name, job in workflow["jobs"].items()
    }


def matches(path: str, patterns: list[str]) -> bool:
    """Return True if a path filter matches a path; `**` crosses folders, as fnmatch's `*` does."""
    return any(fnmatch.fnmatchcase(path, pattern.replace("**", "*")) for pattern in patterns)


class Repository:
    """A project in git with a bare remote, a fake of GitHub, and runners."""

    def __init__(
        self, project: Path, folder: Path, environment: Path | None, aws: dict[str, str] | None = None
    ) -> None:
        """`project` is copied to a working copy; `environment` is a folder with its packages."""
        self.folder = folder
        self.bare, self.work = folder / "remote.git", folder / "work"
        self.environment, self.aws = environment, aws or {}
        self.extra: dict[str, str] = {}  # more variables for the runners
        self.history: list[Run] = []
        self.home, self.artifacts = folder / "home", folder / "artifacts"
        self.home.mkdir(parents=True)
        self.artifacts.mkdir()
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(self.bare)], check=True)
        self.git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=self.bare)
        url = f"https://github.com/{REPOSITORY}"
        (self.home / ".gitconfig").write_text(
            f'[url "file://{self.bare}"]\n\tinsteadOf = {url}\n[init]\n\tdefaultBranch = main\n', encoding="utf-8"
        )
        shutil.copytree(project, self.work, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
        self.git("init", "-q", "--initial-branch=main")
        self.git("remote", "add", "origin", url)
        self.github = FakeGitHub(self.bare, REPOSITORY)
        self.github.tokens[CONTROL_TOKEN] = {}

    def close(self) -> None:
        """Stop the fake of GitHub."""
        self.github.close()

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Run git, by default in the working copy, and return its output."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | AUTHOR | {"HOME": str(self.home)}
        done = subprocess.run(["git", *args], cwd=cwd or self.work, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"git {args[0]}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, message: str, branch: str = "main") -> str:
        """Commit all changes of the working copy, push them, and return the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def pull(self) -> str:
        """Reset the working copy to the remote's `main`, and return the commit."""
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
        """Return the event of a push to main, from `before` (by default HEAD's first parent) to HEAD."""
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
        """Return the event of a pull request from `branch` of `head`'s fork, and check out its merge commit."""
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
        """Merge a pull request as a reviewer, reset the working copy to main, and return the push event."""
        before = self.git("rev-parse", "refs/heads/main", cwd=self.bare)
        self.github.pulls.merge(number)
        self.pull()
        return self.push(before)

    def triggered(self, changed: list[str]) -> list[str]:
        """Return the workflows that a push to main starts if it changes these files."""
        names = []
        for name, workflow in workflow_files(self.work).items():
            push = workflow["on"].get("push")
            if push and "main" in push["branches"]:
                patterns = push.get("paths")
                if patterns is None or any(matches(path, patterns) for path in changed):
                    names.append(name)
        return names

    def changed(self, before: str) -> list[str]:
        """Return the files that differ between a commit and HEAD."""
        return self.git("diff", "--name-only", before, "HEAD").splitlines()

    # --- running ---------------------------------------------------------------------------------------------------
    def run(self, workflow: str, event: tuple[str, Json], *options: str, actor: str = "ada", job: str = "") -> Run:
        """Run one workflow of the working copy for an event."""
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
        command += ["--platform=ubuntu-24.04=-self-hosted"]
        command += ["--var", "AWS_READY=true"] if self.aws else []
        command += [f"--local-repository={used}={folder}" for used, folder in actions(self.work, scratch).items()]
        command += [f"--env={key}={value}" for key, value in self.variables(scratch).items()]
        command += [f"--job={job}"] if job else []
        self.github.job.clear()
        started = time.monotonic()
        env = without_shell_settings({"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / ".cache")})
        leaking = [key for key in env if key.startswith(("GITHUB_", "FAKE_", "SAGEGATE_", "GIT_", "UV"))]
        env = {key: value for key, value in env.items() if key not in leaking} | {"UV_CACHE_DIR": uv_cache()}
        done = subprocess.run(
            [*command, *options], cwd=self.work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        run = read(workflow, done.stdout.splitlines(keepends=True))
        run.exit_code, run.seconds = done.returncode, time.monotonic() - started
        self.history.append(run)
        print(f"{workflow} on {name}: {run.seconds:.1f} s: {run.jobs}")
        return run

    def variables(self, scratch: Path) -> dict[str, str]:
        """Return the variables of the runner and the fake actions; no AWS credentials are among them."""
        github = self.github.job_environment()
        link = scratch / "environment"  # copies of the environment have this name (actions/setup_uv.py)
        link.unlink(missing_ok=True)
        link.symlink_to(socket_path(os.environ["WARM_PYTHON"], str(self.environment)))
        from_github = ("GITHUB_API_URL", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        from_aws = ("AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED")
        servers = {key: github[key] for key in from_github} | {k: v for k, v in self.aws.items() if k in from_aws}
        own = {
            "SAGEGATE_POLL_SECONDS": "0.1",
            "FAKE_ACTIONS": str(ACTIONS),
            "FAKE_ARTIFACTS": str(self.artifacts),
            "FAKE_ENVIRONMENT": str(self.environment),
            "FAKE_JOBS": str(scratch / "jobs.json"),
            "FAKE_PYTHON": sys.executable,
            "FAKE_TOKEN": CONTROL_TOKEN,
            "FAKE_UV": str(Path(find_uv()).resolve()),
            "MYPY_CACHE_DIR": os.environ["MYPY_CACHE_DIR"],
            "WARM_PYTHON": str(scratch),
        }
        return servers | own | self.extra


def uv_cache() -> str:
    """Return the folder of uv's package cache."""
    return subprocess.run([find_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()


def uses(project: Path) -> list[str]:
    """Return the public actions that the workflows and the project's own action use, as `owner/name@commit`."""
    texts = [file.read_text(encoding="utf-8") for file in (project / ".github").rglob("*.yml")]
    return sorted({used for text in texts for used in re.findall(r"uses: ([\w./-]+@[0-9a-f]{40})", text)})


def actions(project: Path, scratch: Path) -> dict[str, Path]:
    """Return the folder that stands for each public action: a fake, or a checkout of the real one in REAL_ACTIONS."""
    folders = {}
    for used in uses(project):
        name, commit = used.partition("@")[0].rpartition("/")[2], used.partition("@")[2]
        folders[used] = ACTIONS / name
        if "REAL_ACTIONS" in os.environ and name in REAL:
            real = Path(os.environ["REAL_ACTIONS"]) / name
            command = ["git", "-C", str(real), "rev-parse", "HEAD"]
            found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
            assert found == commit, f"{real} is not a checkout of {used}"
            folders[used] = scratch / "actions" / name
            folders[f"real/{name}@main"] = real
            write_wrapper(folders[used], name, yaml.safe_load((real / "action.yml").read_text(encoding="utf-8")))
    return folders


def write_wrapper(folder: Path, name: str, action: Json) -> None:
    """Write an action that calls the real one with its inputs; that of checkout first tells the fake which job runs."""
    given = {each: f"${{{{ inputs.{each} }}}}" for each in action["inputs"]}
    outputs = {each: {"value": f"${{{{ steps.real.outputs.{each} }}}}"} for each in action.get("outputs") or {}}
    begin = {"shell": "bash", "run": BEGIN_JOB, "env": {"JOB_TOKEN": "${{ github.token }}"}}
    steps = [begin] if name == "checkout" else []
    steps.append({"id": "real", "uses": f"real/{name}@main", "with": given})
    wrapper = {key: action[key] for key in ("name", "description", "inputs")} | {"outputs": outputs}
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(wrapper | {"runs": {"using": "composite", "steps": steps}})
    (folder / "action.yml").write_text(text, encoding="utf-8")


def read(workflow: str, lines: list[str]) -> Run:
    """Return the run that act's lines (JSON, one event each) describe."""
    run = Run(workflow)
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            run.output += line
            continue
        run.output += event.get("msg", "").rstrip("\n") + "\n"
        job = event.get("jobID", "")
        if "jobResult" in event:
            run.jobs[job] = event["jobResult"]
        if event.get("command") == "summary":
            run.summaries[job] += event["content"]
        if "stepResult" in event and event.get("stage") == "Main":
            run.steps.append((job, event["step"], event["stepResult"]))
    return run
