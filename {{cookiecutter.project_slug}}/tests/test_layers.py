"""`model/` and `pipeline/` are yours alone: they import nothing of the package that runs them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = [*ROOT.glob("model/*.py"), *ROOT.glob("pipeline/*.py")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_imports_nothing_of_sagegate(file: Path) -> None:
    """SageMaker's containers run these files without the package, and an upgrade of it must not change a model."""
    imported: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(node.module or "")
    assert [name for name in imported if name.partition(".")[0] == "sagegate"] == []
