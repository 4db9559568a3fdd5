"""The pipeline of this repository: its definition is fresh and sound, and it runs on this machine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlops import check, definition
from mlops.settings import ENVIRONMENTS, load_environment, load_settings

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("model", "mlops", "pipeline", "environments", "infra", "data")


def test_settings_and_environments_are_valid() -> None:
    assert load_settings(ROOT).project.name
    assert [load_environment(ROOT, name).name for name in ENVIRONMENTS] == list(ENVIRONMENTS)


def test_definition_is_fresh() -> None:
    assert not definition.is_stale(ROOT, load_settings(ROOT)), "run `mlops compile` and commit the definition"


def test_definition_is_what_sagemaker_accepts() -> None:
    compiled = definition.load(ROOT)
    assert [*check.reference_faults(compiled), *check.shape_faults(compiled)] == []


def test_a_model_is_registered_only_behind_the_gate() -> None:
    steps = definition.steps_of(definition.load(ROOT))
    registering = [step for step in steps.values() if step.type == "RegisterModel"]
    assert registering
    for step in registering:
        assert step.branch, f"{step.name} is not behind a condition"
        assert step.branch[1], f"{step.name} is in the ElseSteps of {step.branch[0]}"
        conditions = steps[step.branch[0]].arguments["Conditions"]
        assert any("Std:JsonGet" in str(condition) for condition in conditions)
        assert step.arguments["ModelApprovalStatus"] == "PendingManualApproval"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this repository without its state, so that a test run leaves no models behind."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mlops.toml", tmp_path)
    return tmp_path


def mlops(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlops", *arguments], cwd=project, capture_output=True, text=True, timeout=600
    )


def test_the_pipeline_runs_and_its_gate_can_reject(project: Path) -> None:
    passed = mlops(project, "run")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "model 1 registered" in passed.stdout
    rejected = mlops(project, "run", "--set", "GateMinImprovement=1e9", "--set", "GateThreshold=nan")
    assert rejected.returncode != 0
    assert "model 2" not in mlops(project, "models").stdout
