"""The checks that a generated project comes with pass in it as it is generated, whatever it predicts."""

from pathlib import Path

import pytest
from conftest import PROBLEM_TYPES, Bake, RunIn

CHECKS = {
    "ruff-check": ["ruff", "check", "--no-cache"],
    "ruff-format": ["ruff", "format", "--check", "--no-cache"],
    "mypy": ["mypy"],
    "pytest": ["pytest"],
    "mlops-check": ["sagegate", "check"],
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_check_passes(bake: Bake, run_in: RunIn, problem_type: str, check: list[str]) -> None:
    run_in(bake(problem_type=problem_type), *check)


@pytest.mark.parametrize("check", ["ruff-check", "mypy"])
def test_check_can_fail(bake: Bake, run_in: RunIn, check: str) -> None:
    project: Path = bake()
    (project / "model" / "train.py").write_text("import os\n\nEPOCHS: int = 'many'\n", encoding="utf-8")
    assert run_in(project, *CHECKS[check], check=False).returncode == 1
