"""Code packages: what a step's script needs from `model/`, packed reproducibly and named by its digest.

A package is the script, the modules of `model/` it imports (directly or not), and every file there that is not Python.
So an edit to `train.py` changes Train's package and leaves Preprocess's as it was.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sagegate.errors import SagegateError
from sagegate.files import archive, write_json
from sagegate.pipeline.definition import steps_of

ARCHIVE = "sourcedir.tar.gz"
NOTES = Path(".mlops") / "imports.json"


@dataclass(frozen=True)
class Package:
    """The code of one step: its files by name, and the digest that names it."""

    script: str
    files: dict[str, bytes]
    digest: str


def package(root: Path, script: str) -> Package:
    """The package of `model/SCRIPT`; raises SagegateError if the script is missing or is not Python."""
    folder = root / "model"
    if not (folder / script).is_file():
        raise SagegateError(f"model/{script} is missing: a step of the pipeline runs it")
    scripts = _closure(folder, script)
    data = [f for f in folder.iterdir() if f.is_file() and f.suffix not in (".py", ".pyc") and f.name[0] != "."]
    files = {file.name: file.read_bytes() for file in sorted([*scripts, *data])}
    lines = [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in files.items()]
    return Package(script, files, hashlib.sha256("\n".join([script, *lines]).encode()).hexdigest()[:16])


def code_parameters(definition: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """The definition's code parameters: name -> (script, whether the step wants it as an archive).

    `PreprocessCode` stands for `model/preprocess.py`. A training job unpacks `sagemaker_submit_directory` itself, so it
    wants an archive; a processing job gets the files.
    """
    names = [p["Name"] for p in definition.get("Parameters") or [] if re.fullmatch(r"[A-Z]\w*Code", p["Name"])]
    archived = {
        step.arguments.get("HyperParameters", {}).get("sagemaker_submit_directory", {}).get("Get", "")
        for step in steps_of(definition).values()
        if step.type == "Training"
    }
    return {
        name: (
            re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Code")).lower() + ".py",
            f"Parameters.{name}" in archived,
        )
        for name in names
    }


def objects(packed: Package, prefix: str, as_archive: bool) -> tuple[str, dict[str, bytes]]:
    """Where a package is stored below `prefix`: the URI that the step gets, and each object's key and content."""
    below = f"{prefix}/{packed.digest}"
    if as_archive:
        return f"{below}/{ARCHIVE}", {f"{below}/{ARCHIVE}": archive(packed.files)}
    return f"{below}/files", {f"{below}/files/{name}": content for name, content in packed.files.items()}


def library_finder(root: Path) -> Callable[[Path], tuple[str, ...]]:
    """A function that tells which installed libraries a script of `model/`, known by its file name, imports."""

    return lambda path: imported_libraries(root / "model" / path.name)


def imported_libraries(script: Path) -> tuple[str, ...]:
    """The installed libraries that a script and the modules beside it import; none if there is no such file."""
    if not script.is_file():
        return ()
    own = {file.stem for file in script.parent.glob("*.py")}
    modules = (module for file in _closure(script.parent, script.name) for module in _imports(file))
    tops = ((module, module.partition(".")[0]) for module in modules)
    return tuple(sorted({m for m, top in tops if top not in own and top not in sys.stdlib_module_names}))


def libraries(root: Path, definition: dict[str, Any]) -> tuple[str, ...]:
    """The installed libraries that any of the definition's scripts imports, in the order in which they are needed."""
    find = library_finder(root)
    scripts = [Path(script) for script, _ in code_parameters(definition).values()]
    return tuple(dict.fromkeys(module for script in scripts for module in find(script)))


def _closure(folder: Path, script: str) -> list[Path]:
    """`script` and the modules of `folder` that it imports, directly or not."""
    found: dict[Path, None] = {}
    todo = [folder / script]
    while todo:
        file = todo.pop()
        if file in found:
            continue
        found[file] = None
        names = {module.partition(".")[0] for module in _imports(file)}
        todo += [folder / f"{name}.py" for name in names if (folder / f"{name}.py").is_file()]
    return sorted(found)


def _imports(file: Path) -> list[str]:
    """The modules that a Python file imports, anywhere in it."""
    return _imports_of(file, file.stat().st_mtime_ns)


@cache
def _imports_of(file: Path, _modified: int) -> list[str]:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    noted = _noted(file.parent.parent)
    if digest not in noted:
        noted[digest] = _parsed(file, content)
    _used.add(digest)
    return noted[digest]


def _parsed(file: Path, content: bytes) -> list[str]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        where = getattr(error, "lineno", None)
        raise SagegateError(f"model/{file.name}, line {where}: {getattr(error, 'msg', error)}") from None
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(node.module)
    return found


# Parsing the scripts is a tenth of a run that has nothing to do. What a file imports follows from its content alone, so
# it is noted by the content's digest and cannot become wrong.
_used: set[str] = set()


@cache
def _noted(root: Path) -> dict[str, list[str]]:
    try:
        found: dict[str, list[str]] = json.loads((root / NOTES).read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def remember(root: Path) -> None:
    """Note what the scripts that were looked at import, for the next process; nothing is written if all was known."""
    wanted = {digest: modules for digest, modules in _noted(root).items() if digest in _used}
    try:
        written = json.loads((root / NOTES).read_bytes())
    except (OSError, ValueError):
        written = None
    if wanted != written:
        write_json(root / NOTES, wanted)
