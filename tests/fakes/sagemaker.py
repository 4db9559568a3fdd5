"""SageMaker's control plane: answers these operations in the place of moto's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ConflictException, SagemakerClientError, ValidationError
from moto.sagemaker.exceptions import ResourceNotFound as NotFound
from moto.sagemaker.responses import SageMakerResponse

from fakes import registry
from fakes.pipelines import Service
from fakes.registry import page
from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.local.client import ResourceNotFound
from sagegate.pipeline.shapes import request_errors, service_model

if TYPE_CHECKING:
    from fakes.server import FakeAws

Operation = Callable[[Service, Json], Json | None]


class AccessDenied(SagemakerClientError):
    """The caller's account may not do this."""

    code = "AccessDeniedException"


def describe_job(kind: str) -> Operation:
    """Return a Describe*Job operation, which is moto's for a job that no pipeline ran."""
    return lambda service, request: service.jobs.describe(kind, request[f"{kind}JobName"])


def list_trials(service: Service, request: Json) -> Json:
    """ListTrainingJobsForHyperParameterTuningJob."""
    status = request.get("StatusEquals")
    found = service.jobs.trials(request["HyperParameterTuningJobName"])
    return page("TrainingJobSummaries", [job for job in found if status in (None, job["TrainingJobStatus"])], request)


def add_tags(service: Service, request: Json) -> Json | None:
    """AddTags: replace the value of a key that exists (moto adds a second one)."""
    resource = service.backend._get_resource_from_arn(request["ResourceArn"])
    if resource is None or not isinstance(getattr(resource, "tags", None), list):
        return None
    new = {tag["Key"]: tag for tag in request["Tags"]}
    resource.tags[:] = [tag for tag in resource.tags if tag["Key"] not in new] + list(new.values())
    return {"Tags": list(resource.tags)}


def of_registry(function: Callable[[Any, Json], Json]) -> Operation:
    """Return an operation of the model registry."""
    return lambda service, request: function(service.backend, request)


OPERATIONS: dict[str, Operation] = {
    "create_pipeline": Service.create,
    "update_pipeline": Service.update,
    "describe_pipeline": lambda service, request: service.describe_pipeline(**request),
    "list_pipeline_versions": Service.list_versions,
    "start_pipeline_execution": Service.start,
    "stop_pipeline_execution": Service.stop,
    "retry_pipeline_execution": Service.retry,
    "describe_pipeline_execution": Service.describe_execution,
    "list_pipeline_executions": Service.list_executions,
    "list_pipeline_execution_steps": Service.list_steps,
    "list_pipeline_parameters_for_execution": Service.list_parameters,
    "describe_pipeline_definition_for_execution": Service.describe_definition,
    "describe_processing_job": describe_job("Processing"),
    "describe_training_job": describe_job("Training"),
    "describe_transform_job": describe_job("Transform"),
    "describe_hyper_parameter_tuning_job": describe_job("HyperParameterTuning"),
    "list_training_jobs_for_hyper_parameter_tuning_job": list_trials,
    "create_transform_job": Service.create_transform_job,
    "create_model_package": of_registry(registry.create),
    "describe_model_package": of_registry(registry.describe),
    "update_model_package": of_registry(registry.update),
    "list_model_packages": of_registry(registry.list_packages),
    "create_model_package_group": of_registry(registry.create_group),
    "describe_model_package_group": of_registry(
        lambda backend, request: registry.find_group(backend, request["ModelPackageGroupName"]).response_object
    ),
    "get_model_package_group_policy": of_registry(registry.get_policy),
    "put_model_package_group_policy": of_registry(registry.put_policy),
    "add_tags": add_tags,
}


def install(fake_aws: FakeAws) -> None:
    """Patch moto."""
    for name in service_model("sagemaker").operation_names:
        attribute = xform_name(name)
        moto = getattr(SageMakerResponse, attribute, None)
        if moto or attribute in OPERATIONS:
            operation = OPERATIONS.get(attribute, lambda service, request: None)
            setattr(SageMakerResponse, attribute, method(fake_aws, name, operation, moto))


def method(
    fake_aws: FakeAws, name: str, operation: Operation, moto: Any
) -> Callable[[SageMakerResponse], ActionResult]:
    """Return a method of moto's class: it refuses what SageMaker's model refuses, and calls `moto` for None."""

    def answer(self: SageMakerResponse) -> ActionResult:
        service = fake_aws.service(self.current_account, self.region)
        request = json.loads(self.body or "{}")
        if errors := request_errors(name, request):
            raise ValidationError(message=f"{len(errors)} validation error detected: {'; '.join(errors)}")
        try:
            result = operation(service, request)
        except ResourceNotFound as error:
            raise NotFound(message=str(error)) from None
        except SagegateError as error:
            raise ValidationError(message=str(error)) from None
        except FileExistsError as error:
            raise ConflictException(str(error)) from None
        except PermissionError as error:
            raise AccessDenied(str(error)) from None
        return moto(self) if result is None else ActionResult(result)

    return answer
