"""`mlops plan --against REVISION`: what the working tree changes, without AWS and without credentials.

Both are planned as `mlops run` would for the same environment, the revision from files that git gives.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.aws import Door
from mlops.definitions import definition
from mlops.definitions.code import code_parameters, package
from mlops.definitions.difference import changes, compare
from mlops.errors import USAGE, MlopsError
from mlops.local.store import Store
from mlops.names import Names
from mlops.outline import Outline, Section
from mlops.plans.forecast import Success, counting, forecast
from mlops.plans.packages import file_changes
from mlops.plans.plan import (
    change_row,
    difference_sections,
    files_text,
    run_section,
    stale_remarks,
    summary,
    without_label,
)
from mlops.runs.run import How
from mlops.runs.run import plan as plan_run
from mlops.settings import Environment, load_environment, load_settings

Json = dict[str, Any]
READ = ("mlops.toml", "environments", "pipeline", "model")


def against(root: Path, environment: str, revision: str) -> Outline:
    """Compared with a git revision; raises MlopsError if there is no such revision or the working tree has a fault."""
    commit = _commit(root, revision)
    settings = load_settings(root)
    source = settings.data.source
    new = _planned(root, load_environment(root, environment))
    remarks = stale_remarks(root)
    with tempfile.TemporaryDirectory() as folder:
        former = Path(folder)
        paths = [*READ] if source.startswith("s3://") else [*READ, source]
        _export(root, commit, paths, former)
        if not source.startswith("s3://") and not (former / source).exists():
            (former / source).symlink_to(root / source)
            remarks.append(f"{source}/ is not in {revision}: its files are not compared")
        try:
            old = _planned(former, load_environment(former, environment))
        except MlopsError as error:
            old = {"Parameters": [], "Steps": []}
            remarks.append(f"{revision} has no pipeline that can be read now, so all counts as new ({error})")
        difference = without_label(compare(old, new))
        code = list(_code(former, root, old, new))
        settings_rows = list(_settings(former, root))
    changed = list(_data(root, source, commit))
    title = f"pipeline {settings.project.name}, {environment}, against {revision}: {summary(difference, False)}"
    sections = [*difference_sections(difference), *_table("Settings", ["", "file", "key", "old", "new"], settings_rows)]
    sections += _table("Code packages", ["parameter", "script", "changed files"], code)
    sections += _table("Data", ["", "file"], changed)
    if difference or changed:
        sections += _runs(old, new, revision)
    return Outline(title, remarks, sections)


def _planned(root: Path, environment: Environment) -> Json:
    """The pipeline as `mlops run` would have it."""
    project = load_settings(root).project.name
    names = Names(project, environment.name, environment.account_id, environment.region)
    door = Door(environment, names, Store(root / ".mlops" / "s3").file_digest)  # it is not asked for clients
    body: Json = json.loads(plan_run(root, door, {}, How()).body)
    return body


def _commit(root: Path, revision: str) -> str:
    """The commit that a revision names."""
    try:
        return (
            _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}").decode().strip()
        )
    except MlopsError as error:
        if "not a git repository" in str(error):
            raise
        hint = "name a commit, tag or branch that is here (in a workflow, check out with fetch-depth: 0)"
        raise MlopsError(f"git knows no revision {revision!r}: {hint}", USAGE) from None


def _export(root: Path, commit: str, paths: list[str], folder: Path) -> None:
    """Write those of `paths` that the revision has into `folder`."""
    listed = _git(root, "ls-tree", "--name-only", commit, "--", *paths).decode().split("\n")
    existing = [path for path in listed if path]
    if not existing:
        raise MlopsError(f"commit {commit[:12]} has nothing of this project: name a revision that has", USAGE)
    packed = _git(root, "archive", "--format=tar", commit, "--", *existing)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")


def _git(root: Path, *arguments: str) -> bytes:
    try:
        command = ["git", "-c", "core.quotePath=off", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        raise MlopsError("git is not installed: `mlops plan --against` reads the revision with it", USAGE) from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise MlopsError(f"git {arguments[0]}: {said[0].removeprefix('fatal: ')}", USAGE)
    return done.stdout


def _settings(former: Path, root: Path) -> Iterator[list[str]]:
    """What changed in mlops.toml and environments/*.toml, key by key."""
    names = [
        "mlops.toml",
        *sorted({f"environments/{f.name}" for r in (former, root) for f in r.glob("environments/*")}),
    ]
    for name in names:
        old, new = (_toml(folder / name) for folder in (former, root))
        for change in changes(old, new):
            mark, path, before, after = change_row(change)
            yield [mark, name, path, before, after]


def _toml(file: Path) -> Json:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return {}  # the working tree's was read before; an unreadable old one counts as none


def _code(former: Path, root: Path, old: Json, new: Json) -> Iterator[list[str]]:
    """The code packages whose digest changed, and which of their files."""
    before, after = ({p["Name"]: p.get("DefaultValue") for p in body["Parameters"]} for body in (old, new))
    for parameter, (script, _) in code_parameters(new).items():
        if before.get(parameter) == after[parameter]:
            continue
        files = package(former, script).files if parameter in before else {}
        changed = files_text(file_changes(files, package(root, script).files))
        yield [parameter, f"model/{script}", changed]


def _data(root: Path, source: str, commit: str) -> Iterator[list[str]]:
    """Data files that differ from the revision's."""
    if source.startswith("s3://"):
        return
    differing = _git(root, "diff", "--name-status", "--no-renames", "--relative", commit, "--", source)
    for line in differing.decode().splitlines():
        status, _, name = line.partition("\t")
        yield [{"A": "+", "D": "-"}.get(status, "~"), name]
    for name in _git(root, "ls-files", "--others", "--exclude-standard", "--", source).decode().splitlines():
        yield ["+", name]


def _runs(old: Json, new: Json, revision: str) -> list[Section]:
    """Which steps a run of the working tree repeats if the revision's results are still cached."""
    values = definition.parameter_values(old, {})
    now = datetime.now(UTC)
    earlier: dict[str, list[Success]] = {}
    for name, step in definition.steps_of(old).items():
        arguments = counting(step, values)
        if arguments is not None:
            earlier[name] = [Success(arguments, f"of {revision}", now)]
    found = forecast(definition.steps_of(new), definition.parameter_values(new, {}), earlier, now)
    return run_section(list(found), f"An execution, after one of {revision}")


def _table(heading: str, columns: list[str], rows: list[list[str]]) -> list[Section]:
    code = tuple(i for i, name in enumerate(columns) if name in ("key", "old", "new", "script", "file"))
    return [Section(heading, columns, rows, code)] if rows else []
