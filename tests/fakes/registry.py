"""SageMaker's Model Registry: moto's records, with the fields, policies and other accounts that moto lacks.

Fields without a place in moto's record are in its attribute `more`. Errors are SagegateError (a ValidationException),
PermissionError (AccessDeniedException) and FileExistsError (ConflictException).
"""

from __future__ import annotations

import threading
from pathlib import Path

from moto.core.utils import camelcase_to_underscores
from moto.sagemaker.models import ModelPackage, ModelPackageGroup, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.utils import validate_model_approval_status
from moto.utilities.utils import get_partition

from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.local.state import Registry, now

IN_MOTO = (
    *("ModelPackageDescription", "InferenceSpecification", "SourceAlgorithmSpecification", "ValidationSpecification"),
    *("CertifyForMarketplace", "ModelApprovalStatus", "MetadataProperties", "ModelMetrics"),
    *("CustomerMetadataProperties", "DriftCheckBaselines", "Domain", "Task", "SamplePayloadUrl"),
    *("AdditionalInferenceSpecifications", "ClientToken", "Tags"),
)
NOT_IN_MOTO = ("ModelLifeCycle", "SourceUri", "ModelCard", "SecurityConfig", "SkipModelValidation")
DEFAULT_PAGE = 10  # small, so that a caller who ignores NextToken is caught
LOCK = threading.RLock()


def page(key: str, items: list[Json], request: Json) -> Json:
    """Return one page of a list, with NextToken if there are more."""
    start = int(request.get("NextToken", 0))
    end = start + int(request.get("MaxResults") or DEFAULT_PAGE)
    return {key: items[start:end]} | ({"NextToken": str(end)} if end < len(items) else {})


class MotoRegistry(Registry):
    """The registry that RegisterModel steps write to."""

    def __init__(self, folder: Path, account_id: str, region: str) -> None:
        super().__init__(folder, f"arn:{get_partition(region)}:sagemaker:{region}:{account_id}:model-package")
        self.backend = sagemaker_backends[account_id][region]

    def register(self, request: Json) -> Json:
        """Add a version to a group, which is created if it does not exist, and return its description."""
        with LOCK:
            group = short(request["ModelPackageGroupName"])
            if group not in self.backend.model_package_groups:
                self.backend.create_model_package_group(group, "", [])
            arn = create(self.backend, request)["ModelPackageArn"]
            return describe(self.backend, {"ModelPackageName": arn})


def short(name: str) -> str:
    """Return the name in a name or ARN of a group."""
    return name.rpartition("/")[2]


# --- packages ----------------------------------------------------------------------------------------------------
def create(backend: SageMakerModelBackend, request: Json) -> Json:
    """CreateModelPackage, of versions in groups only."""
    with LOCK:
        group = find_group(backend, request["ModelPackageGroupName"]).model_package_group_name
        fields: Json = {camelcase_to_underscores(field): request.get(field) for field in IN_MOTO}
        fields["model_approval_status"] = fields["model_approval_status"] or "PendingManualApproval"
        arn = backend.create_model_package(model_package_name=None, model_package_group_name=group, **fields)
        more = {field: request[field] for field in NOT_IN_MOTO if field in request}
        backend.model_packages[arn].more = more  # type: ignore[attr-defined]
        return {"ModelPackageArn": arn}


def members(backend: SageMakerModelBackend, group: str) -> list[ModelPackage]:
    """Return the packages of a group."""
    return [p for p in list(backend.model_packages.values()) if p.model_package_group_name == group]


def find(backend: SageMakerModelBackend, name: str) -> ModelPackage:
    """Return a package by its ARN or name; of another account if its group's policy names the caller's account."""
    parts = name.split(":")
    home = sagemaker_backends[parts[4]][parts[3]] if len(parts) == 6 else backend
    package = home.model_packages.get(home.model_package_name_mapping.get(name, name))
    if package is None:
        raise SagegateError(f"ModelPackage {name} does not exist.")
    group = home.model_package_groups[str(package.model_package_group_name)]
    if home.account_id != backend.account_id and backend.account_id not in getattr(group, "policy", ""):
        raise PermissionError(f"Account {backend.account_id} is not authorized to access resource {name}")
    return package


def describe(backend: SageMakerModelBackend, request: Json) -> Json:
    """DescribeModelPackage."""
    package = find(backend, request["ModelPackageName"])
    return package.gen_response_object() | dict(getattr(package, "more", {}))


def list_packages(backend: SageMakerModelBackend, request: Json) -> Json:
    """ListModelPackages of a group, oldest first by default as SageMaker does."""
    status = request.get("ModelApprovalStatus")
    matches = [
        package
        for package in members(backend, short(request["ModelPackageGroupName"]))
        if status in (None, package.model_approval_status)
    ]
    # Versions that were created at the same instant keep their order.
    matches.sort(
        key=lambda p: (p.creation_time, p.model_package_version or 0), reverse=request.get("SortOrder") == "Descending"
    )
    summaries = [describe(backend, {"ModelPackageName": package.arn}) for package in matches]
    return page("ModelPackageSummaryList", summaries, request)


def update(backend: SageMakerModelBackend, request: Json) -> Json:
    """UpdateModelPackage: change the given fields only."""
    with LOCK:
        package = find(backend, request["ModelPackageArn"])
        validate_model_approval_status(request.get("ModelApprovalStatus"))
        for field in ("ModelApprovalStatus", "ApprovalDescription", "InferenceSpecification"):
            if field in request:
                setattr(package, camelcase_to_underscores(field), request[field])
        added = request.get("AdditionalInferenceSpecificationsToAdd") or []
        specifications = [*(package.additional_inference_specifications or []), *added]
        if len({each["Name"] for each in specifications}) < len(specifications):
            raise SagegateError("The name of an additional inference specification must be unique.")
        package.additional_inference_specifications = specifications or None
        properties = dict(package.customer_metadata_properties or {}) | request.get("CustomerMetadataProperties", {})
        package.customer_metadata_properties = properties or None
        more = getattr(package, "more", {}) | {field: request[field] for field in NOT_IN_MOTO if field in request}
        package.more = more  # type: ignore[attr-defined]
        package.last_modified_time = now()
        package.last_modified_by = package.created_by
    return {"ModelPackageArn": package.arn}


# --- groups ------------------------------------------------------------------------------------------------------
def find_group(backend: SageMakerModelBackend, name: str) -> ModelPackageGroup:
    """Return a group by its name or ARN."""
    group = backend.model_package_groups.get(short(name))
    if group is None:
        prefix = f"arn:{backend.partition}:sagemaker:{backend.region_name}:{backend.account_id}"
        raise SagegateError(f"ModelPackageGroup {prefix}:model-package-group/{short(name)} does not exist.")
    return group


def create_group(backend: SageMakerModelBackend, request: Json) -> Json:
    """CreateModelPackageGroup."""
    with LOCK:
        name = request["ModelPackageGroupName"]
        if name in backend.model_package_groups:
            raise SagegateError(f"Model Package Group already exists: {backend.model_package_groups[name].arn}")
        description = request.get("ModelPackageGroupDescription", "")
        arn = backend.create_model_package_group(name, description, request.get("Tags") or [])
        return {"ModelPackageGroupArn": arn}


def get_policy(backend: SageMakerModelBackend, request: Json) -> Json:
    """GetModelPackageGroupPolicy."""
    group = find_group(backend, request["ModelPackageGroupName"])
    if not getattr(group, "policy", ""):
        raise SagegateError(f"Cannot find resource policy for: {group.arn}")
    return {"ResourcePolicy": group.policy}  # type: ignore[attr-defined]


def put_policy(backend: SageMakerModelBackend, request: Json) -> Json:
    """PutModelPackageGroupPolicy."""
    group = find_group(backend, request["ModelPackageGroupName"])
    group.policy = request["ResourcePolicy"]  # type: ignore[attr-defined]
    return {"ModelPackageGroupArn": group.arn}
