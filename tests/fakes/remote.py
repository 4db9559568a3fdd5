"""Start the fake AWS in a process of its own, and control it from tests.

That process needs moto and the libraries that the jobs' scripts import; the tests need neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY = "# fake AWS: ready"
TESTS = Path(__file__).resolve().parents[1]
DEFAULT_ACCOUNT, DEFAULT_REGION = "123456789012", "us-east-1"  # moto's own


def access_key(account_id: str) -> str:
    """Return the access key of an account's administrator (20 characters, as moto expects)."""
    return f"FAKEKEY0{account_id}"


class Remote:
    """A fake AWS that runs at `url`."""

    def __init__(self, python: Path) -> None:
        """Start it with this Python, and wait until it is ready; raises RuntimeError if it ends instead."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTEST_", "MOTO_"))}
        self._process = subprocess.Popen(
            [str(python), "-m", "fakes"],
            env=kept | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self._environment: dict[str, str] = {}
        for line in self._process.stdout:
            if line.startswith(READY):
                break
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").rstrip("\n").partition("=")
                self._environment[name] = value
        else:
            raise RuntimeError(f"the fake AWS did not start (exit code {self._process.wait()}); see its output above")
        self.url = self._environment["AWS_ENDPOINT_URL"]

    def environment(self, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> dict[str, str]:
        """Return the variables with which boto3 talks to the fake as an account's administrator."""
        return self._environment | {"AWS_ACCESS_KEY_ID": access_key(account_id), "AWS_DEFAULT_REGION": region}

    def add_fault(self, step: str, reason: str, **more: Any) -> None:
        """Make the next attempt of a step fail; `more` are fields of jobs.Fault."""
        self._post("add_fault", step=step, reason=reason, **more)

    def prepare(self, project: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> str:
        """Create the bucket and roles of a project's platform, and return the bucket's name."""
        return str(self._post("prepare", project=project, account_id=account_id, region=region))

    def forget(self, pipeline: str, account_id: str = DEFAULT_ACCOUNT, region: str = DEFAULT_REGION) -> None:
        """Stop a pipeline's executions and delete it."""
        self._post("forget", pipeline=pipeline, account_id=account_id, region=region)

    def reset(self) -> None:
        """Stop everything that runs, and delete everything."""
        self._post("reset")

    def close(self) -> None:
        """Stop the process and its jobs."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        if self._process.stdout:
            self._process.stdout.close()

    def _post(self, method: str, **arguments: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/fake/{method}", json.dumps(arguments).encode(), headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None


def client(service: str, environment: dict[str, str]) -> Any:
    """Return a boto3 client of a fake that does not retry, so that no error is hidden."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


def until(check: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until `check()` is true; raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.02)
