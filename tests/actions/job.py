"""Helpers of the fake actions: their inputs, their job, the runner's files and requests to the fake of GitHub."""

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
    """Return the action's inputs."""
    given: dict[str, str] = json.loads(os.environ["INPUTS"])
    return given


def job() -> Json:
    """Return what the workflow declares for this job: `environment` (or None) and `permissions`."""
    workflows = json.loads(Path(os.environ["FAKE_JOBS"]).read_text(encoding="utf-8"))
    declared: Json = workflows[os.environ["GITHUB_WORKFLOW"]][os.environ["GITHUB_JOB"]]
    return declared


def may(permission: str, level: str) -> bool:
    """Return True if the job has `level` (read or write) of a permission."""
    return job()["permissions"].get(permission) in ("write", level)


def begin_job(token: str) -> None:
    """Tell the fake of GitHub which job runs, and what its token may do. Checkout is every job's first step."""
    if not may("contents", "read"):
        fail("Not Found: the job has no permission contents: read")
    api, control = os.environ["GITHUB_API_URL"], os.environ["FAKE_TOKEN"]
    # Each workflow here has the name of its file.
    declared = {"environment": job()["environment"], "id-token": job()["permissions"].get("id-token", "none")}
    known = {"ref": os.environ["GITHUB_REF"], "workflow": os.environ["GITHUB_WORKFLOW"]}
    request("POST", f"{api}/fake/job", control, declared | known)
    request("POST", f"{api}/fake/token", control, {"token": token, "permissions": job()["permissions"]})


def write(variable: str, **values: str) -> None:
    """Append values to the file that a variable names, such as GITHUB_ENV or GITHUB_OUTPUT."""
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


def add_path(folder: Path) -> None:
    """Put a folder first on the PATH of the job's next steps."""
    with Path(os.environ["GITHUB_PATH"]).open("a", encoding="utf-8") as file:
        file.write(f"{folder}\n")


def request(method: str, url: str, token: str, body: Json | None = None) -> Any:
    """Send a request to the fake of GitHub and return the response; an error status fails the step."""
    outgoing = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {token}"})
    if body is not None:
        outgoing.data = json.dumps(body).encode()
        outgoing.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(outgoing, timeout=30) as response:
            content = response.read()
    except urllib.error.HTTPError as error:
        fail(f"{method} {url}: {error.code} {error.read().decode()}")
    return json.loads(content) if content else None


def fail(reason: str) -> NoReturn:
    """Fail the step with a reason."""
    print(f"::error::{reason}")
    sys.exit(1)


if __name__ == "__main__":
    begin_job(os.environ["JOB_TOKEN"])
