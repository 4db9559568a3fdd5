"""Fake of astral-sh/setup-uv: puts uv on the PATH, with an environment that already has most packages.

The environment is a copy by hard links, so `uv sync` has little to install. The repository's next jobs get it, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from job import add_path, fail, inputs, write


def main() -> None:
    """Put uv on the PATH and prepare the environment."""
    uv = Path(os.environ["FAKE_UV"])
    version = subprocess.run([str(uv), "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if inputs()["version"] not in ("", version):
        fail(f"the workflow pins uv {inputs()['version']}, but {uv} is {version}")
    # One for jobs with the group `dev` and one for those without, so that each job finds what it would install itself.
    kind = "without-dev" if "UV_NO_DEV" in os.environ else "with-dev"
    target = Path(os.environ["FAKE_JOBS"]).parent / kind / "environment"
    if not target.exists():
        make_copy(os.environ["FAKE_ENVIRONMENT"], target)
    if "FAKE_OSV" in os.environ:
        uv = wrapper(Path(os.environ["RUNNER_TEMP"]) / "uv", uv, os.environ["FAKE_OSV"])
    write("GITHUB_ENV", UV_PROJECT_ENVIRONMENT=str(target), UV_PYTHON=sys.executable)
    add_path(uv.parent)


def make_copy(source: str, target: Path) -> None:
    """Copy an environment."""
    target.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-al", source, str(target)], check=True)
    for script in (target / "bin").iterdir():  # commands such as pytest name their environment's Python
        if script.is_file() and not script.is_symlink() and (content := script.read_bytes()).startswith(b"#!"):
            script.unlink()  # a hard link: the original must not change
            script.write_bytes(content.replace(source.encode(), str(target).encode()))
            script.chmod(0o755)


def wrapper(folder: Path, uv: Path, osv: str) -> Path:
    """Return a uv whose audit queries the fake of OSV instead of osv.dev."""
    folder.mkdir()
    script = folder / "uv"
    command = f'if [ "$1" = audit ]; then shift; exec {uv} audit --service-url {osv} "$@"; fi; exec {uv} "$@"'
    script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    script.chmod(0o755)
    (folder / "uvx").symlink_to(uv.parent / "uvx")
    return script


if __name__ == "__main__":
    main()
