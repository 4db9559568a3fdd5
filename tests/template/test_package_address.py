"""A generated project finds the `sagegate` of its template: from a folder, a Git address, or a wheel of its own."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from clean_copy import ROOT, copy_template
from conftest import Bake, find_uv, without_shell_settings
from test_bad_answers import RIGHT, hook

ADDRESS = "https://github.com/my-org/template.git"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *command: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as the only commit of a new repository."""
    folder = copy_template(tmp_path_factory.mktemp("repository") / "template")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "--message", "template")
    return folder


@pytest.fixture
def environment(repository: Path) -> dict[str, str]:
    """Environment variables that make Git read ADDRESS from the repository's folder."""
    instead = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }
    return without_shell_settings(instead)


def generate(tool: str, address: str, folder: Path, environment: dict[str, str]) -> Path:
    """Generate a project with the command line of cookiecutter or cruft."""
    config = folder / "config.json"
    config.write_text(json.dumps({"cookiecutters_dir": f"{folder}/copies", "replay_dir": f"{folder}/replay"}))
    command = [sys.executable, "-m", tool, *(["create"] if tool == "cruft" else [])]
    options = ["--no-input", "--config-file", str(config), "--output-dir", str(folder)]
    subprocess.run([*command, address, *options], env=environment, check=True, capture_output=True)
    return folder / "my-model"


def dependency(project: Path) -> str:
    """Return the project's dependency on sagegate."""
    found = re.search(r'"(sagegate\b[^"]*)"', (project / "pyproject.toml").read_text(encoding="utf-8"))
    assert found
    return found[1]


@pytest.mark.parametrize(("tool", "address"), [("cookiecutter", "gh:my-org/template"), ("cruft", ADDRESS)])
def test_a_git_address_pins_the_commit_that_the_project_was_generated_from(
    tool: str, address: str, repository: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    project = generate(tool, address, tmp_path, environment)
    assert dependency(project) == f"sagegate @ git+{ADDRESS}@{git(repository, 'rev-parse', 'HEAD')}"


def test_a_relative_folder_becomes_an_absolute_address(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"replay_dir": f"{tmp_path}/replay"}))
    options = ["--no-input", "--config-file", str(tmp_path / "config.json"), "--output-dir", str(tmp_path / "out")]
    command = [sys.executable, "-m", "cookiecutter", ".", *options]
    subprocess.run(command, cwd=repository, env=os.environ | {"PWD": str(repository)}, check=True, capture_output=True)
    assert dependency(tmp_path / "out" / "my-model") == f"sagegate @ {repository.as_uri()}"


def test_uv_and_pip_install_from_a_git_address(environment: dict[str, str], tmp_path: Path) -> None:
    project = generate("cookiecutter", ADDRESS, tmp_path, environment)
    shown = run(project, environment, find_uv(), "run", "--quiet", "--no-default-groups", "sagegate", "--help")
    assert "promote" in shown
    python = make_environment(tmp_path / "venv")
    for requirement in (".", dependency(project)):
        run(project, environment, python, "-m", "pip", "install", "--quiet", "--no-deps", requirement)
    installed = run(project, environment, python, "-m", "pip", "list", "--format", "freeze")
    assert "my-model==0.1.0" in installed and "sagegate" in installed


def test_a_vendored_wheel_needs_nothing_but_the_repository(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    environment = without_shell_settings()
    uv = [find_uv(), "run", "--quiet", "--no-default-groups"]
    with (project / "pyproject.toml").open("a", encoding="utf-8") as settings:
        settings.write("\n[tool.uv.sources]\n# of the project's own\n")
    page = (ROOT / "docs" / "how-to" / "updates.md").read_text(encoding="utf-8")
    command = re.findall(r"(?s)```sh\n(.*?)```", page)[-1].split()
    assert command[:2] == ["uv", "run"]
    said = run(project, environment, *uv, *command[2:])
    (wheel,) = (project / "vendor").iterdir()
    assert wheel.name in said
    assert "sources]\nsagegate = {" in (project / "pyproject.toml").read_text(encoding="utf-8")
    version = dependency(project).removeprefix("sagegate==")
    assert re.fullmatch(r"\d+\.\d+\.\d+\+vendored\.[0-9a-f]{8}", version) and version in wheel.name
    assert run(project, environment, *uv, "sagegate", "--version").endswith(f" {version}\n")
    first = wheel.read_bytes()
    run(project, environment, *uv, "sagegate", "vendor")
    assert {file.read_bytes() for file in (project / "vendor").iterdir()} == {first}, "the same bytes each time"
    python = make_environment(tmp_path / "venv")
    options = ["--quiet", "--no-deps", "--no-index", "--find-links", "vendor"]
    run(project, environment, python, "-m", "pip", "install", *options, dependency(project))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("https://github.com/o/t.git", f"git+https://github.com/o/t.git@{COMMIT}"),
        ("https://user:secret@example.com/o/t.git", f"git+https://example.com/o/t.git@{COMMIT}"),
        ("git@github.com:o/t.git", f"git+ssh://git@github.com/o/t.git@{COMMIT}"),
        ("ssh://git@example.com:2222/o/t", f"git+ssh://git@example.com:2222/o/t@{COMMIT}"),
        ("file:///srv/my templates/t", f"git+file:///srv/my%20templates/t@{COMMIT}"),
        ("https://example.com/template-1.0.zip", "https://example.com/template-1.0.zip"),
    ],
)
def test_each_form_of_address(template: str, expected: str) -> None:
    after = hook("post_gen_project", RIGHT | {"__dataset": "wine", "_template": template, "_commit": COMMIT})
    assert after.package_address() == expected


def test_an_address_that_nothing_can_be_installed_from_is_an_error(tmp_path: Path) -> None:
    after = hook("post_gen_project", RIGHT | {"__dataset": "wine", "_template": "nowhere", "_commit": COMMIT})
    with pytest.raises(ValueError, match="'nowhere' is neither a folder"):
        after.package_address()


def make_environment(folder: Path) -> str:
    """Make a plain virtual environment with pip; return its Python."""
    venv.create(folder, with_pip=True)
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def run(folder: Path, environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
