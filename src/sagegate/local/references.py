"""Resolve the references of a definition: parameters, execution variables, step properties, Std:Join, Std:JsonGet.

Source: "Pipeline definition" and "Pass data between steps" in the SageMaker developer guide.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sagegate.files import Json
from sagegate.pipeline.definition import PATH_PART, parse_get

NAME_KEYS = ("OutputName", "InputName", "ChannelName", "MetricName", "Name")


class InvalidReference(Exception):
    """A reference without a value; the message is one line that names the reference."""


@dataclass
class Scope:
    """Values that references can use while an execution runs.

    `steps` holds each finished step's properties, in the shape of its Describe* response. `property_file` reads a
    property file by its step and name; `s3_json` reads the JSON object at an S3 URI.
    """

    parameters: Json
    execution: Json
    steps: dict[str, Json] = field(default_factory=dict)
    property_file: Callable[[str, str], Any] = lambda step, name: None
    s3_json: Callable[[str], Any] = lambda uri: None


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
        return _resolve_json_get(value["Std:JsonGet"], scope)
    return {key: resolve(item, scope) for key, item in value.items()}


def _resolve_get(expression: str, scope: Scope) -> Any:
    reference = parse_get(expression)
    if reference.kind == "Steps":
        step = str(reference.step)
        if step not in scope.steps:
            raise InvalidReference(f"{expression}: step {step} has not run, so it has no properties")
        return follow_path(scope.steps[step], reference.path, expression)
    values = scope.parameters if reference.kind == "Parameters" else scope.execution
    if reference.path not in values:
        raise InvalidReference(f"{expression}: there is no such {reference.kind.rstrip('s').lower()} value")
    return values[reference.path]


def _resolve_json_get(body: Json, scope: Scope) -> Any:
    path = body["Path"]
    if "S3Uri" in body:
        uri = resolve(body["S3Uri"], scope)
        return follow_path(scope.s3_json(uri), path, f"{uri} {path}")
    step, _, name = str(body["PropertyFile"]["Get"]).removeprefix("Steps.").partition(".PropertyFiles.")
    return follow_path(scope.property_file(step, name), path, f"property file {name} of step {step}: {path}")


def follow_path(value: Any, path: str, label: str) -> Any:
    """Return the part of `value` at a path such as `a.b[0]['name']`.

    A list element is found by its index or its name. Raises InvalidReference, whose message begins with `label`.
    """
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


def parse_json(content: bytes, label: str) -> Any:
    """Parse strict JSON. Raises InvalidReference, also for NaN and Infinity, which SageMaker rejects."""

    def reject(constant: str) -> None:
        raise InvalidReference(f"{label} holds {constant}, which is not JSON: write only finite numbers")

    try:
        return json.loads(content, parse_constant=reject)
    except ValueError as error:
        raise InvalidReference(f"{label} is not JSON: {error}") from None
