"""Resolve the references of a definition: parameters, execution variables, step properties, Std:Join, Std:JsonGet.

Source: "Pipeline definition" and "Pass data between steps" in the SageMaker developer guide.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from sagegate.files import Json
from sagegate.local.storage import NoSuchKey, Store
from sagegate.pipeline.definition import PATH_PART, Reference, Step, parse_get, references

NAME_KEYS = ("OutputName", "InputName", "ChannelName", "MetricName", "Name")


class InvalidReference(Exception):
    """A reference without a value; the message is one line that names the reference."""


@dataclass(frozen=True)
class Scope:
    """Values that references can use while an execution runs.

    `properties` holds the properties of each finished step, in the shape of its Describe* response.
    """

    parameters: Json
    execution: Json
    steps: dict[str, Step]
    properties: dict[str, Json]
    store: Store


def resolve(value: Any, scope: Scope) -> Any:
    """Return `value` with every reference in it replaced. Raises InvalidReference."""
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Get"}:
        return _resolve_get(value["Get"], scope)
    if set(value) == {"Std:Join"}:
        parts = resolve(value["Std:Join"]["Values"], scope)
        separator = str(value["Std:Join"].get("On", ""))
        return separator.join(part if isinstance(part, str) else json.dumps(part) for part in parts)
    if set(value) == {"Std:JsonGet"}:
        return _resolve_json_get(value, scope)
    return {key: resolve(item, scope) for key, item in value.items()}


def _resolve_get(expression: str, scope: Scope) -> Any:
    reference = parse_get(expression)
    if reference.step:
        if reference.step not in scope.properties:
            raise InvalidReference(f"{expression}: step {reference.step} has not run, so it has no properties")
        return _follow_path(scope.properties[reference.step], reference.path, expression)
    values = scope.parameters if reference.kind == "Parameters" else scope.execution
    if reference.path not in values:
        raise InvalidReference(f"{expression}: there is no such value")
    return values[reference.path]


def _resolve_json_get(value: Json, scope: Scope) -> Any:
    body = value["Std:JsonGet"]
    if "S3Uri" in body:
        uri = label = str(resolve(body["S3Uri"], scope))
    else:
        uri, label = _property_file(next(references(value)), scope)
    try:
        content = scope.store.read(uri)
    except NoSuchKey:
        raise InvalidReference(f"{label} does not exist: the step that should write it did not") from None
    return _follow_path(_parse_json(content, label), body["Path"], f"{label} {body['Path']}")


def _property_file(reference: Reference, scope: Scope) -> tuple[str, str]:
    """Return the S3 URI of a property file, and a label for messages."""
    step, name = str(reference.step), reference.path.partition(":")[0]
    if step not in scope.properties:
        raise InvalidReference(f"property file {name} of step {step}: the step has not run")
    file = next(f for f in scope.steps[step].body["PropertyFiles"] if f["PropertyFileName"] == name)
    outputs = scope.properties[step]["ProcessingOutputConfig"]["Outputs"]
    output = next(o for o in outputs if o["OutputName"] == file["OutputName"])
    uri = f"{output['S3Output']['S3Uri'].rstrip('/')}/{file['FilePath']}"
    return uri, f"property file {name} of step {step} ({file['FilePath']})"


def _parse_json(content: bytes, label: str) -> Any:
    """Parse strict JSON: SageMaker rejects NaN and Infinity. A number that no float can hold would become infinite."""

    def reject(constant: str) -> None:
        raise InvalidReference(f"{label} holds {constant}, which is not JSON: write only finite numbers")

    def finite(text: str) -> float:
        if not math.isfinite(float(text)):
            raise InvalidReference(f"{label} holds {text[:20]}, which is too large: write only finite numbers")
        return float(text)

    try:
        return json.loads(content, parse_constant=reject, parse_float=finite)
    except ValueError as error:
        raise InvalidReference(f"{label} is not JSON: {error}") from None


def _follow_path(value: Any, path: str, label: str) -> Any:
    """Return the part of `value` at a path such as `a.b[0]['name']`; a list element is found by its index or name."""
    path = path.removeprefix("$").lstrip(".")
    position = 0
    while position < len(path):
        part = PATH_PART.match(path, position)
        if not part:
            raise InvalidReference(f"{label}: cannot read {path[position:]!r}")
        position = part.end()
        key = next(group for group in part.groups() if group is not None)
        value = _child(value, key, part[2] is not None, label)
    return value


def _child(value: Any, key: str, is_index: bool, label: str) -> Any:
    if isinstance(value, dict):
        if key in value:
            return value[key]
        available = ", ".join(map(str, value)) or "nothing"
    elif isinstance(value, list):
        if is_index and int(key) < len(value):
            return value[int(key)]
        for item in value:
            if isinstance(item, dict) and any(item.get(name) == key for name in NAME_KEYS):
                return item
        available = f"{len(value)} elements"
    else:
        available = json.dumps(value)
    raise InvalidReference(f"{label}: there is no {key!r}; found {available[:200]}")
