"""Code packages: each step's package has its script's own modules, and changes only with them."""

from pathlib import Path

import pytest

from sagegate.errors import SagegateError
from sagegate.pipeline.code import imported_libraries, package


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "train.py").write_text("import numpy\nimport features\n")
    (tmp_path / "model" / "preprocess.py").write_text("import json\n")
    (tmp_path / "model" / "features.py").write_text("def f():\n    import pandas\n")
    (tmp_path / "model" / "requirements.txt").write_text("")
    return tmp_path


def test_a_package_holds_the_modules_that_the_script_imports(root: Path) -> None:
    assert list(package(root, "train.py").files) == ["features.py", "requirements.txt", "train.py"]
    assert list(package(root, "preprocess.py").files) == ["preprocess.py", "requirements.txt"]


def test_a_package_holds_subfolders(root: Path) -> None:
    (root / "model" / "text" / "data").mkdir(parents=True)
    for name in ("text/__init__.py", "text/clean.py", "text/data/words.txt", "text/.hidden"):
        (root / "model" / name).write_text("")
    (root / "model" / "text" / "clean.py").write_text("import joblib")
    (root / "model" / "train.py").write_text("from text import clean\n")
    files = ["requirements.txt", "text/__init__.py", "text/clean.py", "text/data/words.txt", "train.py"]
    assert list(package(root, "train.py").files) == files
    assert list(package(root, "preprocess.py").files) == ["preprocess.py", "requirements.txt", "text/data/words.txt"]
    assert imported_libraries(root / "model" / "train.py") == ("joblib",)


def test_an_edit_changes_only_the_packages_that_hold_the_file(root: Path) -> None:
    train, preprocess = package(root, "train.py").digest, package(root, "preprocess.py").digest
    (root / "model" / "features.py").write_text("import joblib\n")
    assert package(root, "train.py").digest != train
    assert package(root, "preprocess.py").digest == preprocess


def test_libraries_are_those_of_the_script_and_its_modules(root: Path) -> None:
    script = root / "model" / "train.py"
    assert imported_libraries(script) == ("numpy", "pandas")
    (root / "model" / "features.py").write_text("import joblib\n")
    assert imported_libraries(script) == ("joblib", "numpy")
    assert imported_libraries(root / "model" / "missing.py") == ()


def test_a_script_that_is_not_python_is_named_with_its_line(root: Path) -> None:
    (root / "model" / "features.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(SagegateError, match=r"model/features\.py, line 2"):
        package(root, "train.py")
