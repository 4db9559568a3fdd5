"""A report of headed tables, for a terminal and as GitHub's Markdown. Pure but for the printing.
What differs between two pipeline definitions, field by field. Pure.

Elements of a list are matched by their name where they have one (InputName, ChannelName ...), so that a new input in
front of others is one addition; other lists are matched as texts are, by what stays the same.
Which files of a code package differ from those of the package that was there before.
Which steps of the next execution will take their result from the cache, which will run, and why. Pure.

A step's result is taken over if the arguments that count (sagegate/local/cache.py names them) are those of an earlier
success that has not expired ("Caching pipeline steps" in the SageMaker developer guide). References to other steps are
compared as they are written: they mean the same while the step that they name takes its own result over.
What earlier executions leave for the next one: each step's successes, and what this machine's cache holds.
`sagegate plan`: what `sagegate run` would change, run and store; or what a change does, against another git revision.
`sagegate plan --against REVISION`: what the working tree changes, without AWS and without credentials.

Both are planned as `sagegate run` would for the same environment, the revision from files that git gives.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from sagegate import output
from sagegate.config import Environment, load_environment, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import split_uri
from sagegate.local.cache import ATTRIBUTES, Cache, parse_duration
from sagegate.local.references import InvalidReference, Scope, resolve
from sagegate.local.storage import Store
from sagegate.names import Names
from sagegate.pipeline import definition
from sagegate.pipeline.code import ARCHIVE, code_parameters, package
from sagegate.pipeline.definition import Step, parameter_values, references, steps_of
from sagegate.runs import start as upsert
from sagegate.runs.executions import execution_definition, execution_steps, latest_executions
from sagegate.runs.start import RunOptions, RunRequest
from sagegate.runs.start import plan as plan_run
from sagegate.session import Session, pages

FOLDED = 12  # rows; longer tables are folded away in Markdown


@dataclass(frozen=True)
class Section:
    """A table under a heading; the columns of `code` hold values, which Markdown sets as code."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    code: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outline:
    """A title, remarks that the reader must see, and sections."""

    title: str
    remarks: list[str]
    sections: list[Section]


def to_terminal(outline: Outline) -> None:
    """Print it as tables."""
    output.line(outline.title)
    for remark in outline.remarks:
        output.line(f"! {remark}")
    for section in outline.sections:
        output.line("")
        output.line(section.heading)
        output.table(section.columns, section.rows)


def to_markdown(outline: Outline) -> str:
    """It as GitHub's Markdown; long tables folded."""
    parts = [f"### {outline.title}"]
    parts += [f"> [!WARNING]\n> {remark}" for remark in outline.remarks]
    for section in outline.sections:
        table = [_row(section.columns), _row(["---"] * len(section.columns))]
        table += [_row([_cell(c, i in section.code) for i, c in enumerate(row)]) for row in section.rows]
        text = "\n".join(table)
        if len(section.rows) > FOLDED:
            heading = f"{section.heading} ({len(section.rows)})"
            parts.append(f"<details><summary>{heading}</summary>\n\n{text}\n\n</details>")
        else:
            parts.append(f"**{section.heading}**\n\n{text}")
    return "\n\n".join(parts)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str, is_code: bool) -> str:
    """A cell: no line breaks, no column separators; outside of code nothing that Markdown or HTML would take up."""
    text = " ".join(text.split()).replace("|", "\\|")
    if is_code and text:
        return f"`{text.replace('`', chr(39))}`"
    return text.replace("<", "&lt;").replace(">", "&gt;")


Json = Any
NAMES = ("InputName", "OutputName", "ChannelName", "PropertyFileName", "StepName", "MetricName", "Name", "Key")
FUNCTIONS = ("Get", "Std:Join", "Std:JsonGet")
ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class Change:
    """One field: `path` is its place, such as `ProcessingInputs[data].S3Input.S3Uri`; `old` or `new` is None where the
    field is added or removed."""

    kind: str
    path: str
    old: Json = None
    new: Json = None


@dataclass(frozen=True)
class Difference:
    """Between an old and a new definition. `steps` holds each changed step's fields, `rest` what belongs to no step."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    steps: dict[str, list[Change]] = field(default_factory=dict)
    parameters: list[Change] = field(default_factory=list)
    rest: list[Change] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.steps, self.parameters, self.rest))


def compare(old: dict[str, Json], new: dict[str, Json]) -> Difference:
    """From one definition to the other; `Metadata` does not count, for no environment gets it."""
    before, after = steps_of(old), steps_of(new)
    both = [name for name in after if name in before]
    found = {name: list(changes(whole(before[name]), whole(after[name]))) for name in both}
    left = ("Steps", "Parameters", "Metadata")
    top_old, top_new = ({key: value for key, value in d.items() if key not in left} for d in (old, new))
    return Difference(
        added=[name for name in after if name not in before],
        removed=[name for name in before if name not in after],
        steps={name: changed for name, changed in found.items() if changed},
        parameters=list(changes(_parameters(old), _parameters(new))),
        rest=list(changes(top_old, top_new)),
    )


def whole(step: Step) -> dict[str, Json]:
    """A step without those nested in it, and with the branch that it is in."""
    body = {key: value for key, value in step.body.items() if key not in ("Name", "Arguments")}
    branch = {"Branch": f"{step.branch[0]} {'holds' if step.branch[1] else 'does not hold'}"} if step.branch else {}
    return body | branch | {"Arguments": step.arguments}


def changes(old: Json, new: Json, path: str = "") -> Iterator[Change]:
    """Every field that differs, in the order of the new value, removed ones last."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and not (_is_function(old) or _is_function(new)):
        yield from _of_dictionaries(old, new, lambda key: f"{path}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list):
        key = _name_key([*old, *new], old, new)
        if key:
            by_name = [{str(item[key]): item for item in items} for items in (old, new)]
            yield from _of_dictionaries(by_name[0], by_name[1], lambda name: f"{path}[{name}]")
        else:
            yield from _of_lists(old, new, path)
    else:
        yield Change(CHANGED, path, old, new)


def _of_dictionaries(old: dict[str, Json], new: dict[str, Json], place: Any) -> Iterator[Change]:
    for key, value in new.items():
        if key in old:
            yield from changes(old[key], value, place(key))
        else:
            yield Change(ADDED, place(key), None, value)
    for key, value in old.items():
        if key not in new:
            yield Change(REMOVED, place(key), value, None)


def _of_lists(old: list[Json], new: list[Json], path: str) -> Iterator[Change]:
    before, after = ([json.dumps(item, sort_keys=True) for item in items] for items in (old, new))
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        together = min(i2 - i1, j2 - j1)
        for offset in range(together):
            yield from changes(old[i1 + offset], new[j1 + offset], f"{path}[{j1 + offset}]")
        for index in range(j1 + together, j2):
            yield Change(ADDED, f"{path}[{index}]", None, new[index])
        for index in range(i1 + together, i2):
            yield Change(REMOVED, f"{path}[{index}]", old[index], None)


def _name_key(items: list[Json], old: list[Json], new: list[Json]) -> str | None:
    """The key by which the elements of two lists are told apart, if there is one."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for key in NAMES:
        if all(isinstance(item.get(key), str) for item in items):
            unique = all(len({item[key] for item in part}) == len(part) for part in (old, new))
            return key if unique else None
    return None


def _parameters(definition: dict[str, Json]) -> dict[str, Json]:
    """Parameters by name: the default, or all of it if the type or the allowed values count too."""
    found: dict[str, Json] = {}
    for parameter in definition.get("Parameters") or []:
        name = parameter["Name"]
        found[name] = parameter.get("DefaultValue")
        found |= {f"{name} ({key})": parameter[key] for key in ("Type", "EnumValues") if key in parameter}
    return found


def _is_function(value: dict[str, Json]) -> bool:
    return len(value) == 1 and next(iter(value)) in FUNCTIONS


def render(value: Json, width: int = 90) -> str:
    """A value for a reader: references as what they refer to, long S3 URIs by their end."""
    return _short(_text(value), width)


def _text(value: Json) -> str:
    if isinstance(value, dict) and set(value) == {"Get"}:
        return str(value["Get"])
    if isinstance(value, dict) and set(value) == {"Std:Join"}:
        body = value["Std:Join"]
        return str(body.get("On", "")).join(_text(part) for part in body["Values"])
    if isinstance(value, dict) and set(value) == {"Std:JsonGet"}:
        body = value["Std:JsonGet"]
        return f"{_text(body.get('PropertyFile', body.get('S3Uri', '')))}:{body.get('Path')}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str, width: int) -> str:
    if text.startswith("s3://") and len(text) > width:  # the end tells more than the bucket
        *parents, end = text.rstrip("/").split("/")
        while len(f"s3://…/{parents[-1]}/{end}") <= width:
            end = f"{parents.pop()}/{end}"
        return f"s3://…/{end}"
    return text if len(text) <= width else f"{text[: width - 1]}…"


Files = dict[str, bytes]


def file_changes(old: Files, new: Files) -> list[tuple[str, str]]:
    """Each file that was added, removed or changed, by name."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            found.append((ADDED, name))
        elif name not in new:
            found.append((REMOVED, name))
        elif old[name] != new[name]:
            found.append((CHANGED, name))
    return found


def stored(session: Session, uri: str) -> Files | None:
    """The files of a package in the bucket, packed or not; None if it is not there any more."""
    bucket, key = split_uri(uri)
    if not key.endswith(ARCHIVE):
        listed = pages(session.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=f"{key}/")
        files = {item["Key"].removeprefix(f"{key}/"): _content(session, bucket, item["Key"]) for item in listed}
        return files or None
    try:
        content = _content(session, bucket, key)
    except session.s3.exceptions.NoSuchKey:
        return None
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = [(member.name, tar.extractfile(member)) for member in tar.getmembers() if member.isfile()]
        return {name: stream.read() for name, stream in members if stream}


def _content(session: Session, bucket: str, key: str) -> bytes:
    content: bytes = session.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


CACHED, RUNS = "cached", "runs"
SHOWN = 3


@dataclass(frozen=True)
class Success:
    """A step's earlier success: the arguments that count, with parameters filled in; where and when."""

    arguments: Json
    execution: str
    ended: datetime


@dataclass(frozen=True)
class Forecast:
    """What will become of a step: `cached`, `runs`, or for a step in a branch when it runs."""

    step: str
    verdict: str
    why: str
    is_certain: bool = False  # a step of a type that always runs


def counting(step: Step, parameters: dict[str, Json]) -> Json:
    """The arguments of a step that decide whether its cached result fits; None for a step that is never cached."""
    if step.type not in ATTRIBUTES:
        return None
    chosen = {name: step.arguments[name] for name in ATTRIBUTES[step.type] if name in step.arguments}
    return filled(chosen, parameters)


def filled(value: Json, parameters: dict[str, Json]) -> Json:
    """`value` with its pipeline parameters' values; references to steps and executions stay as they are."""
    if isinstance(value, list):
        return [filled(item, parameters) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Get"} and str(value["Get"]).startswith("Parameters."):
        return parameters.get(str(value["Get"]).removeprefix("Parameters."), value)
    if set(value) == {"Std:Join"}:
        parts = filled(value["Std:Join"]["Values"], parameters)
        if not any(isinstance(part, dict) for part in parts):
            return str(value["Std:Join"].get("On", "")).join(map(str, parts))
    return {key: filled(item, parameters) for key, item in value.items()}


def forecast(
    steps: dict[str, Step],
    parameters: dict[str, Json],
    successes: dict[str, list[Success]],
    now: datetime,
    has_result: Callable[[Step], bool] | None = None,
) -> Iterator[Forecast]:
    """Each step's, in an order in which they can run. `successes` are each step's, the latest first; `has_result` looks
    whether the cache of this machine, which compares contents too, holds the step's result."""
    running: set[str] = set()
    order = TopologicalSorter({name: step.depends_on & steps.keys() for name, step in steps.items()}).static_order()
    for step in (steps[name] for name in order):
        verdict, why = _of_step(step, parameters, successes.get(step.name, []), now, running, has_result)
        if verdict == RUNS:
            running.add(step.name)
        if step.branch:
            condition, holds = step.branch
            verdict = f"{verdict} if {condition} {'passes' if holds else 'does not pass'}"
        yield Forecast(step.name, verdict, why, step.type not in ATTRIBUTES)


def _of_step(
    step: Step,
    parameters: dict[str, Json],
    successes: list[Success],
    now: datetime,
    running: set[str],
    has_result: Callable[[Step], bool] | None,
) -> tuple[str, str]:
    arguments = counting(step, parameters)
    if arguments is None:
        return RUNS, f"steps of type {step.type} always do"
    config = step.body.get("CacheConfig") or {}
    if not config.get("Enabled"):
        return RUNS, "its cache is off (CacheConfig in pipeline/pipeline.py)"
    if not successes:
        return RUNS, "it has not succeeded before"
    same = next((success for success in successes if success.arguments == arguments), None)
    if same is None:
        return RUNS, _differences(successes[0].arguments, arguments)
    needed = sorted({r.step for r in references(arguments) if r.step} & running)
    if needed:
        unless = " (unless the outcome is the same to the byte)" if has_result else ""
        return RUNS, f"{' and '.join(needed)} {'run' if len(needed) > 1 else 'runs'}{unless}"
    expires = config.get("ExpireAfter")
    if expires and now - same.ended > parse_duration(expires):
        return RUNS, f"its result of {same.ended:%Y-%m-%d} is older than {expires}"
    if has_result and not has_result(step):
        return RUNS, "the contents of its inputs or the libraries here changed, or its cached result is gone"
    return CACHED, f"result of execution {same.execution}, {same.ended:%Y-%m-%d %H:%M}"


def _differences(old: Json, new: Json) -> str:
    found = list(changes(old, new))
    shown = [
        f"{c.path}: {'' if c.old is None else render(c.old, 40)} → {'' if c.new is None else render(c.new, 40)}"
        for c in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join([*shown, *more])


LOOK_BACK = 3  # executions; each costs three calls of an account-wide quota


def successes(session: Session, steps: dict[str, Step], parameters: Json) -> dict[str, list[Success]]:
    """Each step's successes, the latest first; looks no further than to the first that each step could take over."""
    found: dict[str, list[Success]] = {}
    wanted = {name: counting(step, parameters) for name, step in steps.items()}
    for summary in latest_executions(session, LOOK_BACK):
        arn = summary["PipelineExecutionArn"]
        body = execution_definition(session, arn)
        given = _given(session, arn)
        declared = {p["Name"] for p in body.get("Parameters") or []}
        values = parameter_values(body, {name: value for name, value in given.items() if name in declared})
        bodies = steps_of(body)
        for record in execution_steps(session, arn):
            name = record["StepName"]
            if record["StepStatus"] != "Succeeded" or name not in bodies or "SelectiveExecutionResult" in record:
                continue
            arguments = counting(bodies[name], values)
            if arguments is not None:
                source, ended = _source(session, arn, record)
                found.setdefault(name, []).append(Success(arguments, source.rpartition("/")[2], ended))
        if all(any(s.arguments == wanted[n] for s in found.get(n, [])) for n in wanted if wanted[n] is not None):
            break
    return found


def _given(session: Session, arn: str) -> Json:
    call = session.sagemaker.list_pipeline_parameters_for_execution
    return {p["Name"]: p["Value"] for p in pages(call, "PipelineParameters", PipelineExecutionArn=arn)}


def _source(session: Session, arn: str, record: Json) -> tuple[str, datetime]:
    """The execution that a step's result is from, and when it was made: a cached result keeps its age."""
    source = record.get("CacheHitResult", {}).get("SourcePipelineExecutionArn")
    if source and source != arn:
        for original in execution_steps(session, source):
            if original["StepName"] == record["StepName"] and "EndTime" in original:
                return str(source), original["EndTime"]
    return str(source or arn), record["EndTime"]


def local_results(root: Path, session: Session, parameters: Json) -> Callable[[Step], bool]:
    """A function that tells whether this machine's cache holds the result of a step; asked in the steps' order."""
    cache = Cache(root / ".mlops" / "cache", session.s3)
    execution = {
        "PipelineName": session.names.pipeline,
        "PipelineArn": session.names.pipeline_arn,
        **{name: "-" for name in ("PipelineExecutionId", "PipelineExecutionArn", "StartDateTime", "CurrentDateTime")},
    }
    scope = Scope(parameters, execution)

    def has_result(step: Step) -> bool:
        try:
            arguments = resolve(step.arguments, scope)
        except InvalidReference:
            return False
        key = cache.key(session.names.pipeline_arn, step.name, step.type, arguments)
        entry = cache.find(key, (step.body.get("CacheConfig") or {}).get("ExpireAfter"))
        if entry:
            scope.steps[step.name] = entry["Properties"]
        return entry is not None

    return has_result


MARKS = {"added": "+", "removed": "-", "changed": "~"}
LABEL = "CodeCommit"  # the parameter that each commit changes
STALE = (
    "pipeline/pipeline.py or the names in [hyperparameters] changed since pipeline/definition.json was compiled: this "
    "is the plan of the old definition. `sagegate compile` brings it up to date, and `sagegate run` does so by itself"
)


@dataclass(frozen=True)
class Upload:
    """Something that is not in the bucket yet: code or data, what it is, its bytes, which files of it changed."""

    kind: str
    what: str
    size: int
    changed: str


def plan(root: Path, session: Session) -> Outline:
    """Compared with the pipeline that is there. Reads only; raises SagegateError for what `sagegate run` would refuse."""
    remarks = stale_remarks(root)
    planned = plan_run(root, session, {}, RunOptions())
    body = json.loads(planned.body)
    existing = upsert.describe_pipeline(session)
    before = json.loads(existing["PipelineDefinition"]) if existing else None
    difference = compare(before, body) if before else Difference()
    role = existing["RoleArn"] if existing else session.names.role
    if role != session.names.role:
        difference.rest.append(Change(CHANGED, "RoleArn", role, session.names.role))
    upload = list(uploads(root, session, planned, body, before))
    runs = forecasts(root, session, planned, body)
    where = session.environment.name
    if existing is None:
        count = len(definition.steps_of(body))
        title = (
            f"there is no pipeline {session.names.pipeline} in {where} yet: `sagegate run{session.option}` creates it"
        )
        title += f", with {count} steps and {len(body['Parameters'])} parameters"
    else:
        title = f"pipeline {session.names.pipeline} in {where}: {summary(difference, bool(upload))}"
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


def forecasts(root: Path, session: Session, planned: RunRequest, body: Json) -> list[Forecast]:
    """What becomes of each step of the next execution."""

    steps = definition.steps_of(body)
    values = definition.parameter_values(body, planned.overrides)
    earlier = successes(session, steps, values)
    has_result = local_results(root, session, values) if session.environment.is_local else None
    return list(forecast(steps, values, earlier, datetime.now(UTC), has_result))


def run_section(found: list[Forecast], heading: str = "The next execution") -> list[Section]:
    """The steps, the cached ones among them."""
    return [Section(heading, ["step", "", "why"], [[f.step, f.verdict, f.why] for f in found])] if found else []


def uploads(root: Path, session: Session, planned: RunRequest, body: Json, before: Json | None) -> Iterator[Upload]:
    """The code packages and data files that are not stored yet."""
    missing = set(upsert.missing_objects(session, list(planned.contents), f"{session.names.artifacts}/code/"))
    old, new = _defaults(before or {}), _defaults(body)
    for parameter, (script, _) in code_parameters(body).items():
        below = split_uri(new[parameter])[1]
        keys = [key for key in planned.contents if key.startswith(below)]
        if missing.isdisjoint(keys):
            continue
        former = stored(session, old[parameter]) if old.get(parameter) else None
        changed = "" if former is None else files_text(file_changes(former, package(root, script).files))
        size = sum(len(planned.contents[key]) for key in keys)
        yield Upload("code", f"{parameter}: model/{script} and what it imports", size, changed)
    if planned.data.files:
        prefix = split_uri(planned.data.uri)[1]
        files = {f"{prefix}/{name}": file for name, file in planned.data.files.items()}
        for key in upsert.missing_objects(session, list(files), f"{planned.data.uri}/"):
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


READ = ("mlops.toml", "environments", "pipeline", "model")


def against(root: Path, environment: str, revision: str) -> Outline:
    """Compared with a git revision; raises SagegateError if there is no such revision or the working tree has a fault."""
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
        except SagegateError as error:
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
    """The pipeline as `sagegate run` would have it."""
    project = load_settings(root).project.name
    names = Names(project, environment.name, environment.account_id, environment.region)
    session = Session(environment, names, Store(root / ".mlops" / "s3").file_digest)  # it is not asked for clients
    body: Json = json.loads(plan_run(root, session, {}, RunOptions()).body)
    return body


def _commit(root: Path, revision: str) -> str:
    """The commit that a revision names."""
    try:
        return (
            _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}").decode().strip()
        )
    except SagegateError as error:
        if "not a git repository" in str(error):
            raise
        hint = "name a commit, tag or branch that is here (in a workflow, check out with fetch-depth: 0)"
        raise SagegateError(f"git knows no revision {revision!r}: {hint}", USAGE) from None


def _export(root: Path, commit: str, paths: list[str], folder: Path) -> None:
    """Write those of `paths` that the revision has into `folder`."""
    listed = _git(root, "ls-tree", "--name-only", commit, "--", *paths).decode().split("\n")
    existing = [path for path in listed if path]
    if not existing:
        raise SagegateError(f"commit {commit[:12]} has nothing of this project: name a revision that has", USAGE)
    packed = _git(root, "archive", "--format=tar", commit, "--", *existing)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")


def _git(root: Path, *arguments: str) -> bytes:
    try:
        command = ["git", "-c", "core.quotePath=off", *arguments]
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        raise SagegateError(
            "git is not installed: `sagegate plan --against` reads the revision with it", USAGE
        ) from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise SagegateError(f"git {arguments[0]}: {said[0].removeprefix('fatal: ')}", USAGE)
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
