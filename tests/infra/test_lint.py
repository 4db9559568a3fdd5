"""cfn-lint and checkov find nothing in the templates, and checkov finds a planted error."""

import re
import subprocess
import sysconfig
from pathlib import Path

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


def test_cfn_lint_finds_nothing() -> None:
    """That it finds a planted error, tests/template/test_hooks.py shows."""
    done = cfn_lint(PLATFORM, ENDPOINT)
    assert done.returncode == 0, done.stdout


def test_checkov_finds_a_planted_error_only(tmp_path: Path) -> None:
    text = PLATFORM.read_text(encoding="utf-8")
    assert "BlockPublicAcls: true" in text
    public = tmp_path / "public.yaml"
    public.write_text(text.replace("BlockPublicAcls: true", "BlockPublicAcls: false"), encoding="utf-8")
    done = checkov(PLATFORM, ENDPOINT, public)
    found = re.findall(r"Passed checks: \d+, Failed checks: (\d+), Skipped checks: (\d+)", done.stdout)
    assert found == [("1", "5")] and "public.yaml" in done.stdout, done.stdout + done.stderr
