"""docs/conformance.md and the engine's tests say the same: every row has its test, every test has its row."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def engine_tests(folder: Path) -> set[str]:
    """The names `file.py::test` of the tests in a folder."""
    return {
        f"{file.name}::{node.name}"
        for file in folder.glob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_conformance_table_and_the_tests_agree() -> None:
    table = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+\.py::test_\w+)`", table))
    assert named <= engine_tests(ROOT / "tests" / "local")


def test_every_row_says_where_its_rule_comes_from() -> None:
    table = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in table.splitlines() if "::test_" in line]
    assert rows
    assert all(len(row) == 3 and row[1].strip() for row in rows)
