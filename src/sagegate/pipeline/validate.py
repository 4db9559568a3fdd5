"""Checks of the definition, offline: do its references name parameters, steps, outputs and property files that it has?

Imports nothing of boto3, because every run checks this. shapes.py checks the arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sagegate.files import Json
from sagegate.pipeline.definition import (
    VERSION,
    Reference,
    Step,
    dependencies,
    is_job_path,
    negated,
    references,
    steps_of,
)

EXECUTION_VARIABLES = (
    *("PipelineName", "PipelineArn", "PipelineExecutionId", "PipelineExecutionArn"),
    *("StartDateTime", "CurrentDateTime"),
)
COMPARISONS_OF_NUMBERS = ("GreaterThan", "GreaterThanOrEqualTo", "LessThan", "LessThanOrEqualTo")
PARAMETER_KINDS = {"String": "text", "Integer": "number", "Float": "number", "Boolean": "boolean"}


def reference_errors(definition: Json) -> Iterator[str]:
    """Yield the errors in the definition's steps and references; each names step, field and fault."""
    if definition.get("Version") != VERSION:
        yield f"Version is {definition.get('Version')!r}: it must be {VERSION!r}"
    steps = steps_of(definition)
    parameters = parameter_types(definition)
    for name, kind in parameters.items():
        if kind not in PARAMETER_KINDS:
            yield f"parameter {name}: type {kind!r} is not one of {', '.join(PARAMETER_KINDS)}"
    for step in steps.values():
        for reference in references(step.arguments):
            error = _reference_error(reference, step, steps, parameters)
            if error:
                yield f"step {step.name}: {reference.where}: {error}"
        for name, _ in dependencies(step.body):
            if name not in steps:
                yield f"step {step.name}: DependsOn: there is no step {name}"
        if step.type == "Condition":
            yield from _comparison_errors(step, parameters)
        inputs = step.arguments.get("ProcessingInputs") or []
        outputs = (step.arguments.get("ProcessingOutputConfig") or {}).get("Outputs") or []
        for entry in [*inputs, *outputs]:
            path = (entry.get("S3Input") or entry.get("S3Output") or {}).get("LocalPath")
            if isinstance(path, str) and not is_job_path(path):
                yield f"step {step.name}: LocalPath {path}: a job's files are below /opt/ml"
    try:
        TopologicalSorter({name: step.depends_on for name, step in steps.items()}).prepare()
    except CycleError as error:
        yield f"steps {' -> '.join(error.args[1])} wait for each other: a pipeline has no cycles"


def parameter_types(definition: Json) -> dict[str, str]:
    """Return the type of each parameter: String, Integer, Float or Boolean."""
    return {parameter["Name"]: parameter.get("Type", "") for parameter in definition.get("Parameters") or []}


def _reference_error(
    reference: Reference, step: Step, steps: dict[str, Step], parameters: dict[str, str]
) -> str | None:
    if reference.kind == "Parameters" and reference.path not in parameters:
        return f"there is no parameter {reference.path}"
    if reference.kind == "Execution" and reference.path not in EXECUTION_VARIABLES:
        return f"there is no execution variable {reference.path}: there are {', '.join(EXECUTION_VARIABLES)}"
    if reference.step is None:
        return None
    if reference.step not in steps:
        return f"there is no step {reference.step}: there are {', '.join(steps)}"
    if reference.step == step.name:
        return "a step cannot refer to itself"
    target = steps[reference.step]
    outputs = [o["OutputName"] for o in (target.arguments.get("ProcessingOutputConfig") or {}).get("Outputs") or []]
    if reference.kind == "PropertyFile":
        name = reference.path.partition(":")[0]
        files = {f["PropertyFileName"]: f["OutputName"] for f in target.body.get("PropertyFiles") or []}
        if name not in files:
            return f"step {target.name} declares no property file {name}: it declares {', '.join(files) or 'none'}"
        if files[name] not in outputs:
            return f"property file {name} is in output {files[name]!r}, which step {target.name} does not have"
    elif target.type == "Processing" and reference.path.startswith("ProcessingOutputConfig.Outputs['"):
        output = reference.path.split("'")[1]
        if output not in outputs:
            return f"step {target.name} has no output {output!r}: it has {', '.join(outputs)}"
    return None


def _comparison_errors(step: Step, parameters: dict[str, str]) -> Iterator[str]:
    """Yield the comparisons of values that are known to be of different types."""
    for index, condition in enumerate(step.arguments.get("Conditions") or []):
        for comparison in _comparisons(condition):
            sides = [kind_of(comparison.get(side), parameters) for side in ("LeftValue", "RightValue")]
            kinds = {kind for kind in sides if kind}
            if (comparison["Type"] in COMPARISONS_OF_NUMBERS and kinds - {"number"}) or len(kinds) > 1:
                shown = " with ".join(kind or "a value known later" for kind in sides)
                yield f"step {step.name}: Conditions[{index}]: {comparison['Type']} compares {shown}"


def _comparisons(condition: Json) -> Iterator[Json]:
    """Yield the comparisons in a condition, those inside Not and Or included."""
    if condition["Type"] == "Not":
        yield from _comparisons(negated(condition))
    elif condition["Type"] == "Or":
        for inner in condition["Conditions"]:
            yield from _comparisons(inner)
    else:
        yield condition


def kind_of(value: Any, parameters: dict[str, str]) -> str | None:
    """Return text, number or boolean: the type of a value or reference, or None if only SageMaker knows it."""
    if isinstance(value, dict):
        if "Std:Join" in value:
            return "text"
        head, _, name = str(value.get("Get", "")).partition(".")
        return PARAMETER_KINDS.get(parameters.get(name, "")) if head == "Parameters" else None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None
