"""The pipeline of this repository: its definition is fresh and sound, and it runs on this machine."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.definitions import check, definition, guarded_files, guards
from mlops.deployment import smoke
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


def test_nothing_undoes_the_gate() -> None:
    """Each rule is a known bug of pipelines (mlops/definitions/guards.py); `[waivers]` in mlops.toml excepts one."""
    compiled, settings = definition.load(ROOT), load_settings(ROOT)
    assert any(step.type == "RegisterModel" for step in definition.steps_of(compiled).values())
    found = [*guards.in_definition(compiled), *guards.in_settings(settings), *guarded_files.in_files(ROOT)]
    assert [breach for breach in found if breach.rule not in settings.waivers] == []


def test_the_smoke_test_asks_the_model() -> None:
    """An endpoint that answers otherwise than recorded, with an error, or late is not healthy."""
    sample = smoke.Sample(b"request", {"predictions": [0.25, 0.5]})
    asked: list[bytes] = []

    def answering(body: str, status: int = 200) -> Callable[[bytes, str], smoke.Answer]:
        def ask(request: bytes, content_type: str) -> smoke.Answer:
            asked.append(request)
            return smoke.Answer(status, "application/json", body.encode())

        return ask

    right = '{"predictions": [0.25, 0.5]}'
    assert smoke.smoke(answering(right), sample, limit=1000).fault is None
    assert len(asked) == smoke.REQUESTS and set(asked) == {b"request"}
    assert smoke.smoke(answering('{"predictions": [0.25, 0.6]}'), sample, limit=1000).fault
    assert smoke.smoke(answering('{"predictions": [0.25]}'), sample, limit=1000).fault
    assert smoke.smoke(answering("ok"), sample, limit=1000).fault
    assert smoke.smoke(answering(right, status=500), sample, limit=1000).fault
    assert smoke.smoke(answering(right), sample, limit=0).fault


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
    approved = mlops(project, "approve", "1", "--reason", "the first")
    assert approved.returncode == 0, approved.stderr
    rejected = mlops(project, "run", "--set", "GateMinImprovement=1e9")
    assert rejected.returncode == 3, rejected.stdout + rejected.stderr
    assert "Candidate rejected" in rejected.stdout
    assert "model 2" not in mlops(project, "models").stdout
    broken = mlops(project, "run", "--set", "GateThreshold=nan")
    assert broken.returncode == 1, "a number that is none decides nothing"
