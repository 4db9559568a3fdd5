"""`sagegate plan`: which steps, parameters and code change.

The working tree is compared with the pipeline that an environment has now or, without AWS and credentials, with a git
revision.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagegate import markdown, output
from sagegate.config import load_environment, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json
from sagegate.pipeline import definition
from sagegate.pipeline.code import code_parameters, package
from sagegate.pipeline.definition import Step, references, steps_of
from sagegate.pipeline.parameters import apply_environment
from sagegate.runs.start import RunOptions, describe_pipeline, is_current, prepare
from sagegate.session import Session

NO_PIPELINE: Json = {"Parameters": [], "Steps": []}
# The name of an element of a list, such as an input or a channel.
NAME_KEYS = ("InputName", "OutputName", "ChannelName", "PropertyFileName", "Name")
LONG_TABLE = 12  # rows; Markdown folds longer tables
LONG_VALUE = 60  # characters
STALE = "pipeline/definition.json is stale: run `sagegate compile`; this plan is of the old definition"


@dataclass(frozen=True)
class Table:
    """A table under a heading; its last columns are values, which Markdown shows as code."""

    heading: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Plan:
    """A title, warnings, and tables of changes."""

    title: str
    warnings: list[str]
    tables: list[Table]

    def print(self) -> None:
        """Print the plan for a terminal."""
        for text in (self.title, *(f"! {warning}" for warning in self.warnings)):
            output.line(text)
        for table in self.tables:
            output.line(f"\n{table.heading}")
            output.table(table.columns, table.rows)

    def markdown(self) -> str:
        """Return the plan as GitHub's Markdown; long tables are folded."""
        blocks = [f"### {self.title}", *(f"> [!WARNING]\n> {markdown.code(warning)}" for warning in self.warnings)]
        for table in self.tables:
            rows = [[row[0], *(markdown.code(cell, in_table=True) for cell in row[1:])] for row in table.rows]
            lines = markdown.table(table.columns, rows, numbers_from=len(table.columns))
            if len(rows) > LONG_TABLE:
                blocks.append("\n".join(markdown.folded(f"{table.heading} ({len(rows)})", lines)))
            else:
                blocks.append("\n".join([f"**{table.heading}**", "", *lines]))
        return "\n\n".join(blocks)


def plan(session: Session) -> Plan:
    """Compare the working tree with the pipeline that the environment has now; write nothing.

    Raises SagegateError wherever `sagegate run` would raise it before the upsert.
    """
    request = prepare(session, RunOptions())
    existing = describe_pipeline(session)
    new: Json = json.loads(request.body)
    old: Json = json.loads(existing["PipelineDefinition"]) if existing else NO_PIPELINE
    state = "updated" if existing else "created"
    if existing and is_current(session, existing, request.body):
        state = "unchanged"
    where = session.environment.name
    compiled = definition.load(session.root)
    written = _step_changes(compiled, apply_environment(compiled, session.environment))
    tables = [
        *_changes(old, new),
        Table("Code", ["", "file", "steps"], _code_changes(old, new)),
        Table(f"Settings of environments/{where}.toml in the steps", ["", "step", "field", "old", "new"], written),
    ]
    if existing and existing["RoleArn"] != session.names.role:
        row = ["~", "RoleArn", existing["RoleArn"], session.names.role]
        tables.append(Table("Pipeline", ["", "field", "old", "new"], [row]))
    title = f"pipeline {session.names.pipeline} in {where}: {state}"
    return Plan(title, _warnings(session.root), [table for table in tables if table.rows])


def plan_against(root: Path, environment: str, revision: str) -> Plan:
    """Compare the working tree with a git revision, both as `sagegate run` would upsert them.

    Raises SagegateError if git has no such revision, or the working tree has an error.
    """
    commit = _commit(root, revision)
    settings = load_settings(root)
    warnings = _warnings(root)
    new = _offline_definition(root, environment)
    with tempfile.TemporaryDirectory() as folder:
        previous = Path(folder)
        with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", "--format=tar", commit))) as tar:
            tar.extractall(previous, filter="data")
        source = settings.data.source
        if not source.startswith("s3://") and not (previous / source).exists():  # data that git ignores
            (previous / source).symlink_to(root / source)
        try:
            old = _offline_definition(previous, environment, is_checked=False)
        except SagegateError as error:
            warnings.append(f"{revision} has no usable pipeline, so everything counts as new: {error}")
            old = NO_PIPELINE
        tables = [
            *_changes(old, new),
            Table("Code", ["", "file", "steps"], _code_changes(old, new, previous, root)),
        ]
    tables = [table for table in tables if table.rows]
    counts = ", ".join(f"{table.heading.lower()} {len(table.rows)}" for table in tables)
    summary = f"changes in {counts}" if counts else "nothing changes"
    title = f"pipeline {settings.project.name}, {environment}, against {revision} ({commit[:7]}): {summary}"
    return Plan(title, warnings, tables)


def _warnings(root: Path) -> list[str]:
    return [STALE] if definition.is_stale(root, load_settings(root)) else []


def _offline_definition(root: Path, environment_name: str, is_checked: bool = True) -> Json:
    """Return the definition that `sagegate run` would upsert, without the commit, which always differs."""
    session = Session(root, load_settings(root), load_environment(root, environment_name))  # needs no clients
    body: Json = json.loads(prepare(session, RunOptions(), is_checked).body)
    return {**body, "Parameters": [p for p in body["Parameters"] if p["Name"] != "CodeCommit"]}


def _changes(old: Json, new: Json) -> Iterator[Table]:
    before, after = ({p["Name"]: p for p in body.get("Parameters") or []} for body in (old, new))
    rows = []
    code = code_parameters(new)  # _code_changes names the files
    for name in [*after, *(name for name in before if name not in after)]:
        if before.get(name) != after.get(name) and name not in code:
            rows.append(_row([name], _default(before.get(name)), _default(after.get(name))))
    yield Table("Parameters", ["", "parameter", "old", "new"], rows)
    yield Table("Steps", ["", "step", "field", "old", "new"], _step_changes(old, new))


def _default(parameter: Json | None) -> Any:
    """Return a parameter's default, with its type if the text alone does not show that."""
    return None if parameter is None else parameter.get("DefaultValue", f"({parameter['Type']})")


def _step_changes(old: Json, new: Json) -> list[list[str]]:
    """Return a row for each step that is added or removed, and for each field of a step that changes."""
    before, after = steps_of(old), steps_of(new)
    rows = []
    for name in [*after, *(name for name in before if name not in after)]:
        if name not in before or name not in after:
            rows.append(["+" if name in after else "-", name, "", "", ""])
            continue
        old_fields, new_fields = (dict(_fields(_content(steps[name]))) for steps in (before, after))
        for path in [*new_fields, *(path for path in old_fields if path not in new_fields)]:
            if old_fields.get(path) != new_fields.get(path):
                rows.append(_row([name, path], old_fields.get(path), new_fields.get(path)))
    return rows


def _content(step: Step) -> Json:
    """Return a step's fields without nested steps, and the branch that it is in."""
    return {**step.body, "Arguments": step.arguments, "Branch": list(step.branch or ())}


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of each field; a reference is one value."""
    if isinstance(value, dict) and value and not {"Get", "Std:Join", "Std:JsonGet"} & value.keys():
        for key, item in value.items():
            yield from _fields(item, f"{path}.{key}".removeprefix(".").removeprefix("Arguments."))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            name = next((item[key] for key in NAME_KEYS if key in item), index) if isinstance(item, dict) else index
            yield from _fields(item, f"{path}[{name}]")
    else:
        yield path, value


def _code_changes(old: Json, new: Json, previous: Path | None = None, root: Path | None = None) -> list[list[str]]:
    """Return a row for each changed file with the steps that run it; without the folders, for each changed script."""
    before, after = ({p["Name"]: p.get("DefaultValue") for p in body.get("Parameters") or []} for body in (old, new))
    users: dict[tuple[str, str], list[str]] = {}
    for parameter, (script, _) in code_parameters(new).items():
        if before.get(parameter) in (None, after[parameter]):
            continue
        changed = [("~", f"model/{script} or what it imports")]
        if previous and root:
            files, new_files = package(previous, script).files, package(root, script).files
            differing = [name for name in sorted(files | new_files) if files.get(name) != new_files.get(name)]
            changed = [(_mark(files.get(name), new_files.get(name)), f"model/{name}") for name in differing]
        for step in steps_of(new).values():
            if any(r.kind == "Parameters" and r.path == parameter for r in references(step.arguments)):
                for entry in changed:
                    users.setdefault(entry, []).append(step.name)
    return [[mark, file, ", ".join(steps)] for (mark, file), steps in users.items()]


def _row(place: list[str], old: Any, new: Any) -> list[str]:
    return [_mark(old, new), *place, _text(old), _text(new)]


def _mark(old: Any, new: Any) -> str:
    return "+" if old is None else "-" if new is None else "~"


def _text(value: Any) -> str:
    """Return a value on one line; the end of a long URI, which differs, and the start of other long texts."""
    if value is None:
        return ""
    if isinstance(value, dict) and set(value) == {"Get"}:
        return str(value["Get"])
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= LONG_VALUE:
        return text
    return f"…{text[-LONG_VALUE:]}" if text.startswith(("s3://", "arn:")) else f"{text[:LONG_VALUE]}…"


def _commit(root: Path, revision: str) -> str:
    """Return the commit that a revision names."""
    try:
        found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
    except SagegateError as error:
        if "not a git repository" in str(error):
            raise
        hint = "name a commit, tag or branch of this clone (in a workflow, check out with fetch-depth: 0)"
        raise SagegateError(f"git knows no revision {revision!r}: {hint}", USAGE) from None
    return found.decode().strip()


def _git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True)
    except FileNotFoundError:
        raise SagegateError("git is not installed: `sagegate plan --against` needs it", USAGE) from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise SagegateError(f"git {arguments[0]}: {lines[0].removeprefix('fatal: ')}", USAGE)
    return done.stdout
