"""`mlops plan`: what `mlops run` would change, run and store; or what a change does, against another git revision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.aws import Door
from mlops.definitions import definition
from mlops.definitions.code import code_parameters, package
from mlops.definitions.difference import CHANGED, Change, Difference, compare, render
from mlops.files import split_uri
from mlops.outline import Outline, Section
from mlops.plans.forecast import CACHED, Forecast, forecast
from mlops.plans.packages import file_changes, stored
from mlops.runs import upsert
from mlops.runs.run import How, Plan
from mlops.runs.run import plan as plan_run
from mlops.settings import load_settings

Json = dict[str, Any]
MARKS = {"added": "+", "removed": "-", "changed": "~"}
LABEL = "CodeCommit"  # the parameter that each commit changes
STALE = (
    "pipeline/pipeline.py or the names in [hyperparameters] changed since pipeline/definition.json was compiled: this "
    "is the plan of the old definition. `mlops compile` brings it up to date, and `mlops run` does so by itself"
)


@dataclass(frozen=True)
class Upload:
    """Something that is not in the bucket yet: code or data, what it is, its bytes, which files of it changed."""

    kind: str
    what: str
    size: int
    changed: str


def plan(root: Path, door: Door) -> Outline:
    """Compared with the pipeline that is there. Reads only; raises MlopsError for what `mlops run` would refuse."""
    remarks = stale_remarks(root)
    planned = plan_run(root, door, {}, How())
    body = json.loads(planned.body)
    existing = upsert.describe(door)
    before = json.loads(existing["PipelineDefinition"]) if existing else None
    difference = compare(before, body) if before else Difference()
    role = existing["RoleArn"] if existing else door.names.role
    if role != door.names.role:
        difference.rest.append(Change(CHANGED, "RoleArn", role, door.names.role))
    upload = list(uploads(root, door, planned, body, before))
    runs = forecasts(root, door, planned, body)
    where = door.environment.name
    if existing is None:
        count = len(definition.steps_of(body))
        title = f"there is no pipeline {door.names.pipeline} in {where} yet: `mlops run{door.option}` creates it"
        title += f", with {count} steps and {len(body['Parameters'])} parameters"
    else:
        title = f"pipeline {door.names.pipeline} in {where}: {summary(difference, bool(upload))}"
    is_same = existing is not None and not without_label(difference) and not upload
    if is_same and all(f.verdict == CACHED or f.is_certain for f in runs):
        names = ", ".join(f.step for f in runs if f.verdict == CACHED)
        return Outline(f"{title}; {names} would take their cached results", remarks, [])
    return Outline(title, remarks, [*difference_sections(difference), *run_section(runs), *upload_section(upload)])


def stale_remarks(root: Path) -> list[str]:
    """The warning about a definition that does not fit its source any more."""
    if not definition.path_of(root).is_file():  # what follows says so
        return []
    return [STALE] if definition.is_stale(root, load_settings(root)) else []


def summary(difference: Difference, stores: bool) -> str:
    """One line: how much changes."""
    parameters = without_label(difference).parameters
    counts = [
        (len(difference.added), "steps added"),
        (len(difference.removed), "steps removed"),
        (len(difference.steps), "steps changed"),
        (len(parameters), "parameters changed"),
        (len(difference.rest), "other fields changed"),
    ]
    said = [f"{count} {what.replace('s ', ' ', 1) if count == 1 else what}" for count, what in counts if count]
    if said:
        return ", ".join(said)
    if stores:
        return "nothing changes, but there is code or data to store again"
    return "nothing changes but the commit that it is labelled with" if difference.parameters else "nothing changes"


def without_label(difference: Difference) -> Difference:
    """Without the commit, which is another one after each commit and changes nothing that runs."""
    return replace(difference, parameters=[c for c in difference.parameters if c.path != LABEL])


def difference_sections(difference: Difference) -> Iterator[Section]:
    """Parameters, then steps, each field with its old and new value."""
    columns = ["", "parameter", "old", "new"]
    if difference.parameters:
        yield Section("Parameters", columns, [change_row(c) for c in difference.parameters], (1, 2, 3))
    rows = [[MARKS["added"], name, "", "", ""] for name in difference.added]
    rows += [[MARKS["removed"], name, "", "", ""] for name in difference.removed]
    rows += [[r[0], name, *r[1:]] for name, found in difference.steps.items() for r in map(change_row, found)]
    rows += [[r[0], "(pipeline)", *r[1:]] for r in map(change_row, difference.rest)]
    if rows:
        yield Section("Steps", ["", "step", "field", "old", "new"], rows, (2, 3, 4))


def change_row(change: Change) -> list[str]:
    """Its mark, place, old and new value."""
    old = "" if change.old is None else render(change.old)
    new = "" if change.new is None else render(change.new)
    return [MARKS[change.kind], change.path, old, new]


def forecasts(root: Path, door: Door, planned: Plan, body: Json) -> list[Forecast]:
    """What becomes of each step of the next execution."""
    from mlops.plans.history import local_results, successes

    steps = definition.steps_of(body)
    values = definition.parameter_values(body, planned.overrides)
    earlier = successes(door, steps, values)
    has_result = local_results(root, door, values) if door.environment.is_local else None
    return list(forecast(steps, values, earlier, datetime.now(UTC), has_result))


def run_section(found: list[Forecast], heading: str = "The next execution") -> list[Section]:
    """The steps, the cached ones among them."""
    return [Section(heading, ["step", "", "why"], [[f.step, f.verdict, f.why] for f in found])] if found else []


def uploads(root: Path, door: Door, planned: Plan, body: Json, before: Json | None) -> Iterator[Upload]:
    """The code packages and data files that are not stored yet."""
    missing = set(upsert.missing_objects(door, list(planned.contents), f"{door.names.artifacts}/code/"))
    old, new = _defaults(before or {}), _defaults(body)
    for parameter, (script, _) in code_parameters(body).items():
        below = split_uri(new[parameter])[1]
        keys = [key for key in planned.contents if key.startswith(below)]
        if missing.isdisjoint(keys):
            continue
        former = stored(door, old[parameter]) if old.get(parameter) else None
        changed = "" if former is None else files_text(file_changes(former, package(root, script).files))
        size = sum(len(planned.contents[key]) for key in keys)
        yield Upload("code", f"{parameter}: model/{script} and what it imports", size, changed)
    if planned.data.files:
        prefix = split_uri(planned.data.uri)[1]
        files = {f"{prefix}/{name}": file for name, file in planned.data.files.items()}
        for key in upsert.missing_objects(door, list(files), f"{planned.data.uri}/"):
            yield Upload("data", key.removeprefix(f"{prefix}/"), files[key].stat().st_size, "")


def upload_section(found: list[Upload]) -> list[Section]:
    """What will be stored."""
    rows = [[upload.kind, upload.what, _size(upload.size), upload.changed] for upload in found]
    return [Section("To store", ["", "what", "size", "changed files"], rows)] if rows else []


def files_text(files: list[tuple[str, str]]) -> str:
    """The changed files of a package in one line."""
    return ", ".join(f"{MARKS[kind]} {name}" for kind, name in files)


def _defaults(body: Json) -> dict[str, Any]:
    return {p["Name"]: p.get("DefaultValue") for p in body.get("Parameters") or []}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
