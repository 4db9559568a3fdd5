"""The pipeline of this repository: its definition is up to date and valid, and it runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.raw_data import DATA

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("model", "pipeline", "environments", "infra", "data")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this repository without its local run state, so that a test run leaves no models behind."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mlops.toml", tmp_path)
    if DATA.is_dir() and DATA.is_relative_to(ROOT / ".mlops"):
        shutil.copytree(DATA, tmp_path / DATA.relative_to(ROOT))
    return tmp_path


def sagegate(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sagegate", *arguments], cwd=project, capture_output=True, text=True, timeout=600
    )


def test_settings_and_definition_are_valid_and_up_to_date(project: Path) -> None:
    checked = sagegate(project, "check")
    assert checked.returncode == 0, checked.stderr


def test_the_pipeline_runs_and_its_gate_can_reject(project: Path) -> None:
    passed = sagegate(project, "run")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "model 1 registered" in passed.stdout
    approved = sagegate(project, "approve", "1", "--reason", "the first")
    assert approved.returncode == 0, approved.stderr
    rejected = sagegate(project, "run", "--set", "GateMinImprovement=1e9")
    assert rejected.returncode == 3, rejected.stdout + rejected.stderr
    assert "Candidate rejected" in rejected.stdout
    assert "model 2" not in sagegate(project, "models").stdout
    broken = sagegate(project, "run", "--set", "GateThreshold=nan")
    assert broken.returncode == 1, "NaN is not a threshold"
