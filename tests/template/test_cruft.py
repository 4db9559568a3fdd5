"""Projects made with cruft can be checked against the template and updated from it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clean_copy import ROOT, copy_template
from conftest import PROJECT_FOLDER, RunIn

IDENTITY = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", *IDENTITY, *args], cwd=folder, check=True, capture_output=True)


def commit_all(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", message)


@pytest.fixture
def template_repository(tmp_path: Path) -> Path:
    """The working tree as the only commit of a new repository."""
    repository = copy_template(tmp_path / "template")
    git(repository, "init", "--quiet", "--initial-branch=main")
    commit_all(repository, "template")
    return repository


def cruft(tmp_path: Path, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The real command, with a home of its own for cookiecutter's files."""
    config = tmp_path / "config.json"
    folders = {"cookiecutters_dir": str(tmp_path / "copies"), "replay_dir": str(tmp_path / "replay")}
    config.write_text(json.dumps(folders), encoding="utf-8")
    env = os.environ | {"COOKIECUTTER_CONFIG": str(config), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "cruft", *args]
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
    )


ADDRESS = "https://github.com/my-org/template.git"


def test_create_check_and_update(
    template_repository: Path, tmp_path: Path, run_in: RunIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It follows docs/how-to/updates.md."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{template_repository}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", ADDRESS)
    page = (ROOT / "docs" / "how-to" / "updates.md").read_text(encoding="utf-8")
    followed, plan, _ = re.findall(r"(?s)```sh\n(.*?)```", page)
    check, update, _, sagegate_check, _ = (line.partition("#")[0].split() for line in followed.splitlines())
    assert (check[:2], update[:2]) == (["uvx", "cruft"], ["uvx", "cruft"])

    answers = json.dumps({"project_name": 'The "best" \\ model', "project_slug": "best", "problem_type": "regression"})
    done = cruft(tmp_path, tmp_path, "create", ADDRESS, "--no-input", "--extra-context", answers)
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "best"
    git(project, "init", "--quiet", "--initial-branch=main")
    features = project / "model" / "features.py"
    features.write_text(features.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    commit_all(project, "project")
    assert cruft(tmp_path, project, *check[2:]).returncode == 0
    dependency = (project / "pyproject.toml").read_text(encoding="utf-8")

    readme = template_repository / PROJECT_FOLDER / ".editorconfig"
    readme.write_text(readme.read_text(encoding="utf-8") + "\n[*.md]\nindent_size = 4\n", encoding="utf-8")
    commit_all(template_repository, "change")
    assert cruft(tmp_path, project, *check[2:]).returncode == 1
    done = cruft(tmp_path, project, *update[2:], "--skip-apply-ask")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[*.md]" in (project / ".editorconfig").read_text(encoding="utf-8")
    assert features.read_text(encoding="utf-8").endswith("# mine\n")
    assert [path.name for path in (project / "data").glob("*.csv")] == ["diabetes.csv"]
    updated = (project / "pyproject.toml").read_text(encoding="utf-8")
    commits = [
        re.findall(r'"sagegate @ git\+https://github.com/my-org/template.git@([0-9a-f]{40})"', text)
        for text in (dependency, updated)
    ]
    assert len(commits[0]) == len(commits[1]) == 1 and commits[0] != commits[1]
    assert cruft(tmp_path, project, *check[2:]).returncode == 0
    assert "ok: " in run_in(project, *sagegate_check[2:]).stdout
    assert "against HEAD" in run_in(project, *plan.split()[2:]).stdout


BEFORE_THE_PACKAGE = "4aa11c4"  # the last commit whose projects carried the machinery in mlops/


def test_a_project_from_before_the_package_updates_and_keeps_its_model(tmp_path: Path, run_in: RunIn) -> None:
    """It needs the history: in a shallow clone, `git fetch --unshallow` first."""
    repository = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", f"file://{ROOT}", str(repository))
    done = cruft(tmp_path, tmp_path, "create", str(repository), "--no-input", "--checkout", BEFORE_THE_PACKAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "my-model"
    assert (project / "mlops" / "cli.py").is_file()
    git(project, "init", "--quiet", "--initial-branch=main")
    commit_all(project, "project")
    features = project / "model" / "features.py"
    mine = features.read_text(encoding="utf-8").replace('"passthrough", numbers', '"passthrough", sorted(numbers)')
    features.write_text(mine, encoding="utf-8")
    commit_all(project, "sort the numbers")

    git(repository, "checkout", "--quiet", "-B", "update")
    git(repository, "rm", "--quiet", "-r", ".")
    copy_template(repository)
    commit_all(repository, "today")
    done = cruft(tmp_path, project, "update", "--skip-apply-ask", "--checkout", "update")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(project.rglob("*.rej"))
    assert not list((project / "mlops").rglob("*.py"))
    assert "sorted(numbers)" in features.read_text(encoding="utf-8")
    assert '"sagegate @ file://' in (project / "pyproject.toml").read_text(encoding="utf-8")
    assert "ok: " in run_in(project, "sagegate", "check").stdout
    assert "model 1 registered" in run_in(project, "sagegate", "run").stdout
