"""The checks that a generated project comes with pass in it as it is generated, whatever it predicts."""

from pathlib import Path

import pytest
from conftest import PROBLEM_TYPES, Bake, RunIn

CHECKS = {
    "ruff-check": ["ruff", "check", "--no-cache"],
    "ruff-format": ["ruff", "format", "--check", "--no-cache"],
    "mypy": ["mypy"],
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_python_files_pass_and_the_check_can_fail(own_project: Path, run_in: RunIn, check: list[str]) -> None:
    """One choice is enough: the same Python files are in all of them (test_generate.py)."""
    run_in(own_project, *check)
    (own_project / "model" / "train.py").write_text("import os\n\nEPOCHS: int  = 'many'\n", encoding="utf-8")
    assert run_in(own_project, *check, check=False).returncode == 1


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_check_passes(bake: Bake, run_in: RunIn, problem_type: str) -> None:
    run_in(bake(problem_type=problem_type), "sagegate", "check")


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES[1:])
def test_the_tests_of_the_project_pass(bake: Bake, run_in: RunIn, problem_type: str) -> None:
    """Those of the first problem type run in the workflow ci (tests/end_to_end)."""
    run_in(bake(problem_type=problem_type), "pytest")
