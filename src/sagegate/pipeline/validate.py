"""Checks of the definition, offline: would SageMaker accept it? Each error names step, field and fault.

References are checked against the parameters, steps, properties and property files that they name; arguments against
the request shapes in botocore's service model. (AWS's JSON schema for definitions is older than the SDK and rejects
what the SDK writes.)
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sagegate.files import Json
from sagegate.pipeline.definition import (
    PATH_PART,
    VERSION,
    Reference,
    Step,
    dependencies,
    is_job_path,
    negated,
    references,
    steps_of,
)

# Step type: operation, the member that SageMaker fills in, and the responses that properties are read from.
SHAPES = {
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
EXECUTION_VARIABLES = (
    *("PipelineName", "PipelineArn", "PipelineExecutionId", "PipelineExecutionArn"),
    *("StartDateTime", "CurrentDateTime"),
)
COMPARISONS_OF_NUMBERS = ("GreaterThan", "GreaterThanOrEqualTo", "LessThan", "LessThanOrEqualTo")
PARAMETER_KINDS = {"String": "text", "Integer": "number", "Float": "number", "Boolean": "boolean"}
SHAPE_KINDS = {"string": "text", "boolean": "boolean"} | dict.fromkeys(("integer", "long", "float", "double"), "number")
# Values in place of references; long and large enough for every minimum of the service model.
EXAMPLES: dict[str, Any] = {"text": "x" * 100, "number": 1_000_000, "boolean": True}


def reference_errors(definition: Json) -> Iterator[str]:
    """Yield the errors in the definition's steps and references. Imports nothing of boto3: every run calls this."""
    if definition.get("Version") != VERSION:
        yield f"Version is {definition.get('Version')!r}: it must be {VERSION!r}"
    steps = steps_of(definition)
    parameters = _parameter_types(definition)
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


def _parameter_types(definition: Json) -> dict[str, str]:
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
            sides = [_kind(comparison.get(side), parameters) for side in ("LeftValue", "RightValue")]
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


def _kind(value: Any, parameters: dict[str, str]) -> str | None:
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


def argument_errors(definition: Json) -> Iterator[str]:
    """Yield the arguments and property references that botocore's service model of SageMaker does not allow."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    model = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")
    parameters = _parameter_types(definition)
    steps = steps_of(definition)
    for step in steps.values():
        if step.type in SHAPES:
            operation, given_by_service, _ = SHAPES[step.type]
            shape = model.operation_model(operation).input_shape
            errors: list[str] = []
            arguments = _with_examples(step.arguments, shape, "", parameters, errors)
            report = ParamValidator().validate({given_by_service: EXAMPLES["text"]} | arguments, shape)
            errors += report.generate_report().splitlines()
            yield from (f"step {step.name}: {error}" for error in errors)
        for reference in references(step.arguments):
            target = steps.get(reference.step or "")
            if reference.kind == "Steps" and target and target.type in SHAPES:
                responses = [model.shape_for(name) for name in SHAPES[target.type][2]]
                error = _property_error(reference.path, responses)
                if error:
                    yield f"step {step.name}: {reference.where}: {target.name} has no property {error}"


def _with_examples(value: Any, shape: Any, where: str, parameters: dict[str, str], errors: list[str]) -> Any:
    """Return `value` with an example in place of each reference; append references and enums that do not fit."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet"):
        given, expected = _kind(value, parameters), SHAPE_KINDS.get(shape.type_name, shape.type_name)
        if given and given != expected:
            errors.append(f"{where}: expected {expected}, and the reference is a {given}")
        return EXAMPLES.get(expected, [EXAMPLES["text"]] if expected == "list" else {})
    if isinstance(value, dict) and shape.type_name in ("structure", "map"):
        members = shape.members if shape.type_name == "structure" else dict.fromkeys(value, shape.value)
        return value | {
            key: _with_examples(item, members[key], f"{where}.{key}".lstrip("."), parameters, errors)
            for key, item in value.items()
            if key in members
        }
    if isinstance(value, list) and shape.type_name == "list":
        return [
            _with_examples(item, shape.member, f"{where}[{index}]", parameters, errors)
            for index, item in enumerate(value)
        ]
    # ParamValidator does not check enums.
    if isinstance(value, str) and shape.type_name == "string" and shape.enum and value not in shape.enum:
        errors.append(f"{where}: {value!r} is not one of {', '.join(shape.enum)[:200]}")
    return value


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
