"""What is noted of the scripts' imports: right after every edit, and never needed."""

import json
import os
from pathlib import Path

import pytest

from sagegate.pipeline import code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "train.py").write_text("import numpy\nimport features\n")
    (tmp_path / "model" / "features.py").write_text("def f():\n    import pandas\n")
    return tmp_path


def in_a_new_process() -> None:
    """Forget what this process knows."""
    code._noted.cache_clear()
    code._imports_of.cache_clear()
    code._used.clear()


def imports(project: Path) -> tuple[str, ...]:
    in_a_new_process()
    return code.imported_libraries(project / "model" / "train.py")


def test_an_edit_is_seen_though_imports_are_noted(project: Path) -> None:
    assert imports(project) == ("numpy", "pandas")
    code.remember(project)
    assert imports(project) == ("numpy", "pandas")
    file = project / "model" / "features.py"
    stamp = file.stat()
    file.write_text("def f():\n    import joblib\n")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # not even the time tells
    assert imports(project) == ("joblib", "numpy")


def test_what_is_noted_is_used_and_only_that_is_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imports(project)
    code.remember(project)
    before = json.loads((project / code.NOTES).read_text())
    assert sorted(before.values()) == [["numpy", "features"], ["pandas"]]
    with monkeypatch.context() as patch:
        patch.setattr(code, "_parsed", lambda *_: pytest.fail("parsed again"))
        assert imports(project) == ("numpy", "pandas")
    (project / "model" / "features.py").write_text("import scipy\n")
    imports(project)
    code.remember(project)
    assert sorted(json.loads((project / code.NOTES).read_text()).values()) == [["numpy", "features"], ["scipy"]]


@pytest.mark.parametrize("broken", [b"", b"not json", b"\xff"])
def test_a_broken_note_is_no_harm(project: Path, broken: bytes) -> None:
    (project / ".mlops").mkdir()
    (project / code.NOTES).write_bytes(broken)
    assert imports(project) == ("numpy", "pandas")
