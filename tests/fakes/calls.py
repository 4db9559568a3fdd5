"""SageMaker's operations of moto's server, answered by the fake: `install` puts them on moto's response class."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ConflictException, SagemakerClientError, ValidationError
from moto.sagemaker.exceptions import ResourceNotFound as NotFoundAnswer
from moto.sagemaker.responses import SageMakerResponse

from fakes import pipelines, registry, transforming
from fakes.pages import between, page
from fakes.service import Conflict, Service
from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.local.client import ResourceNotFound

if TYPE_CHECKING:
    from fakes.server import FakeAws

Call = Callable[[Service, Json], Json | None]


class AccessDenied(SagemakerClientError):
    """What a caller who is not allowed to gets."""

    code = "AccessDeniedException"


def _describe(kind: str) -> Call:
    """A Describe*Job call; None, and so moto's own answer, for a job that no pipeline ran."""
    return lambda service, request: service.jobs.describe(kind, request[f"{kind}JobName"])


def _list_packages(service: Service, request: Json) -> Json:
    name = str(request.get("ModelPackageGroupName", "")).rpartition("/")[2]
    status = request.get("ModelApprovalStatus")
    found = [
        package
        for package in list(service.backend.model_packages.values())
        if (not name or package.model_package_group_name == name)
        and status in (None, package.model_approval_status)
        and request.get("NameContains", "") in package.model_package_name
        and between(package.creation_time, request, "CreationTimeAfter", "CreationTimeBefore")
        and (name or request.get("ModelPackageType") == "Both" or _is_of_type(package.model_package_version, request))
    ]
    key = "model_package_name" if request.get("SortBy") == "Name" else "creation_time"
    # SageMaker's default is Ascending; versions made within a tick of the clock keep their order.
    found.sort(
        key=lambda p: (getattr(p, key), p.model_package_version or 0), reverse=request.get("SortOrder") == "Descending"
    )
    return page("ModelPackageSummaryList", [registry.described(package) for package in found], request)


def _is_of_type(version: int | None, request: Json) -> bool:
    return (version is not None) == (request.get("ModelPackageType") == "Versioned")


def _add_tags(service: Service, request: Json) -> Json | None:
    """AddTags: a key that is there gets the new value. (moto has it twice then.)"""
    resource = service.backend._get_resource_from_arn(request["ResourceArn"])
    if resource is None or not isinstance(getattr(resource, "tags", None), list):
        return None
    new = {tag["Key"]: tag for tag in request["Tags"]}
    resource.tags[:] = [tag for tag in resource.tags if tag["Key"] not in new] + list(new.values())
    return {"Tags": list(resource.tags)}


OPERATIONS: dict[str, Call] = {
    "create_pipeline": pipelines.create,
    "update_pipeline": pipelines.update,
    "delete_pipeline": pipelines.delete,
    "describe_pipeline": lambda s, r: s.describe_pipeline(PipelineName=r["PipelineName"]),
    "start_pipeline_execution": Service.start,
    "stop_pipeline_execution": Service.stop,
    "retry_pipeline_execution": Service.retry,
    "describe_pipeline_execution": Service.describe_execution,
    "list_pipeline_executions": Service.list_executions,
    "list_pipeline_execution_steps": Service.list_steps,
    "list_pipeline_parameters_for_execution": Service.list_parameters,
    "describe_pipeline_definition_for_execution": Service.describe_definition,
    "describe_processing_job": _describe("Processing"),
    "describe_training_job": _describe("Training"),
    "describe_transform_job": _describe("Transform"),
    "describe_hyper_parameter_tuning_job": _describe("HyperParameterTuning"),
    "create_transform_job": transforming.create,
    "create_model_package": lambda s, r: {"ModelPackageArn": registry.create(s.backend, r).arn},
    "describe_model_package": lambda s, r: registry.described(registry.package_of(s.backend, r["ModelPackageName"])),
    "update_model_package": lambda s, r: registry.update(s.backend, r),
    "list_model_packages": _list_packages,
    "delete_model_package": lambda s, r: registry.delete(s.backend, r),
    "create_model_package_group": lambda s, r: registry.create_group(s.backend, r),
    "describe_model_package_group": lambda s, r: (
        registry.group_of(s.backend, r["ModelPackageGroupName"]).response_object
    ),
    "delete_model_package_group": lambda s, r: registry.delete_group(s.backend, r),
    "get_model_package_group_policy": lambda s, r: registry.policy(s.backend, r),
    "put_model_package_group_policy": lambda s, r: registry.put_policy(s.backend, r),
    "delete_model_package_group_policy": lambda s, r: registry.put_policy(s.backend, r) and {},
    "add_tags": _add_tags,
}


def install(fake_aws: FakeAws) -> Callable[[], None]:
    """Answer these operations from `fake_aws`; the function that gives moto its own back."""
    before = {name: SageMakerResponse.__dict__.get(name) for name in OPERATIONS}
    for name, call in OPERATIONS.items():
        setattr(SageMakerResponse, name, _method(fake_aws, call, before[name]))

    def uninstall() -> None:
        for name, method in before.items():
            if method is None:
                delattr(SageMakerResponse, name)
            else:
                setattr(SageMakerResponse, name, method)

    return uninstall


def _method(fake_aws: FakeAws, call: Call, moto: Any) -> Callable[[SageMakerResponse], ActionResult]:
    def method(self: SageMakerResponse) -> ActionResult:
        service = fake_aws.service(self.current_account, self.region)
        try:
            answer = call(service, json.loads(self.body or "{}"))
        except ResourceNotFound as error:
            raise NotFoundAnswer(message=str(error)) from None
        except SagegateError as error:
            raise ValidationError(message=str(error)) from None
        except (Conflict, FileExistsError) as error:
            raise ConflictException(str(error)) from None
        except PermissionError as error:
            raise AccessDenied(str(error)) from None
        if answer is None:
            result: ActionResult = moto(self)
            return result
        return ActionResult(answer)

    return method
