"""Lines of the project, the package and the tests (docs/decisions/0017-*.md)."""

import pytest
from clean_copy import ROOT, tracked_files

BUDGETS = {"{{cookiecutter.project_slug}}": 6_800, "src": 13_700, "tests": 18_400, "tests/campaigns": 1_900}


@pytest.mark.parametrize("folder", BUDGETS)
def test_lines_stay_within_the_budget(folder: str) -> None:
    inner = [other for other in BUDGETS if other.startswith(f"{folder}/")]
    below = [file for file in tracked_files(ROOT) if file.is_relative_to(folder)]
    files = [file for file in below if not any(file.is_relative_to(other) for other in inner)]
    counted = [file for file in files if file.suffix != ".csv" and file.name != "definition.json"]
    lines = sum(len((ROOT / file).read_bytes().splitlines()) for file in counted)
    assert BUDGETS[folder] * 0.8 < lines <= BUDGETS[folder]
