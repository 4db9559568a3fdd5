"""SageMaker's containers run `model/` without the package `sagegate`, and no upgrade of it may change a pipeline."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("file", [*ROOT.glob("model/*.py"), *ROOT.glob("pipeline/*.py")], ids=lambda file: file.name)
def test_model_and_pipeline_import_nothing_of_sagegate(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert "sagegate" not in [name.partition(".")[0] for name in names]
