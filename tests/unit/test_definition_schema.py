"""The definition against AWS's JSON schema of pipeline definitions: it differs in the rules named here only.

The schema is AWS's file, so it is not in this repository: `make aws-schema SCHEMA=FILE` (CONTRIBUTING.md).
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from sagegate.files import Json

ROOT = Path(__file__).parents[2]
SCHEMA = os.environ.get("AWS_SCHEMA")
SAME_VALUE = {"Get": "Parameters.GateMetric"}
# Where the schema is older than what SageMaker takes, and what says so.
STALE = {
    (): (["PipelineExperimentConfig"], "Pipeline definition, in the SageMaker developer guide"),
    ("Train", "Arguments"): (["Environment"], "botocore: CreateTrainingJobRequest.Environment"),
    ("Train", "Arguments", "OutputDataConfig"): (["CompressionType"], "botocore: OutputDataConfig.CompressionType"),
    ("Evaluate",): (["PropertyFiles"], "Property files and JsonGet, in the SageMaker developer guide"),
    ("Gate", "Arguments", "Conditions", 1): (
        ["QueryValue", "Values", "'In' is a required property", "'Value' is a required property"],
        "the SageMaker SDK: ConditionIn.to_request",
    ),
    ("Register", "Arguments"): (
        ["CustomerMetadataProperties", "ModelApprovalStatus", "SkipModelValidation"],
        "botocore: CreateModelPackageInput",
    ),
    ("Register", "Arguments", "InferenceSpecification", "Containers", 0): (
        ["Environment"],
        "botocore: ModelPackageContainerDefinition.Environment",
    ),
}


def with_plain_references(value: Any) -> Any:
    """Return `value` with a Get in place of each Std:Join and Std:JsonGet.

    The schema defines Std:Join, uses it nowhere and does not have Std:JsonGet; the SDK writes both in any place of a
    value (sagemaker.core.workflow.functions).
    """
    if isinstance(value, dict):
        if value.keys() & {"Std:Join", "Std:JsonGet"}:
            return SAME_VALUE
        return {key: with_plain_references(item) for key, item in value.items()}
    return [with_plain_references(item) for item in value] if isinstance(value, list) else value


def named(path: list[Any], definition: Json) -> tuple[Any, ...]:
    """Return the place of an error, beginning with the step's name instead of the way to it."""
    found: Any = definition
    for index, key in enumerate(path):
        found = found[key]
        if isinstance(found, dict) and "Name" in found and "Type" in found and found.get("Type") != "Condition":
            return (found["Name"], *path[index + 1 :])
    return tuple(["Gate", *path[2:]] if path else path)


def innermost(error: ValidationError) -> Iterator[ValidationError]:
    """Yield the errors of the alternative in a `oneOf` that fits best: the one whose Type is right."""
    if not error.context:
        yield error
        return
    alternatives: dict[Any, list[ValidationError]] = {}
    for inner in error.context:
        alternatives.setdefault(inner.schema_path[0], []).append(inner)
    best = min(alternatives.values(), key=lambda each: (any(e.path and e.path[-1] == "Type" for e in each), len(each)))
    for inner in best:
        yield from innermost(inner)


@pytest.mark.skipif(not SCHEMA, reason="needs AWS's schema: make aws-schema SCHEMA=FILE")
def test_the_definition_differs_from_aws_s_schema_in_named_rules_only() -> None:
    text = (ROOT / "{{cookiecutter.project_slug}}" / "pipeline" / "definition.json").read_text(encoding="utf-8")
    definition = with_plain_references(json.loads(text))
    validator = Draft202012Validator(json.loads(Path(str(SCHEMA)).read_text(encoding="utf-8")))
    found: dict[tuple[Any, ...], set[str]] = {}
    for error in validator.iter_errors(definition):
        for inner in innermost(error):
            fields = re.findall(r"'(\w+)'", inner.message) if "unexpected" in inner.message else [inner.message]
            found.setdefault(named(list(inner.absolute_path), definition), set()).update(fields)
    assert found == {place: set(fields) for place, (fields, _) in STALE.items()}
