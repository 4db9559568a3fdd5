"""`sagegate check`: is the definition one that SageMaker would accept? Offline, each finding with step, field and fault.

References are held to the parameters, steps, properties and property files they name; arguments to the request shapes
in botocore's service model, which is what the service itself is generated from. (The JSON schema that AWS publishes for
definitions is older than the SDK and refuses what the SDK writes.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sagegate.pipeline.definition import (
    PATH_PART,
    VERSION,
    Reference,
    Step,
    dependencies,
    negated,
    references,
    steps_of,
)

Json = Any
REQUESTS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
    "Tuning": ("CreateHyperParameterTuningJob", "HyperParameterTuningJobName"),
    "Transform": ("CreateTransformJob", "TransformJobName"),
    "Model": ("CreateModel", "ModelName"),
    "RegisterModel": ("CreateModelPackage", "ModelPackageName"),
}
RESPONSES = {
    "Processing": ("DescribeProcessingJobResponse",),
    "Training": ("DescribeTrainingJobResponse",),
    "Tuning": ("DescribeHyperParameterTuningJobResponse", "ListTrainingJobsForHyperParameterTuningJobResponse"),
    "Transform": ("DescribeTransformJobResponse",),
    "Model": ("DescribeModelOutput",),
    "RegisterModel": ("DescribeModelPackageOutput",),
}
EXECUTION = (
    *("PipelineName", "PipelineArn", "PipelineExecutionId", "PipelineExecutionArn"),
    *("StartDateTime", "CurrentDateTime"),
)
NUMBERS = ("GreaterThan", "GreaterThanOrEqualTo", "LessThan", "LessThanOrEqualTo")
PYTHON = {"String": str, "Integer": int, "Float": float, "Boolean": bool}


def reference_errors(definition: dict[str, Json]) -> Iterator[str]:
    """What is wrong with the definition's steps and references; nothing heavy is imported."""
    if definition.get("Version") != VERSION:
        yield f"Version is {definition.get('Version')!r}: it must be {VERSION!r}"
    steps = steps_of(definition)
    parameters = {p["Name"]: p for p in definition.get("Parameters") or []}
    for name, parameter in parameters.items():
        if parameter.get("Type") not in PYTHON:
            yield f"parameter {name}: type {parameter.get('Type')!r} is not one of {', '.join(PYTHON)}"
    for step in steps.values():
        for reference in references(step.arguments):
            fault = _fault(reference, step, steps, parameters)
            if fault:
                yield f"step {step.name}: {reference.where}: {fault}"
        for name, _ in dependencies(step.body):
            if name not in steps:
                yield f"step {step.name}: DependsOn: there is no step {name}"
        if step.type == "Condition":
            yield from _condition_faults(step, parameters)
    cycle = _cycle(steps)
    if cycle:
        yield f"steps {' -> '.join(cycle)} wait for each other: a pipeline has no cycles"


def _fault(reference: Reference, step: Step, steps: dict[str, Step], parameters: dict[str, Json]) -> str | None:
    if reference.kind == "Parameters" and reference.path not in parameters:
        return f"there is no parameter {reference.path}"
    if reference.kind == "Execution" and reference.path not in EXECUTION:
        return f"there is no execution variable {reference.path}: there are {', '.join(EXECUTION)}"
    if reference.step is None:
        return None
    if reference.step not in steps:
        return f"there is no step {reference.step}: there are {', '.join(steps)}"
    if reference.step == step.name:
        return "a step cannot refer to itself"
    target = steps[reference.step]
    if reference.kind == "PropertyFile":
        name = reference.path.partition(":")[0]
        files = {f["PropertyFileName"]: f for f in target.body.get("PropertyFiles") or []}
        if name not in files:
            return f"step {target.name} declares no property file {name}: it declares {', '.join(files) or 'none'}"
        output = files[name]["OutputName"]
        if output not in _outputs(target):
            return f"property file {name} is in output {output!r}, which step {target.name} does not have"
    elif reference.path.startswith("ProcessingOutputConfig.Outputs['"):
        output = reference.path.split("'")[1]
        if target.type == "Processing" and output not in _outputs(target):
            return f"step {target.name} has no output {output!r}: it has {', '.join(_outputs(target))}"
    return None


def _outputs(step: Step) -> list[str]:
    config = step.arguments.get("ProcessingOutputConfig") or {}
    return [output["OutputName"] for output in config.get("Outputs") or []]


def _condition_faults(step: Step, parameters: dict[str, Json]) -> Iterator[str]:
    """Comparisons whose sides are known not to be comparable."""
    for where, condition in _comparisons(step.arguments.get("Conditions") or [], "Conditions"):
        sides = [_known_type(condition.get(side), parameters) for side in ("LeftValue", "RightValue")]
        kinds = {kind for kind in sides if kind}
        if (condition["Type"] in NUMBERS and kinds - {"number"}) or len(kinds) > 1:
            shown = " with ".join(kind or "a value known later" for kind in sides)
            yield f"step {step.name}: {where}: {condition['Type']} compares {shown}"


def _comparisons(conditions: list[Json], where: str) -> Iterator[tuple[str, Json]]:
    """Where each comparison stands and what it is, those inside Not and Or as well."""
    for index, condition in enumerate(conditions):
        here = f"{where}[{index}]"
        if condition["Type"] == "Not":
            yield from ((f"{here}.Not", inner) for _, inner in _comparisons([negated(condition)], here))
        elif condition["Type"] == "Or":
            yield from _comparisons(condition["Conditions"], f"{here}.Conditions")
        else:
            yield here, condition


def _known_type(value: Json, parameters: dict[str, Json]) -> str | None:
    if isinstance(value, dict) and str(value.get("Get", "")).startswith("Parameters."):
        kind = parameters.get(value["Get"].removeprefix("Parameters."), {}).get("Type")
        return {"Integer": "number", "Float": "number", "String": "text", "Boolean": "boolean"}.get(str(kind))
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None


def _cycle(steps: dict[str, Step]) -> list[str] | None:
    from graphlib import CycleError, TopologicalSorter

    try:
        TopologicalSorter({name: step.depends_on for name, step in steps.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def argument_errors(definition: dict[str, Json]) -> Iterator[str]:
    """What botocore's service model says against the arguments and property references of each step."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    model = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")
    parameters = {p["Name"]: p.get("Type", "") for p in definition.get("Parameters") or []}
    steps = steps_of(definition)
    for step in steps.values():
        if step.type in REQUESTS:
            operation, given_by_service = REQUESTS[step.type]
            shape = model.operation_model(operation).input_shape
            for fault in _shape(step.arguments, shape, "", parameters, skip=given_by_service):
                yield f"step {step.name}: {fault}"
        for reference in references(step.arguments):
            target = steps.get(reference.step or "")
            if reference.kind == "Steps" and target and target.type in RESPONSES:
                shapes: list[Any] = [model.shape_for(name) for name in RESPONSES[target.type]]
                first = PATH_PART.match(reference.path)
                fits = next((s for s in shapes if first and first[1] in s.members), shapes[0])
                yield from _property(reference, step, fits, target)


def _property(reference: Reference, step: Step, shape: Any, target: Step) -> Iterator[str]:
    for token in PATH_PART.finditer(reference.path):
        key = next(group for group in token.groups() if group is not None)
        if shape.type_name == "list":
            shape = shape.member
        elif shape.type_name == "map":
            shape = shape.value
        elif shape.type_name == "structure" and key in shape.members:
            shape = shape.members[key]
        else:
            known = ", ".join(shape.members) if shape.type_name == "structure" else shape.type_name
            yield f"step {step.name}: {reference.where}: {target.name} has no property {key}: there are {known[:200]}"
            return


def _shape(value: Json, shape: Any, where: str, parameters: dict[str, str], skip: str = "") -> Iterator[str]:
    """Hold one value to a botocore shape; a reference is held to the type of what it names, where that is known."""
    kind = shape.type_name
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet"):
        given = _given_type(value, parameters)
        if given and given != _wanted(kind):
            yield f"{where}: wants {_wanted(kind)}, and the reference gives {given}"
    elif kind == "structure":
        yield from _structure(value, shape, where, parameters, skip)
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{where}: wants a list, got {value!r}"
            return
        for index, item in enumerate(value):
            yield from _shape(item, shape.member, f"{where}[{index}]", parameters)
    elif kind == "map":
        if not isinstance(value, dict):
            yield f"{where}: wants a map, got {value!r}"
            return
        for key, item in value.items():
            yield from _shape(item, shape.value, f"{where}.{key}", parameters)
    else:
        yield from _scalar(value, shape, where)


def _structure(value: Json, shape: Any, where: str, parameters: dict[str, str], skip: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: wants fields, got {value!r}"
        return
    for key, item in value.items():
        inner = f"{where}.{key}".lstrip(".")
        if key in shape.members:
            yield from _shape(item, shape.members[key], inner, parameters)
        else:
            yield f"{inner}: {shape.name} has no such field: it has {', '.join(shape.members)[:200]}"
    for key in shape.required_members:
        if key not in value and key != skip:
            yield f"{f'{where}.{key}'.lstrip('.')}: is missing"


def _scalar(value: Json, shape: Any, where: str) -> Iterator[str]:
    wanted = _wanted(shape.type_name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {"text": isinstance(value, str), "number": number, "boolean": isinstance(value, bool)}
    if not fits.get(wanted, True):
        yield f"{where}: wants {wanted}, got {value!r}"
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield f"{where}: {value!r} is not one of {', '.join(shape.enum)[:200]}"
    elif number and not shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value):
        yield f"{where}: {value} is not between {shape.metadata.get('min')} and {shape.metadata.get('max')}"


def _wanted(kind: str) -> str:
    return {"string": "text", "boolean": "boolean"}.get(kind, "number" if kind in _NUMBER_SHAPES else kind)


_NUMBER_SHAPES = ("integer", "long", "float", "double")


def _given_type(value: dict[str, Json], parameters: dict[str, str]) -> str | None:
    if "Std:Join" in value:
        return "text"
    return _known_type(value, {name: {"Type": kind} for name, kind in parameters.items()})
