"""The checks of a generated project pass as it is generated, whatever it predicts.

Those of its pre-commit hooks, and the tests of the first problem type, run in the workflow ci (tests/end_to_end).
"""

import pytest
from conftest import PROBLEM_TYPES, Bake, RunIn


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES)
def test_check_passes(bake: Bake, run_in: RunIn, problem_type: str) -> None:
    run_in(bake(problem_type=problem_type), "sagegate", "check")


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES[1:])
def test_the_tests_of_the_project_pass(bake: Bake, run_in: RunIn, problem_type: str) -> None:
    run_in(bake(problem_type=problem_type), "pytest")
