"""A generated project with a bare remote, its local registry, and a fake GitHub."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import RunIn
from fakes.github import FakeGitHub

SETTINGS = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
SOURCE = Path(__file__).parents[3] / "src"


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *SETTINGS, *args], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass
class Lab:
    """A project, its remote and GitHub."""

    project: Path
    bare: Path
    github: FakeGitHub
    run_in: RunIn

    def sagegate(self, *args: str, check: bool = True, **env: str) -> Any:
        """The CLI, with GitHub's variables."""
        return self.run_in(self.project, "sagegate", *args, check=check, env=self.environment() | env)

    def environment(self) -> dict[str, str]:
        """A job's variables; who runs the tests has no say in git's configuration."""
        quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GITHUB_ACTOR": "ada"}
        return self.github.job_environment() | quiet

    def promote(self, environment: str = "staging", *args: str, check: bool = True, **env: str) -> Any:
        """`sagegate promote ENV --pull-request` from the local registry."""
        command = ("promote", environment, "--from", "local", "--pull-request", *args)
        return self.sagegate(*command, check=check, **env)

    def pin(self, revision: str, environment: str = "staging") -> Any:
        """deployments/ENV.json of a branch of the remote."""
        return json.loads(git(self.bare, "show", f"{revision}:deployments/{environment}.json"))

    def version(self, revision: str = "promote/staging", environment: str = "staging") -> int:
        """The version that it pins."""
        found: int = self.pin(revision, environment)["model"]["version"]
        return found

    def open(self) -> list[Any]:
        """The open pull requests."""
        return self.github.pulls.all("open")

    def merge(self, method: str = "merge") -> None:
        """Merge the one open pull request, as a reviewer would."""
        (pull,) = self.open()
        self.github.pulls.merge(pull["number"], method)

    def record(self, result: str = "healthy", reason: str = "smoke test passed") -> None:
        """A deployment record of what staging pins on main, as `sagegate deploy` writes it."""
        script = (
            "import sys; from pathlib import Path\n"
            "from sagegate.registry.deployments import Record, parse_manifest, utc_now, write_record\n"
            "from sagegate.session import open_session\n"
            "root = Path('.').resolve()\n"
            "session = open_session(root, 'local')\n"
            "model = parse_manifest(sys.stdin.read(), 'staging.json').model\n"
            "write_record(session, Record(environment='staging', version=model.version, at=utc_now(),\n"
            "    model_package_arn=model.arn, artifact_sha256=model.artifact.sha256, commit='c', deployed_by='ada',\n"
            f"    result={result!r}, reason={reason!r}))\n"
        )
        text = git(self.bare, "show", "main:deployments/staging.json") + "\n"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.project,
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
            input=text,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
