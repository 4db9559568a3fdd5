"""CreatePipeline, UpdatePipeline and DeletePipeline: a definition that cannot be right is refused."""

from __future__ import annotations

import json

from moto.sagemaker.utils import load_pipeline_definition_from_s3
from moto.utilities.utils import get_partition

from fakes.service import Conflict, Service
from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.local.state import now
from sagegate.pipeline.validate import reference_errors


def create(service: Service, request: Json) -> Json:
    """CreatePipeline; the same token gives the same pipeline."""
    name = request["PipelineName"]
    existing = service.backend.pipelines.get(name)
    if existing is not None:
        if getattr(existing, "client_request_token", None) == request["ClientRequestToken"]:
            return {"PipelineArn": existing.arn}
        raise SagegateError(
            "Pipeline names must be unique within an AWS account and region. "
            f"Pipeline with name ({name}) already exists."
        )
    pipeline = service.backend.create_pipeline(
        pipeline_name=name,
        pipeline_display_name=request.get("PipelineDisplayName") or name,
        pipeline_definition=checked(service, request),
        pipeline_definition_s3_location={},
        pipeline_description=request.get("PipelineDescription"),  # type: ignore[arg-type]
        role_arn=request["RoleArn"],
        tags=request.get("Tags") or [],
        parallelism_configuration=request.get("ParallelismConfiguration"),  # type: ignore[arg-type]
    )
    pipeline.client_request_token = request["ClientRequestToken"]  # type: ignore[attr-defined]
    return {"PipelineArn": pipeline.arn}


def update(service: Service, request: Json) -> Json:
    """UpdatePipeline: only what is given changes."""
    pipeline = service.pipeline(request["PipelineName"])
    if "PipelineDefinition" in request or "PipelineDefinitionS3Location" in request:
        pipeline.pipeline_definition = checked(service, request)
    pipeline.pipeline_display_name = request.get("PipelineDisplayName", pipeline.pipeline_display_name)
    pipeline.pipeline_description = request.get("PipelineDescription", pipeline.pipeline_description)
    pipeline.role_arn = request.get("RoleArn", pipeline.role_arn)
    pipeline.parallelism_configuration = request.get("ParallelismConfiguration", pipeline.parallelism_configuration)
    pipeline.last_modified_time = now()
    return {"PipelineArn": pipeline.arn}


def delete(service: Service, request: Json) -> Json:
    """DeletePipeline: with its executions, and only when none of them runs; the same token deletes once."""
    token = ("delete", request["PipelineName"], request["ClientRequestToken"])
    if token in service.tokens:
        return {"PipelineArn": service.tokens[token]}
    if service.is_running(request["PipelineName"]):
        raise Conflict(
            f"Pipeline {request['PipelineName']} has running instances: stop them using StopPipelineExecution."
        )
    service.tokens[token] = service.forget(request["PipelineName"])
    return {"PipelineArn": service.tokens[token]}


def checked(service: Service, request: Json) -> str:
    """The definition of a request; raises SagegateError for one that SageMaker would refuse."""
    text, place = request.get("PipelineDefinition"), request.get("PipelineDefinitionS3Location")
    if bool(text) == bool(place):
        raise SagegateError("Exactly one of PipelineDefinition and PipelineDefinitionS3Location must be given.")
    if place:
        text = json.dumps(load_pipeline_definition_from_s3(place, service.account_id, get_partition(service.region)))
    try:
        definition = json.loads(text or "")
    except ValueError as error:
        raise SagegateError(f"Unable to parse pipeline definition: invalid JSON: {error}") from None
    if not isinstance(definition, dict) or not isinstance(definition.get("Steps"), list):
        raise SagegateError("Unable to parse pipeline definition: it has no list of Steps")
    fault = next(reference_errors(definition), None)
    if fault:
        raise SagegateError(f"Unable to parse pipeline definition: {fault}")
    return str(text)
