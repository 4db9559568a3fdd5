"""Code packages: the files of `model/` that a step's script needs, packed reproducibly and named by their digest.

A package is the script, the modules and packages of `model/` that it imports, directly or not, and every other file
there, in subfolders too. So an edit to `train.py` changes Train's package and leaves Preprocess's as it was.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json, archive, local_files
from sagegate.pipeline.definition import hyperparameters_of, steps_of, training_requests

ARCHIVE = "sourcedir.tar.gz"


@dataclass(frozen=True)
class CodePackage:
    """The code of one step: file name to content, and the digest that names the package."""

    files: dict[str, bytes]
    digest: str


def package(root: Path, script: str) -> CodePackage:
    """Return the package of `model/SCRIPT`; raise SagegateError if the script is missing or is not valid Python."""
    folder = root / "model"
    if not (folder / script).is_file():
        raise SagegateError(f"model/{script} is missing: a step of the pipeline runs it")
    modules = _closure(folder, script)
    others = [file for _, file in local_files(folder) if file.suffix not in (".py", ".pyc")]
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted([*modules, *others])}
    lines = [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in files.items()]
    return CodePackage(files, hashlib.sha256("\n".join([script, *lines]).encode()).hexdigest()[:16])


def check_hyperparameters(root: Path, names: Iterable[str]) -> None:
    """Raise SagegateError for a hyperparameter that `fit` in model/estimator.py does not take, if there is a `fit`."""
    file = root / "model" / "estimator.py"
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):  # another project's model/; `package` tells what is wrong with a file
        return
    for function in body:
        if isinstance(function, ast.FunctionDef) and function.name == "fit" and not function.args.kwarg:
            known = [argument.arg for argument in function.args.kwonlyargs]
            for name in names:
                if name not in known:
                    what = f"hyperparameters.{name}: fit in model/estimator.py takes {', '.join(known) or 'none'}"
                    raise SagegateError(f"mlops.toml: {what}", USAGE)


def code_parameters(definition: Json) -> dict[str, tuple[str, bool]]:
    """Return the code parameters: name to (script, True if its step needs an archive).

    `PreprocessCode` means `model/preprocess.py`. A training job unpacks `sagemaker_submit_directory` itself, so it
    needs an archive; a processing job gets the files.
    """
    directories = [
        hyperparameters_of(request).get("sagemaker_submit_directory")
        for step in steps_of(definition).values()
        for request in training_requests(step.type, step.arguments)
    ]
    archived = {directory.get("Get", "") for directory in directories if isinstance(directory, dict)}
    found = {}
    for name in (parameter["Name"] for parameter in definition.get("Parameters") or []):
        if re.fullmatch(r"[A-Z]\w*Code", name):
            stem = re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Code")).lower()
            found[name] = (f"{stem}.py", f"Parameters.{name}" in archived)
    return found


def objects(packed: CodePackage, prefix: str, as_archive: bool) -> tuple[str, dict[str, bytes]]:
    """Return the key that the step gets for a package stored below `prefix`, and every object by key."""
    below = f"{prefix}/{packed.digest}"
    if as_archive:
        return f"{below}/{ARCHIVE}", {f"{below}/{ARCHIVE}": archive(packed.files)}
    return f"{below}/files", {f"{below}/files/{name}": content for name, content in packed.files.items()}


def imported_libraries(script: Path) -> tuple[str, ...]:
    """Return the installed libraries that a script and the modules beside it import; none if there is no such file."""
    if not script.is_file():
        return ()
    own = {file.stem for file in script.parent.iterdir() if file.suffix == ".py" or file.is_dir()}
    known = own | sys.stdlib_module_names
    modules = {module for file in _closure(script.parent, script.name) for module in _imports(file)}
    return tuple(sorted(module for module in modules if module.partition(".")[0] not in known))


def libraries(root: Path, definition: Json) -> tuple[str, ...]:
    """Return the installed libraries that the definition's scripts import, in the order in which they are needed."""
    scripts = [root / "model" / script for script, _ in code_parameters(definition).values()]
    return tuple(dict.fromkeys(module for script in scripts for module in imported_libraries(script)))


def library_finder(root: Path) -> Callable[[Path], tuple[str, ...]]:
    """Return a function from a script of `model/` to the installed libraries that it imports."""
    return lambda path: imported_libraries(root / "model" / path.name)


def _closure(folder: Path, script: str) -> list[Path]:
    """Return `script` and the modules of `folder` that it imports, directly or not; of a package, all its modules."""
    found: set[Path] = set()
    todo = [folder / script]
    while todo:
        file = todo.pop()
        if file not in found and file.is_file():
            found.add(file)
            for name in {module.partition(".")[0] for module in _imports(file)}:
                todo += [folder / f"{name}.py", *(folder / name).rglob("*.py")]
    return sorted(found)


def _imports(file: Path) -> tuple[str, ...]:
    return _imports_of(file.name, file.read_bytes())


@cache
def _imports_of(name: str, content: bytes) -> tuple[str, ...]:
    """Return the modules that a Python file imports, anywhere in it."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        where = getattr(error, "lineno", None)
        raise SagegateError(f"model/{name}, line {where}: {getattr(error, 'msg', error)}") from None
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(node.module)
    return tuple(found)
