"""A fake in a process of its own, with the methods of one in this process.

The process needs moto and what the jobs' scripts import; this one needs neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

READY = "# fake for AWS: ready"
TESTS = Path(__file__).resolve().parent.parent
MACHINERY = TESTS.parent / "src"
DEFAULT_ACCOUNT, DEFAULT_REGION = "123456789012", "us-east-1"


class Remote:
    """A fake that `python` runs. `.url` is where it listens."""

    def __init__(self, python: Path, machinery: Path = MACHINERY) -> None:
        """Start it and wait until it serves; raises RuntimeError with its output if it ends instead."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTEST_", "MOTO_"))}
        path = os.pathsep.join([str(machinery), str(TESTS)])
        self._process = subprocess.Popen(
            [str(python), "-m", "fakes"],
            env=kept | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self._environment: dict[str, str] = {}
        for line in self._process.stdout:
            if line.startswith(READY):
                break
            name, _, value = line.removeprefix("export ").rstrip("\n").partition("=")
            self._environment[name] = value
        else:
            raise RuntimeError(f"the fake did not start: exit code {self._process.wait()}, see its errors above")
        self.url = self._environment["AWS_ENDPOINT_URL"]

    def environment(self, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> dict[str, str]:
        """The variables to export to talk to it as an account."""
        own = {"AWS_ACCESS_KEY_ID": f"STANDIN0{account_id}", "AWS_DEFAULT_REGION": region}
        return self._environment | own

    def add_fault(self, step: str, reason: str, **more: Any) -> None:
        """Let the next attempt of a step fail; the fields are those of faults.Fault."""
        self._post("faults", {"step": step, "reason": reason, **more})

    def prepare(self, project: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> str:
        """Make the bucket and the roles that a project needs; the bucket's name."""
        return str(self._post("prepare", {"project": project, "account_id": account_id, "region": region}))

    def forget(self, pipeline: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> None:
        """Delete a pipeline although it runs."""
        self._post("forget", {"pipeline": pipeline, "account_id": account_id, "region": region})

    def set_check_roles(self, check: bool) -> None:
        """Whether jobs need roles that exist and trust SageMaker."""
        self._post("settings", {"check_roles": check})

    def set_enforce(self, enforce: bool) -> None:
        """Whether sessions of roles may do only what the roles' policies allow."""
        self._post("settings", {"enforce": enforce})

    def reset(self) -> None:
        """End what runs and forget everything."""
        self._post("reset", {})

    def close(self) -> None:
        """End it and the jobs that run."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        if self._process.stdout:
            self._process.stdout.close()

    def _post(self, what: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/fake/{what}", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None
