"""What the actions' fakes share: inputs, the job they run in, the files that a runner reads, the test's server."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

Json = dict[str, Any]


def inputs() -> dict[str, str]:
    """The action's inputs."""
    found: dict[str, str] = json.loads(os.environ["INPUTS"])
    return found


def job() -> Json:
    """This job as the workflow's file has it: `environment` (or None) and `permissions`."""
    workflows = json.loads(Path(os.environ["STAND_IN_JOBS"]).read_text(encoding="utf-8"))
    found: Json = workflows[os.environ["GITHUB_WORKFLOW"]][os.environ["GITHUB_JOB"]]
    return found


def may(permission: str, level: str) -> bool:
    """Whether the job's permissions include `level` (read or write) of one."""
    return job()["permissions"].get(permission) in ("write", level)


def write(variable: str, **values: str) -> None:
    """Append to GITHUB_ENV, GITHUB_OUTPUT or such."""
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


def add_path(folder: Path) -> None:
    """Put a folder in front of the path of the job's next steps."""
    with Path(os.environ["GITHUB_PATH"]).open("a", encoding="utf-8") as file:
        file.write(f"{folder}\n")


def request(method: str, url: str, token: str, body: Json | None = None) -> Any:
    """Ask the fake GitHub; ends the action where it refuses."""
    asked = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {token}"})
    if body is not None:
        asked.data = json.dumps(body).encode()
        asked.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        fail(f"{method} {url}: {error.code} {error.read().decode()}")
    return json.loads(content) if content else None


def fail(reason: str) -> NoReturn:
    """End the action, as a failed step."""
    print(f"::error::{reason}")
    sys.exit(1)
