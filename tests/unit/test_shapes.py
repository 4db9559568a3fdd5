"""Names and metadata that this package sends fit into SageMaker's service model, whose patterns can all be used."""

from collections.abc import Iterator
from typing import Any

import pytest

from sagegate.names import Names
from sagegate.pipeline.parameters import metadata_text
from sagegate.pipeline.shapes import STEPS, limit_errors, service_model

REGIONS = ("us-east-1", "ap-southeast-2", "us-gov-west-1", "cn-northwest-1", "us-isob-east-1")


def errors(shape: str, value: Any) -> list[str]:
    """Return the limits of a shape of SageMaker that a value does not meet."""
    return list(limit_errors(value, service_model("sagemaker").shape_for(shape), "x"))


def shapes_of(shape: Any, seen: set[str]) -> Iterator[Any]:
    """Yield a shape and all shapes in it."""
    if shape.name not in seen:
        seen.add(shape.name)
        yield shape
        inner = {"structure": "members", "list": "member", "map": "value"}.get(shape.type_name)
        children = getattr(shape, inner) if inner else {}
        for child in children.values() if isinstance(children, dict) else [children]:
            yield from shapes_of(child, seen)


@pytest.mark.parametrize("operation", [operation for operation, *_ in STEPS.values()])
def test_every_pattern_of_a_step_s_request_can_be_used(operation: str) -> None:
    shape = service_model("sagemaker").operation_model(operation).input_shape
    texts = [each for each in shapes_of(shape, set()) if each.metadata.get("pattern")]
    assert len(texts) > 5
    for text in texts:
        list(limit_errors("x", text, "x"))  # raises an error for a pattern that `regex` cannot read


@pytest.mark.parametrize("region", REGIONS)
def test_the_longest_names_are_allowed(region: str) -> None:
    names = Names("p" * 32, "staging", "1" * 12, region)
    given = {
        "PipelineName": names.pipeline,
        "EntityName": names.group,
        "EndpointName": names.endpoint,
        "RoleArn": names.role,
        "PipelineExecutionArn": names.execution("a" * 12),
        "ModelPackageArn": names.package(99999),
        "S3Uri": names.artifacts,
    }
    assert {shape: found for shape, name in given.items() if (found := errors(shape, name))} == {}
    assert len(names.bucket) <= 63  # "Bucket naming rules", Amazon S3 user guide
    role = names.iam_role("github-deploy-staging").rpartition("/")[2]
    most = service_model("iam").shape_for("roleNameType").metadata["max"]
    assert len(role) <= most == 64


@pytest.mark.parametrize("text", ["renovate[bot]", "DOMAIN\\user", "Zoë Ångström", "x" * 300, "名前", "a\nb", "٣"])
def test_who_started_a_run_fits_into_a_model_s_metadata(text: str) -> None:
    assert errors("CustomerMetadataValue", metadata_text(text)) == []


@pytest.mark.parametrize("value", ["a;b", "a\n", "e\u0301", "x" * 257])
def test_other_metadata_is_refused(value: str) -> None:
    assert errors("CustomerMetadataValue", value)
