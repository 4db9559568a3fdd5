"""Have the pipeline as it should be: code and data stored, the definition created or updated only if it differs."""

from __future__ import annotations

import json
import uuid
from typing import Any

from mlops.aws import Door, is_missing, pages
from mlops.definitions.parameters import Data
from mlops.errors import MlopsError
from mlops.files import split_uri
from mlops.registry import champion

Json = dict[str, Any]
DESCRIPTION_LENGTH = 3072  # PipelineExecutionDescription in the SageMaker API reference


def store(door: Door, contents: dict[str, bytes], data: Data) -> int:
    """Store the code packages and data that are not there yet; how many were missing.

    They are named by digest, so what is there never changes.
    """
    bucket, _ = split_uri(door.names.artifacts)
    missing = missing_objects(door, list(contents), f"{door.names.artifacts}/code/")
    for key in missing:
        door.s3.put_object(Bucket=bucket, Key=key, Body=contents[key])
    absent: list[str] = []
    if data.files:
        _, prefix = split_uri(data.uri)
        absent = missing_objects(door, [f"{prefix}/{name}" for name in data.files], f"{data.uri}/")
        for key in absent:
            door.s3.upload_file(str(data.files[key.removeprefix(f"{prefix}/")]), bucket, key)
    champion.ensure_place(door)
    return len(missing) + len(absent)


def missing_objects(door: Door, keys: list[str], uri: str) -> list[str]:
    """Those of `keys` that the bucket does not hold below `uri`."""
    bucket, prefix = split_uri(uri)
    known = {found["Key"] for found in pages(door.s3.list_objects_v2, "Contents", Bucket=bucket, Prefix=prefix)}
    return [key for key in keys if key not in known]


def upsert(door: Door, body: str, tags: dict[str, str]) -> str:
    """Create or update the pipeline; `created`, `updated` or `unchanged`."""
    name = door.names.pipeline
    request: Json = {"PipelineName": name, "PipelineDefinition": body, "RoleArn": door.names.role}
    existing = describe(door)
    if existing is None:
        try:
            door.sagemaker.create_pipeline(**request, ClientRequestToken=token(), Tags=as_tags(tags))
        except Exception as error:
            existing = describe(door)  # another run was faster, or the answer to our own call was lost
            if existing is None:
                raise error
        else:
            return "created"
    if json.loads(existing["PipelineDefinition"]) == json.loads(body) and existing["RoleArn"] == door.names.role:
        return "unchanged"
    door.sagemaker.update_pipeline(**request)
    door.sagemaker.add_tags(ResourceArn=existing["PipelineArn"], Tags=as_tags(tags))
    return "updated"


def describe(door: Door) -> Json | None:
    """The pipeline, or None if there is none yet."""
    try:
        found: Json = door.sagemaker.describe_pipeline(PipelineName=door.names.pipeline)
    except Exception as error:
        if is_missing(door, error):
            return None
        raise
    return found


def start(door: Door, overrides: dict[str, str], selected: frozenset[str], reason: str = "") -> str:
    """Start the pipeline; the execution's ARN. The call holds a token, so a repeated one never starts a second."""
    request: Json = {
        "PipelineName": door.names.pipeline,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in overrides.items()],
        "ClientRequestToken": token(),
    }
    if reason:
        request["PipelineExecutionDescription"] = " ".join(reason.split())[:DESCRIPTION_LENGTH]
    if selected:
        chosen = [{"StepName": name} for name in sorted(selected)]
        source = latest_execution(door)
        request["SelectiveExecutionConfig"] = {"SelectedSteps": chosen, "SourcePipelineExecutionArn": source}
    return str(door.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"])


def latest_execution(door: Door) -> str:
    """The ARN of the latest execution that has ended by itself, for steps that take results from it."""
    request = {"PipelineName": door.names.pipeline, "SortBy": "CreationTime", "SortOrder": "Descending"}
    for summary in pages(door.sagemaker.list_pipeline_executions, "PipelineExecutionSummaries", **request):
        if summary["PipelineExecutionStatus"] in ("Succeeded", "Failed"):
            return str(summary["PipelineExecutionArn"])
    raise MlopsError("there is no earlier execution to take results from: run the whole pipeline first")


def retry(door: Door, name: str) -> str:
    """Start an ended execution's failed steps again; its ARN."""
    arn = door.names.execution(name)
    try:
        door.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=token())
    except Exception as error:
        if is_missing(door, error):
            raise MlopsError(f"there is no execution {name}: `mlops status` lists them") from None
        raise
    return arn


def token() -> str:
    """A ClientRequestToken; AWS wants 32 to 128 characters."""
    return uuid.uuid4().hex


def as_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags in boto3's shape; a value holds at most 256 characters."""
    return [{"Key": key, "Value": value[:256]} for key, value in sorted(tags.items())]
