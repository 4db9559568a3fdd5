"""What the backend knows of executions: the latest ones, one of them, its steps, the definition that it runs."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from mlops.aws import Door, is_missing, pages
from mlops.errors import MlopsError

Json = dict[str, Any]


def executions(door: Door, count: int) -> list[Json]:
    """The summaries of the latest executions, the newest first; none if there is no pipeline yet."""
    request = {"PipelineName": door.names.pipeline, "SortBy": "CreationTime", "SortOrder": "Descending"}
    request_pages = pages(
        door.sagemaker.list_pipeline_executions, "PipelineExecutionSummaries", **request, MaxResults=min(count, 100)
    )
    try:
        return list(islice(request_pages, count))
    except Exception as error:
        if is_missing(door, error):
            return []
        raise


def describe(door: Door, name: str) -> Json:
    """One execution; raises MlopsError if there is none."""
    arn = door.names.execution(name)
    try:
        found: Json = door.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    except Exception as error:
        if is_missing(door, error):
            raise MlopsError(f"there is no execution {name}: `mlops status{door.option}` lists them") from None
        raise
    return found


def steps_of(door: Door, arn: str) -> list[Json]:
    """An execution's steps in the order they started."""
    call = door.sagemaker.list_pipeline_execution_steps
    return list(pages(call, "PipelineExecutionSteps", PipelineExecutionArn=arn, SortOrder="Ascending"))


def execution_definition(door: Door, arn: str) -> Json:
    """The definition that an execution runs."""
    described = door.sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
    body: Json = json.loads(described["PipelineDefinition"])
    return body
