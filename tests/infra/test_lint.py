"""checkov finds nothing in the templates but a planted error. The project's own hook runs cfn-lint."""

import re
import subprocess
from pathlib import Path

from conftest import find_uv, without_shell_settings
from templates import ENDPOINT, PLATFORM

# Run by uv in an environment of its own, because it needs other versions of this environment's packages.
CHECKOV = ["tool", "run", "--exclude-newer", "2026-11-01T00:00:00Z", "--from", "checkov==3.3.30", "checkov"]
QUIETLY = ["--quiet", "--compact", "--skip-download", "--framework", "cloudformation"]


def checkov(*files: Path) -> subprocess.CompletedProcess[str]:
    given = [part for file in files for part in ("--file", str(file))]
    env = without_shell_settings()
    return subprocess.run([find_uv(), *CHECKOV, *QUIETLY, *given], capture_output=True, text=True, env=env)


def test_checkov_finds_a_planted_error_only(tmp_path: Path) -> None:
    text = PLATFORM.read_text(encoding="utf-8")
    assert "BlockPublicAcls: true" in text
    public = tmp_path / "public.yaml"
    public.write_text(text.replace("BlockPublicAcls: true", "BlockPublicAcls: false"), encoding="utf-8")
    done = checkov(PLATFORM, ENDPOINT, public)
    found = re.findall(r"Passed checks: \d+, Failed checks: (\d+), Skipped checks: (\d+)", done.stdout)
    assert found == [("1", "5")] and "public.yaml" in done.stdout, done.stdout + done.stderr
