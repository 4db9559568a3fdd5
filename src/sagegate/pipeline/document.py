"""The shape of a definition: which members it has, and of which type. All else reads it without looking again.

Source: "Pipeline definition" in the SageMaker developer guide, version 2020-12-01.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from sagegate.config import convert
from sagegate.files import Json


class Parameter(msgspec.Struct):
    """A pipeline parameter."""

    Name: str
    Type: str
    EnumValues: list[str | float] | None = None


class PropertyFile(msgspec.Struct):
    """A JSON file in an output, which conditions read."""

    PropertyFileName: str
    OutputName: str
    FilePath: str


class Dependency(msgspec.Struct):
    """A step to wait for, and the outcome to wait for."""

    Step: str
    Trigger: str


class CacheConfig(msgspec.Struct):
    """Settings of the reuse of a step's result."""

    Enabled: bool
    ExpireAfter: str | None = None


class RetryPolicy(msgspec.Struct):
    """Which errors of a step are tried again."""

    ExceptionType: list[str]
    BackoffRate: float | None = None
    IntervalSeconds: float | None = None
    MaxAttempts: int | None = None
    ExpireAfterMin: int | None = None


class Output(msgspec.Struct):
    """An output of a Lambda step."""

    OutputName: str
    OutputType: str


class Step(msgspec.Struct):
    """A step; its Arguments are the request of an operation."""

    Name: str
    Type: str
    Arguments: dict[str, Any] | None = None
    DependsOn: list[str | Dependency] | None = None
    PropertyFiles: list[PropertyFile] | None = None
    CacheConfig: CacheConfig | None = None
    RetryPolicies: list[RetryPolicy] | None = None
    OutputParameters: list[Output] | None = None


class Branches(msgspec.Struct):
    """The Arguments of a Condition step."""

    Conditions: list[dict[str, Any]]
    IfSteps: list[dict[str, Any]] | None = None
    ElseSteps: list[dict[str, Any]] | None = None


class ProcessingInput(msgspec.Struct):
    """An input of a processing job."""

    S3Input: dict[str, Any] | None = None


class ProcessingOutput(msgspec.Struct):
    """An output of a processing job."""

    OutputName: str
    S3Output: dict[str, Any] | None = None


class ProcessingOutputs(msgspec.Struct):
    """The outputs of a processing job."""

    Outputs: list[ProcessingOutput] | None = None


class Processing(msgspec.Struct):
    """The Arguments of a Processing step, as far as the checks of references read them."""

    ProcessingInputs: list[ProcessingInput] | None = None
    ProcessingOutputConfig: ProcessingOutputs | None = None


class Definition(msgspec.Struct):
    """The document."""

    Version: str
    Steps: list[dict[str, Any]]
    Parameters: list[Parameter] | None = None
    Metadata: dict[str, Any] | None = None


# The members of a condition by its type; all other types compare LeftValue with RightValue.
CONDITIONS = {"Or": {"Conditions"}, "In": {"QueryValue", "Values"}}


def check_document(definition: Any) -> None:
    """Raise ValueError, which names the place, unless the document has the shape of a pipeline definition."""
    convert(Definition, definition, "")
    for step, where in _steps(definition["Steps"], "Steps"):
        _check_expressions(step, where)


def _steps(steps: list[Json], where: str) -> Iterator[tuple[Json, str]]:
    """Yield each step, those inside conditions included, with its place."""
    for index, step in enumerate(steps):
        place = f"{where}[{index}]"
        convert(Step, step, place)
        yield step, place
        arguments = step.get("Arguments") or {}
        if step["Type"] == "Processing":
            convert(Processing, arguments, f"{place}.Arguments")
        if step["Type"] == "Condition":
            convert(Branches, arguments, f"{place}.Arguments")
            for number, condition in enumerate(arguments["Conditions"]):
                _check_condition(condition, f"{place}.Arguments.Conditions[{number}]")
            for branch in ("IfSteps", "ElseSteps"):
                yield from _steps(arguments.get(branch) or [], f"{place}.Arguments.{branch}")


def _check_condition(condition: Any, where: str) -> None:
    kind = condition.get("Type") if isinstance(condition, dict) else None
    if not isinstance(kind, str):
        raise ValueError(f"{where}.Type: is missing")
    if kind == "Not":
        _check_condition(condition.get("Condition") or condition.get("Expression"), f"{where}.Condition")
    for member in sorted(CONDITIONS.get(kind, set() if kind == "Not" else {"LeftValue", "RightValue"})):
        if member not in condition:
            raise ValueError(f"{where}.{member}: is missing")
        if member in ("Conditions", "Values") and not isinstance(condition[member], list):
            raise ValueError(f"{where}.{member}: expected a list")
    for number, inner in enumerate(condition["Conditions"] if kind == "Or" else []):
        _check_condition(inner, f"{where}.Conditions[{number}]")


def _check_expressions(value: Any, where: str) -> None:
    """Raise ValueError for a Std:Join or Std:JsonGet without its members."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_expressions(item, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "Std:Join" and not (isinstance(item, dict) and isinstance(item.get("Values"), list)):
                raise ValueError(f"{where}: Std:Join needs a list of Values")
            if key == "Std:JsonGet" and not (isinstance(item, dict) and isinstance(item.get("Path"), str)):
                raise ValueError(f"{where}: Std:JsonGet needs a Path, and a PropertyFile or an S3Uri")
            _check_expressions(item, f"{where}.{key}")
