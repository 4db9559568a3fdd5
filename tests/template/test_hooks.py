"""The pre-commit hooks of a generated project that check its other files: templates, workflows and secrets."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import without_shell_settings

KEY = "AKIA" + "QYLPMN5H" + "WLZ3RTD7"  # in parts, so that this file does not look like it has a secret
PLANTED = {
    "cfn-lint": ("infra/endpoint.yaml", "CAPACITY_PERCENT", "CAPACITY_SHARE"),
    "zizmor": (".github/workflows/train.yml", "@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7"),
    "detect-secrets": ("environments/dev.toml", "[processing]", f"# {KEY}\n[processing]"),
}


def hook(environment: Path, project: Path, name: str, file: str) -> subprocess.CompletedProcess[str]:
    """Run a hook's command with the tools of the shared environment instead of `uv run`."""
    config = yaml.safe_load((project / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (found,) = [entry for entry in config["repos"][0]["hooks"] if entry["id"] == name]
    command = shlex.split(found["entry"].removeprefix("uv run "))
    command[0] = str(environment.with_name(command[0]))
    files = [file] if found.get("pass_filenames", True) else []
    env = without_shell_settings()
    return subprocess.run([*command, *files], cwd=project, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("name", PLANTED)
def test_a_hook_passes_and_finds_a_planted_error(own_project: Path, project_env: Path, name: str) -> None:
    file, old, new = PLANTED[name]
    done = hook(project_env, own_project, name, file)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (own_project / file).read_text(encoding="utf-8")
    assert old in text
    (own_project / file).write_text(text.replace(old, new), encoding="utf-8")
    done = hook(project_env, own_project, name, file)
    assert done.returncode != 0 and Path(file).name in done.stdout + done.stderr


def test_hooks_are_local(own_project: Path) -> None:
    """Networks without access to GitHub cannot clone hooks."""
    config = yaml.safe_load((own_project / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
