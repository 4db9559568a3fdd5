"""A project and one of its environments, for tests that run commands there."""

import re
import subprocess
from pathlib import Path

from conftest import RunIn

ACCOUNT = "123456789012"


class Place:
    """A project and one of its environments."""

    def __init__(self, project: Path, name: str, run_in: RunIn, env: dict[str, str]) -> None:
        self.project, self.name, self._run_in = project, name, run_in
        self.env = env | {"SAGEGATE_POLL_SECONDS": "0.1"}

    def run(self, *args: str, code: int = 0) -> str:
        """Return the output of `sagegate ARGS --env NAME`; its exit code must be `code`."""
        done = self._run_in(self.project, "sagegate", *args, "--env", self.name, check=False, env=self.env)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def python(self, module: str) -> subprocess.CompletedProcess[str]:
        """Run a module of the project with the environment's variables."""
        return self._run_in(self.project, module, check=False, env=self.env)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the project."""
        path = self.project / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


def use_account(project: Path, account_id: str = ACCOUNT) -> None:
    """Put one account into the settings of dev, staging and prod."""
    for name in ("dev", "staging", "prod"):
        file = project / "environments" / f"{name}.toml"
        text = re.sub('account_id = ".*"', f'account_id = "{account_id}"', file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")


def execution(output: str) -> str:
    """Return the name of the execution in the output of a run."""
    found = re.search(r"execution ([a-z0-9]{12})", output)
    assert found, output
    return found[1]
