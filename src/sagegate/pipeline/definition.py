"""The compiled pipeline definition: load it, detect that it is stale, walk its steps and references.

`pipeline/definition.json` is committed like a lock file. Its `Metadata.Source` is a digest of what it was compiled
from, so a stale file is detected without the SageMaker SDK. Schema: "Pipeline definition" in the SageMaker developer
guide, version 2020-12-01.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sagegate.config import Settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json
from sagegate.pipeline.document import check_document

VERSION = "2020-12-01"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a step, in AWS's JSON schema of pipeline definitions
# A part of a reference's path: .Name, [0], ['name'] or ["name"]
PATH_PART = re.compile(r"""\.?([A-Za-z0-9_-]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")


@dataclass(frozen=True)
class Step:
    """A step of the definition. For a nested step, `branch` is (its condition step, True in IfSteps)."""

    name: str
    type: str
    body: Json
    branch: tuple[str, bool] | None = None
    depends_on: frozenset[str] = frozenset()

    @property
    def arguments(self) -> Json:
        """The step's request, with references in it and without nested steps."""
        arguments = self.body.get("Arguments") or {}
        return {k: v for k, v in arguments.items() if not (self.type == "Condition" and k in ("IfSteps", "ElseSteps"))}


@dataclass(frozen=True)
class Reference:
    """A `Get` or `Std:JsonGet` in an argument.

    `kind` is Parameters, Execution, Steps, PropertyFile or S3Json; `path` what it reads there; `where` the argument
    that holds it, such as `ProcessingInputs[1].S3Input.S3Uri`; `step` the step that it needs, if any.
    """

    kind: str
    path: str
    where: str
    step: str | None = None


def path_of(root: Path) -> Path:
    """Return the path of the compiled definition of the project in `root`."""
    return root / "pipeline" / "definition.json"


def load(root: Path) -> Json:
    """Load the compiled definition; raise SagegateError if it is missing or broken."""
    try:
        definition = json.loads(path_of(root).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SagegateError("pipeline/definition.json is missing: run `sagegate compile`") from None
    except ValueError as error:
        raise SagegateError(f"pipeline/definition.json is not JSON ({error}): run `sagegate compile`") from None
    try:
        check_document(definition)
    except ValueError as error:
        raise SagegateError(f"pipeline/definition.json: {error}: run `sagegate compile`") from None
    return dict(definition)


def source_digest(root: Path, settings: Settings) -> str:
    """Return a digest of the definition's sources: pipeline.py, the hyperparameters' names and types, [tuning]."""
    try:
        text = (root / "pipeline" / "pipeline.py").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SagegateError("pipeline/pipeline.py is missing: restore it from git") from None
    parts = [text, json.dumps(settings.parameter_types(), sort_keys=True)]
    if settings.tuning:
        parts.append(json.dumps(settings.search(), sort_keys=True))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_stale(root: Path, settings: Settings) -> bool:
    """Return whether `pipeline/definition.json` must be compiled again.

    Raises SagegateError if a Float hyperparameter is written as a whole number: usually 2.0 was meant, not a new type.
    """
    if not path_of(root).is_file():
        return True
    compiled = load(root)
    if (compiled.get("Metadata") or {}).get("Source") == source_digest(root, settings):
        return False
    floats = {p.get("Name") for p in compiled.get("Parameters") or [] if p.get("Type") == "Float"}
    for name, value in settings.hyperparameters.items():
        if name in floats and type(value) is int:
            todo = f"write {value}.0, or run `sagegate compile` to make it an Integer"
            raise SagegateError(f"mlops.toml: hyperparameters.{name}: the pipeline has a Float there: {todo}", USAGE)
    return True


def steps_of(definition: Json) -> dict[str, Step]:
    """Return every step by name, nested ones included, in the order they are written.

    A step depends on the steps that its arguments and DependsOn name, and on the condition it is nested in.
    """
    steps: dict[str, Step] = {}
    for body, branch in _walk(definition["Steps"], None):
        name, kind = body.get("Name"), body.get("Type")
        if not isinstance(name, str) or not isinstance(kind, str):
            raise SagegateError(f"definition: a step lacks Name or Type: {json.dumps(body)[:80]}")
        if not NAME.fullmatch(name):
            raise SagegateError(f"definition: the step's name {name!r} must be 1 to 64 letters, digits, - and _")
        if name in steps:
            raise SagegateError(f"definition: two steps are named {name!r}: step names are unique in a pipeline")
        try:
            needs = {r.step for r in references(Step(name, kind, body).arguments) if r.step}
        except SagegateError as error:
            raise SagegateError(f"definition: step {name}: {error}") from None
        needs |= {needed for needed, _ in dependencies(body)} | ({branch[0]} if branch else set())
        steps[name] = Step(name, kind, body, branch, frozenset(needs))
    return steps


def _walk(bodies: list[Any], branch: tuple[str, bool] | None) -> Iterator[tuple[Json, tuple[str, bool] | None]]:
    for body in bodies:
        if not isinstance(body, dict):
            raise SagegateError(f"definition: a step is not an object: {json.dumps(body)[:80]}")
        yield body, branch
        if body.get("Type") == "Condition":
            arguments = body.get("Arguments") or {}
            yield from _walk(arguments.get("IfSteps") or [], (body["Name"], True))
            yield from _walk(arguments.get("ElseSteps") or [], (body["Name"], False))


def training_requests(kind: str, arguments: Json) -> list[Json]:
    """Return the requests of training jobs in the arguments of a Training or a Tuning step; none for other types."""
    if kind == "Tuning":  # one definition, or a list
        one = arguments.get("TrainingJobDefinition")
        return [*([one] if one else []), *(arguments.get("TrainingJobDefinitions") or [])]
    return [arguments] if kind == "Training" else []


def hyperparameters_of(request: Json) -> Json:
    """Return the hyperparameters in a training job's request; of a tuning job's, those that it does not search."""
    return request.get("HyperParameters") or request.get("StaticHyperParameters") or {}


def dependencies(body: Json) -> list[tuple[str, str]]:
    """Return a step's DependsOn as (step, Trigger); the trigger of a bare name is `Completed`."""
    entries = body.get("DependsOn") or []
    return [(e["Step"], e["Trigger"]) if isinstance(e, dict) else (e, "Completed") for e in entries]


def check_names(steps: dict[str, Step], names: list[str]) -> None:
    """Raise SagegateError if the pipeline lacks a step of `names`."""
    for name in names:
        if name not in steps:
            raise SagegateError(f"the pipeline has no step {name!r}: it has {', '.join(steps)}", USAGE)


def downstream(steps: dict[str, Step], name: str) -> frozenset[str]:
    """Return a step and every step that depends on it, directly or not."""
    check_names(steps, [name])
    selected = {name}
    while more := {step.name for step in steps.values() if step.depends_on & selected} - selected:
        selected |= more
    return frozenset(selected)


def references(value: Any, where: str = "") -> Iterator[Reference]:
    """Yield every reference in a step's arguments, in order; raise SagegateError for a malformed one."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from references(item, f"{where}[{index}]")
    elif isinstance(value, dict):
        if set(value) == {"Get"}:
            yield parse_get(value["Get"], where)
        elif set(value) == {"Std:JsonGet"}:
            yield from _json_get(value["Std:JsonGet"], where)
        else:
            for key, item in value.items():
                yield from references(item, where if key == "Std:Join" else f"{where}.{key}".lstrip("."))


def parse_get(expression: Any, where: str = "") -> Reference:
    """Parse `Parameters.X`, `Execution.X` or `Steps.NAME.path`."""
    head, _, rest = str(expression).partition(".")
    if head in ("Parameters", "Execution") and rest:
        return Reference(head, rest, where)
    match = re.fullmatch(r"([A-Za-z0-9_-]+)\.(.+)", rest)
    if head == "Steps" and match:
        return Reference("Steps", match[2], where, match[1])
    raise SagegateError(
        f"{where}: {expression!r} is not a reference: it must start with Parameters., Execution. or Steps."
    )


def _json_get(body: Json, where: str) -> Iterator[Reference]:
    path = str(body.get("Path", ""))
    if "PropertyFile" in body:
        file = body["PropertyFile"]
        name = file.get("Get") if isinstance(file, dict) else file
        match = re.fullmatch(r"Steps\.([A-Za-z0-9_-]+)\.PropertyFiles\.(.+)", str(name))
        if not match:
            raise SagegateError(f"{where}: {name!r} is not a property file: write Steps.STEP.PropertyFiles.NAME")
        yield Reference("PropertyFile", f"{match[2]}:{path}", where, match[1])
    elif "S3Uri" in body:
        yield Reference("S3Json", path, where)
        yield from references(body["S3Uri"], f"{where}.S3Uri")
    else:
        raise SagegateError(f"{where}: Std:JsonGet needs a PropertyFile or an S3Uri")


def with_defaults(definition: Json, values: Json) -> Json:
    """Return the definition to upsert: `values` as the parameters' defaults, and no Metadata.

    Raises SagegateError as `parameter_values` does.
    """
    found = parameter_values(definition, values)
    parameters = [{**p, "DefaultValue": found[p["Name"]]} for p in definition.get("Parameters") or []]
    return {**definition, "Metadata": {}, "Parameters": parameters}


def is_job_path(path: str) -> bool:
    """Return True for a path below /opt/ml without `.` and `..`, where SageMaker has a job's files."""
    return path.rstrip("/").startswith("/opt/ml/") and posixpath.normpath(path) == path.rstrip("/")


def parameter_values(definition: Json, overrides: Json) -> Json:
    """Return the value of each parameter of an execution.

    Raises SagegateError for an unknown, missing or mistyped parameter.
    """
    declared = {parameter["Name"]: parameter for parameter in definition.get("Parameters") or []}
    unknown = sorted(set(overrides) - set(declared))
    if unknown:
        near = get_close_matches(unknown[0], declared, n=3, cutoff=0.5) or list(declared)
        raise SagegateError(f"the pipeline has no parameter {unknown[0]!r}: did you mean {' or '.join(near)}?", USAGE)
    values = {}
    for name, parameter in declared.items():
        if name not in overrides and "DefaultValue" not in parameter:
            raise SagegateError(f"parameter {name} has no value: give it a default in pipeline/pipeline.py")
        values[name] = typed(parameter, overrides.get(name, parameter.get("DefaultValue")))
    return values


def typed(parameter: Json, value: Any) -> Any:
    """Convert `value`, or its text, to the parameter's type; raise SagegateError if that is impossible."""
    name, kind = parameter["Name"], parameter["Type"]
    result: Any
    try:
        if kind == "String":
            result = str(value)
        elif kind == "Integer":
            result = int(value)
            if isinstance(value, bool) or result != float(value):
                raise ValueError
        elif kind == "Float":
            result = float(value)
        else:
            result = value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
    except (ValueError, TypeError, KeyError, OverflowError):
        hint = ": if mlops.toml has a fraction there now, run `sagegate compile`" if isinstance(value, float) else ""
        raise SagegateError(f"parameter {name} is {kind}: {value!r} is not one{hint}", USAGE) from None
    allowed = parameter.get("EnumValues")
    if allowed and result not in allowed:
        raise SagegateError(f"parameter {name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
    return result


def negated(condition: Json) -> Json:
    """Return the condition inside a Not: SDK v3 writes it as `Condition`, SDK v2 as `Expression`."""
    inner: Json = condition.get("Condition") or condition["Expression"]
    return inner
