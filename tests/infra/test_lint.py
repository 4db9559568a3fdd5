"""cfn-lint and checkov find nothing in the templates, and both find a planted error."""

import subprocess
import sysconfig
from pathlib import Path

import pytest
from conftest import find_uv, without_shell_settings
from templates import ENDPOINT, PLATFORM

# Run by uv in an environment of its own, because it needs other versions of this environment's packages.
CHECKOV = ["tool", "run", "--exclude-newer", "2026-11-01T00:00:00Z", "--from", "checkov==3.3.30", "checkov"]
QUIETLY = ["--quiet", "--compact", "--skip-download", "--framework", "cloudformation"]


def cfn_lint(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sysconfig.get_path("scripts")) / "cfn-lint"), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True)


def checkov(*files: Path) -> subprocess.CompletedProcess[str]:
    given = [part for file in files for part in ("--file", str(file))]
    env = without_shell_settings()
    return subprocess.run([find_uv(), *CHECKOV, *QUIETLY, *given], capture_output=True, text=True, env=env)


def broken(tmp_path: Path, template: Path, before: str, after: str) -> Path:
    text = template.read_text(encoding="utf-8")
    assert before in text
    (tmp_path / template.name).write_text(text.replace(before, after), encoding="utf-8")
    return tmp_path / template.name


def test_cfn_lint_finds_nothing() -> None:
    done = cfn_lint(PLATFORM, ENDPOINT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        (PLATFORM, "BucketName:", "BucketNam:"),
        (PLATFORM, "!Ref NotificationEmail", "!Ref NotificationMail"),
    ],
)
def test_cfn_lint_finds_a_planted_error(tmp_path: Path, template: Path, before: str, after: str) -> None:
    assert cfn_lint(broken(tmp_path, template, before, after)).returncode != 0


def test_checkov_finds_nothing_except_the_skipped_checks() -> None:
    done = checkov(PLATFORM, ENDPOINT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed checks: 0" in done.stdout and "Skipped checks: 3" in done.stdout


def test_checkov_finds_a_public_bucket(tmp_path: Path) -> None:
    done = checkov(broken(tmp_path, PLATFORM, "BlockPublicAcls: true", "BlockPublicAcls: false"))
    assert done.returncode != 0
