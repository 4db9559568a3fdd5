"""Stands in for astral-sh/setup-uv: uv on the path, and an environment that has what the project needs already.

The environment is a copy by hard links, for this job alone: `uv sync` brings it to what uv.lock says, which is little.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from job import add_path, fail, inputs, write


def main() -> None:
    """Put uv on the path."""
    uv = Path(os.environ["STAND_IN_UV"])
    version = subprocess.run([str(uv), "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if inputs()["version"] not in ("", version):
        fail(f"the workflow pins uv {inputs()['version']}, and this machine has {version}")
    target = Path(os.environ["RUNNER_TEMP"]) / "environment"
    subprocess.run(["cp", "-al", os.environ["STAND_IN_ENVIRONMENT"], str(target)], check=True)
    if "STAND_IN_OSV" in os.environ:
        uv = wrapper(Path(os.environ["RUNNER_TEMP"]) / "uv", uv, os.environ["STAND_IN_OSV"])
    write("GITHUB_ENV", UV_PROJECT_ENVIRONMENT=str(target), UV_PYTHON=sys.executable)
    add_path(uv.parent)


def wrapper(folder: Path, uv: Path, osv: str) -> Path:
    """A uv that asks the fake for OSV about vulnerabilities, where the real one asks osv.dev."""
    folder.mkdir()
    script = folder / "uv"
    command = f'if [ "$1" = audit ]; then shift; exec {uv} audit --service-url {osv} "$@"; fi; exec {uv} "$@"'
    script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    script.chmod(0o755)
    (folder / "uvx").symlink_to(uv.parent / "uvx")
    return script


if __name__ == "__main__":
    main()
