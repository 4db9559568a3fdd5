"""`sagegate clean`: remove what neither a kept execution nor a registered model needs.

Kept are the newest executions and those that registered a model. Needed is what their records name: objects, the
descriptions of jobs, models of Transform steps. Of an older execution that registered a model these are its code, raw
data, artifact and evaluation, but not the files that went from step to step.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagegate.errors import SagegateError, warn
from sagegate.files import TEMPORARY, Json, split_uri
from sagegate.local.state import Execution, lock_if_free, read_json, versions
from sagegate.local.storage import Store

AREAS = ("code", "raw", "intermediate", "executions")  # of the project's prefix: what runs write, apart from models
SECONDS_OF_A_WRITE = 3600  # a temporary file that is older was left by a killed process


def clean(state: Path, store: Store, prefix: str, keep: int, dry_run: bool) -> tuple[int, int]:
    """Remove the rest; return the number of executions and of bytes. The caller holds the lock of `state`.

    `prefix` is the S3 URI of the project's objects. Raises SagegateError while an execution is running, and if a
    record of the registry is damaged: what it needs is not known.
    """
    packages = [read_json(file / f"{n}.json") for file in state.glob("registry/*") for n in versions(file)]
    registered = set(strings(packages))
    ended = executions(state)
    kept = {e.id for e in ended[:keep]} | {name.rpartition("/")[2] for name in registered if "/execution/" in name}
    needed = set(registered)
    for place, execution in enumerate(ended):
        if execution.id in kept:
            needed |= set(strings([execution.record, json.loads(execution.definition()), execution.steps()]))
            needed |= set(strings(execution.properties())) if place < keep else set()
    objects = Objects(store, prefix, needed)
    jobs = {name.rpartition("/")[2] for name in needed}
    garbage = [
        *(folder for folder in state.glob("executions/*") if folder.name not in kept and is_ended(folder)),
        *(
            file
            for kind in ("descriptions", "models")
            for file in state.glob(f"{kind}/*.json")
            if file.stem not in jobs
        ),
        *state.glob("jobs/pipelines-*"),
        *state.glob("reports/*"),  # copies, which `sagegate report` makes again
        *(file / f"{n}.json" for file in state.glob("pipelines/*") for n in versions(file)[:-keep]),
        *(file for file in state.glob("cache/*.json") if not objects.has_outputs(file)),
        *(file for area in objects.areas for file in area.rglob("*") if file.is_file() and not objects.needs(file)),
        *(file for file in state.rglob(f"{TEMPORARY}*") if file.is_file() and is_old(file)),
    ]
    unique = dict.fromkeys(garbage)
    size = sum(inner.lstat().st_size for path in unique for inner in [path, *path.rglob("*")] if not inner.is_dir())
    for path in () if dry_run else unique:
        (path / "execution.json").unlink(missing_ok=True) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)  # an execution exists as long as execution.json does
    for folder in () if dry_run else sorted(f for area in objects.areas for f in area.rglob("*") if f.is_dir())[::-1]:
        if not any(folder.iterdir()):
            folder.rmdir()
    return sum(path.parent == state / "executions" for path in unique), size


def executions(state: Path) -> list[Execution]:
    """Return the executions that can be read, the newest first. Raises SagegateError if one is running."""
    found = []
    for file in state.glob("executions/*/execution.json"):
        try:
            found.append(Execution.load(file.parent))
        except SagegateError as error:
            warn(error)
    for execution in found:
        if execution.status == "Executing":
            raise SagegateError(
                f"execution {execution.id} is running: wait, or stop it: `sagegate stop {execution.id}`"
            )
    return sorted(found, key=lambda execution: str(execution.record["CreationTime"]), reverse=True)


def is_ended(folder: Path) -> bool:
    """Return True if no process runs the execution in a folder."""
    with lock_if_free(folder) as is_free:
        return is_free


def is_old(file: Path) -> bool:
    """Return True if nobody writes a temporary file any more."""
    return time.time() - file.stat().st_mtime > SECONDS_OF_A_WRITE


def strings(value: Any) -> Iterator[str]:
    """Yield every text inside a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


@dataclass
class Objects:
    """The objects of the project that runs write. A URI in `needed` needs all objects in its folder."""

    store: Store
    prefix: str
    needed: set[str]

    def __post_init__(self) -> None:
        """Find the folders of the areas, and those that are needed."""
        self.areas = [self.path(f"{self.prefix}/{area}") for area in AREAS]
        paths = (self.path(uri) for uri in self.needed if uri.startswith(f"{self.prefix}/"))
        self.folders = {path.parent if path.is_file() else path for path in paths} - {
            *self.areas,
            *self.areas[0].parents,
        }

    def path(self, uri: str) -> Path:
        """Return the file or folder of a URI."""
        return self.store.folder.joinpath(*split_uri(uri))

    def needs(self, file: Path) -> bool:
        """Return True if an object is needed, or is not one that runs write."""
        parents = set(file.parents)
        return not parents.isdisjoint(self.folders) or parents.isdisjoint(self.areas)

    def has_outputs(self, file: Path) -> bool:
        """Return True if a cache entry is sound and its outputs stay."""
        try:
            entry: Json = read_json(file)
        except SagegateError:
            return False
        return all(self.needs(path / "x") for path in map(self.path, entry["Outputs"]))
