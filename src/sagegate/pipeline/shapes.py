"""Checks of requests against AWS's service models, as botocore has them.

botocore checks names, types and minimums before it sends a request. Allowed values, patterns and maximums it leaves to
the service, which refuses a job's request only when the steps before it have run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

import botocore
import regex  # the patterns have classes such as \p{L}, which `re` does not know
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

from sagegate.files import Json
from sagegate.pipeline.definition import PATH_PART, references, steps_of
from sagegate.pipeline.validate import kind_of, parameter_types

# Step type: operation, the member that SageMaker fills in, and the responses that properties are read from.
STEPS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName", ["DescribeProcessingJobResponse"]),
    "Training": ("CreateTrainingJob", "TrainingJobName", ["DescribeTrainingJobResponse"]),
    "Tuning": (
        "CreateHyperParameterTuningJob",
        "HyperParameterTuningJobName",
        ["DescribeHyperParameterTuningJobResponse", "ListTrainingJobsForHyperParameterTuningJobResponse"],
    ),
    "Transform": ("CreateTransformJob", "TransformJobName", ["DescribeTransformJobResponse"]),
    "Model": ("CreateModel", "ModelName", ["DescribeModelOutput"]),
    "RegisterModel": ("CreateModelPackage", "ModelPackageName", ["DescribeModelPackageOutput"]),
}
# As Java writes the characters beyond U+FFFF in a pattern, and as Python does.
JAVA_PAIRS, ASTRAL = r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"
KINDS = {"string": "text", "boolean": "boolean"} | dict.fromkeys(("integer", "long", "float", "double"), "number")
# Values in place of references; long and large enough for every minimum of the service model.
EXAMPLES: dict[str, Any] = {"text": "x" * 100, "number": 1_000_000, "boolean": True}


@cache
def service_model(service: str) -> ServiceModel:
    """Return botocore's model of a service, such as `sagemaker`."""
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def argument_errors(definition: Json, values: Json | None = None) -> Iterator[str]:
    """Yield the arguments and property references in the definition that SageMaker does not allow.

    `values` are those of parameters. A value that is not among them may have any content, but must have the right type.
    """
    parameters = parameter_types(definition)
    steps = steps_of(definition)
    for step in steps.values():
        if step.type in STEPS:
            operation, given_by_service, _ = STEPS[step.type]
            request = {given_by_service: "x"} | step.arguments
            for error in request_errors(operation, request, parameters, values):
                yield f"step {step.name}: {error}"
        for reference in references(step.arguments):
            target = steps.get(reference.step or "")
            if reference.kind == "Steps" and target and target.type in STEPS:
                responses = [service_model("sagemaker").shape_for(name) for name in STEPS[target.type][2]]
                missing = _property_error(reference.path, responses)
                if missing:
                    yield f"step {step.name}: {reference.where}: {target.name} has no property {missing}"


def request_errors(
    operation: str, request: Json, parameters: dict[str, str] | None = None, values: Json | None = None
) -> list[str]:
    """Return what SageMaker does not allow in a request of an operation, such as `CreateTrainingJob`.

    References in the request are to `parameters` (name to type) with `values`, or to what only a run knows.
    """
    errors: list[str] = []

    def complete(value: Any, shape: Shape, where: str) -> Any:
        """Return `value` with values and examples in place of references, and append the errors in it."""
        if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet"):
            given, expected = kind_of(value, parameters or {}), KINDS.get(shape.type_name, shape.type_name)
            known = _known_value(value, values or {})
            if given and given != expected:
                errors.append(f"{where}: expected {expected}, and the reference is a {given}")
            elif known is not None:
                names = ", ".join(reference.path for reference in references(value))
                errors.extend(f"{error} (parameter {names})" for error in limit_errors(known, shape, where))
                return known
            return _example(shape)
        errors.extend(limit_errors(value, shape, where))
        if isinstance(value, dict) and shape.type_name in ("structure", "map"):
            members = shape.members if shape.type_name == "structure" else dict.fromkeys(value, shape.value)
            inner = {key: item for key, item in value.items() if key in members}
            return value | {k: complete(item, members[k], f"{where}.{k}".lstrip(".")) for k, item in inner.items()}
        if isinstance(value, list) and shape.type_name == "list":
            return [complete(item, shape.member, f"{where}[{index}]") for index, item in enumerate(value)]
        return value

    shape = service_model("sagemaker").operation_model(operation).input_shape
    report: str = ParamValidator().validate(complete(request, shape, ""), shape).generate_report()
    return errors + report.splitlines()


def limit_errors(value: Any, shape: Shape, where: str) -> Iterator[str]:
    """Yield the allowed values, pattern or maximum of a shape that a value, without its members, does not meet."""
    most, pattern = shape.metadata.get("max"), shape.metadata.get("pattern", "").replace(JAVA_PAIRS, ASTRAL)
    size = value if isinstance(value, int | float) else len(value) if isinstance(value, str | list | dict) else 0
    if most is not None and shape.type_name != "structure" and size > most:
        unit = "characters" if isinstance(value, str) else "entries" if isinstance(value, list | dict) else ""
        yield f"{where}: {size} {unit}".rstrip() + f", but at most {most} are allowed"
    if shape.type_name == "map" and isinstance(value, dict):
        for key in value:
            yield from limit_errors(key, shape.key, f"{where}, name {key!r:.100}")
    elif shape.type_name == "string" and isinstance(value, str):
        if shape.enum and value not in shape.enum:
            near = ", ".join(get_close_matches(value, shape.enum) or shape.enum[:10])
            newer = "if AWS has it by now, run `uv lock --upgrade-package botocore`"
            yield f"{where}: botocore {botocore.__version__} has no {value!r:.100} there; it has {near} ({newer})"
        elif pattern and not regex.fullmatch(pattern, value):
            yield f"{where}: {value!r:.100} does not match {pattern}"


def _example(shape: Shape) -> Any:
    """Return a value of a shape, with the members that it must have."""
    if shape.type_name == "structure":
        return {name: _example(shape.members[name]) for name in shape.required_members}
    if shape.type_name == "list":
        return [_example(shape.member)]
    return EXAMPLES.get(KINDS.get(shape.type_name, ""), {})


def _known_value(reference: Any, values: Json) -> Any:
    """Return the value of a reference to a parameter, or of a join of such; None if only a run knows it."""
    if not isinstance(reference, dict):
        return reference
    if "Std:Join" in reference:
        parts = [_known_value(part, values) for part in reference["Std:Join"]["Values"]]
        separator = str(reference["Std:Join"].get("On", ""))
        return None if None in parts else separator.join(p if isinstance(p, str) else json.dumps(p) for p in parts)
    return values.get(str(reference.get("Get", "")).removeprefix("Parameters."))


def _property_error(path: str, responses: list[Any]) -> str | None:
    """Return the first part of `path` that none of the responses has, and what there is instead."""
    parts = [next(group for group in match.groups() if group is not None) for match in PATH_PART.finditer(path)]
    shape = next((shape for shape in responses if parts[0] in shape.members), responses[0])
    for part in parts:
        if shape.type_name == "list":
            shape = shape.member
        elif shape.type_name == "map":
            shape = shape.value
        elif shape.type_name == "structure" and part in shape.members:
            shape = shape.members[part]
        else:
            known = ", ".join(shape.members) if shape.type_name == "structure" else f"only a {shape.type_name}"
            return f"{part}: there are {known[:200]}"
    return None
