"""Lines of the project, the package and the tests: docs/decisions/0012-budgets-of-lines.md."""

import pytest
from clean_copy import ROOT, tracked_files

BUDGETS = {"{{cookiecutter.project_slug}}": 4_600, "src": 11_000, "tests": 15_000}


@pytest.mark.parametrize("folder", BUDGETS)
def test_lines_stay_within_the_budget(folder: str) -> None:
    files = [file for file in tracked_files(ROOT) if file.parts[0] == folder]
    counted = [file for file in files if file.suffix != ".csv" and file.name != "definition.json"]
    lines = sum(len((ROOT / file).read_bytes().splitlines()) for file in counted)
    assert BUDGETS[folder] * 0.8 < lines <= BUDGETS[folder]
