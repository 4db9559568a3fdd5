"""What references in a definition mean: parameters, execution variables, step properties, Std:Join, Std:JsonGet.

Pure: a scope in, a value out. Source: "Pipeline definition" and "Pass data between steps" in the SageMaker developer
guide. Errors name the reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sagegate.pipeline.definition import PATH_PART, negated, parse_get

Json = Any
NAME_KEYS = ("OutputName", "InputName", "ChannelName", "MetricName", "Name")


class InvalidReference(Exception):
    """A reference that leads nowhere; one line that names it."""


@dataclass
class Scope:
    """What references can see while an execution goes on.

    `steps` holds each finished step's properties, in the shape of its Describe* response; `read_json` reads the
    property file (step, name) or the object at an S3 URI.
    """

    parameters: dict[str, Json]
    execution: dict[str, Json]
    steps: dict[str, Json] = field(default_factory=dict)
    property_file: Callable[[str, str], Json] = lambda step, name: None
    s3_json: Callable[[str], Json] = lambda uri: None


def resolve(value: Json, scope: Scope) -> Json:
    """`value` with every reference in it replaced by what it refers to."""
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Get"}:
        return _get(value["Get"], scope)
    if set(value) == {"Std:Join"}:
        body = value["Std:Join"]
        parts = resolve(body["Values"], scope)
        return str(body.get("On", "")).join(as_text(part) for part in parts)
    if set(value) == {"Std:JsonGet"}:
        return _json_get(value["Std:JsonGet"], scope)
    return {key: resolve(item, scope) for key, item in value.items()}


def as_text(value: Json) -> str:
    """A value inside a Std:Join: text as it is, numbers as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value)


def _get(expression: str, scope: Scope) -> Json:
    reference = parse_get(expression)
    if reference.kind == "Steps":
        step = str(reference.step)
        if step not in scope.steps:
            raise InvalidReference(f"{expression}: step {step} has not run, so it has no properties")
        return walk(scope.steps[step], reference.path, expression)
    values = scope.parameters if reference.kind == "Parameters" else scope.execution
    if reference.path not in values:
        raise InvalidReference(f"{expression}: there is no such {reference.kind.rstrip('s').lower()} value")
    return values[reference.path]


def _json_get(body: dict[str, Json], scope: Scope) -> Json:
    path = body["Path"]
    if "S3Uri" in body:
        uri = resolve(body["S3Uri"], scope)
        return walk(scope.s3_json(uri), path, f"{uri} {path}")
    file = body["PropertyFile"]
    step, _, name = str(file["Get"]).removeprefix("Steps.").partition(".PropertyFiles.")
    return walk(scope.property_file(step, name), path, f"property file {name} of step {step}: {path}")


def walk(value: Json, path: str, shown: str) -> Json:
    """Follow `a.b[0]['name']` into `value`; a list is entered by index or by the name of its element."""
    position = 0
    path = path.removeprefix("$").lstrip(".")
    while position < len(path):
        token = PATH_PART.match(path, position)
        if not token:
            raise InvalidReference(f"{shown}: cannot read {path[position:]!r}")
        position = token.end()
        key = next(group for group in token.groups() if group is not None)
        value = _enter(value, key, token[2] is not None, shown)
    return value


def _enter(value: Json, key: str, is_index: bool, shown: str) -> Json:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and is_index and int(key) < len(value):
        return value[int(key)]
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict) and any(item.get(name) == key for name in NAME_KEYS):
                return item
    if isinstance(value, dict):
        has = ", ".join(map(str, value)) or "nothing"
    else:
        has = f"{len(value)} elements" if isinstance(value, list) else json.dumps(value)
    raise InvalidReference(f"{shown}: there is no {key!r}; found {has[:200]}")


def parse_json(content: bytes, shown: str) -> Json:
    """JSON as the standard has it: NaN and Infinity are refused, as SageMaker refuses them."""

    def refuse(constant: str) -> Json:
        raise InvalidReference(f"{shown} holds {constant}, which is not JSON: write only finite numbers")

    try:
        return json.loads(content, parse_constant=refuse)
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidReference(f"{shown} is not JSON: {error}") from None


def holds(condition: dict[str, Json], scope: Scope) -> bool:
    """Whether a condition of a ConditionStep is true. Comparing text with a number is an error, never False."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(negated(condition), scope)
    if kind == "Or":
        return any(holds(inner, scope) for inner in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], scope) in resolve(condition["Values"], scope)
    left, right = resolve(condition["LeftValue"], scope), resolve(condition["RightValue"], scope)
    if _family(left) != _family(right):
        raise InvalidReference(f"{kind}: cannot compare {json.dumps(left)} with {json.dumps(right)}")
    if kind == "Equals":
        return bool(left == right)
    compare = {
        "GreaterThan": lambda: left > right,
        "GreaterThanOrEqualTo": lambda: left >= right,
        "LessThan": lambda: left < right,
        "LessThanOrEqualTo": lambda: left <= right,
    }
    if kind not in compare:
        raise InvalidReference(f"condition type {kind!r} is not one of SageMaker's")
    if _family(left) != "number":
        raise InvalidReference(f"{kind}: {json.dumps(left)} is not a number")
    return bool(compare[kind]())


def _family(value: Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__
