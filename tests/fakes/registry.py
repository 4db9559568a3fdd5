"""moto's Model Registry, with what it drops and lacks: fields, deletion, policies, other accounts.

moto's own records are kept, so that whatever reads them (its models, its CloudFormation) sees the same packages. The
fields that moto's record has no place for are in its attribute `more`.
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

OF_MOTO = (
    *("ModelPackageDescription", "InferenceSpecification", "SourceAlgorithmSpecification", "ValidationSpecification"),
    *("CertifyForMarketplace", "ModelApprovalStatus", "MetadataProperties", "ModelMetrics"),
    *("CustomerMetadataProperties", "DriftCheckBaselines", "Domain", "Task", "SamplePayloadUrl"),
    *("AdditionalInferenceSpecifications", "ClientToken", "Tags"),
)
BEYOND = ("ModelLifeCycle", "SourceUri", "ModelCard", "SecurityConfig", "SkipModelValidation")
LOCK = threading.RLock()


class MotoRegistry(Registry):
    """What a RegisterModel step writes to."""

    def __init__(self, folder: Path, account_id: str, region: str) -> None:
        super().__init__(folder, f"arn:{get_partition(region)}:sagemaker:{region}:{account_id}")
        self.backend = sagemaker_backends[account_id][region]
        self.region = region

    def register(self, request: Json) -> Json:
        """Add a model package as the next version of its group (made if new); its description."""
        with LOCK:
            group = request["ModelPackageGroupName"].rpartition("/")[2]
            if group not in self.backend.model_package_groups:
                self.backend.create_model_package_group(group, "", [])
            return described(create(self.backend, request))


def create(backend: SageMakerModelBackend, request: Json) -> ModelPackage:
    """CreateModelPackage; raises SagegateError as SageMaker refuses it. A version's number is never given twice."""
    with LOCK:
        name = str(request.get("ModelPackageGroupName", "")).rpartition("/")[2]
        single = request.get("ModelPackageName")
        if bool(name) == bool(single):
            raise SagegateError("Exactly one of ModelPackageName and ModelPackageGroupName must be given.")
        version = _next_version(backend, name) if name else None
        fields: Json = {camelcase_to_underscores(field): request.get(field) for field in OF_MOTO}
        package = ModelPackage(
            model_package_name=name or str(single),
            model_package_group_name=name or None,
            model_package_version=version,
            model_package_type="Versioned" if name else "Unversioned",
            approval_description=None,
            region_name=backend.region_name,
            account_id=backend.account_id,
            **fields,
        )
        if name and package.model_approval_status is None:
            package.model_approval_status = "PendingManualApproval"
        package.more = {field: request[field] for field in BEYOND if field in request}  # type: ignore[attr-defined]
        backend.model_packages[package.arn] = package
        backend.model_package_name_mapping |= {package.arn: package.arn, package.model_package_name: package.arn}
        return package


def _next_version(backend: SageMakerModelBackend, name: str) -> int:
    group = group_of(backend, name)
    versions = (
        p.model_package_version or 0 for p in backend.model_packages.values() if p.model_package_group_name == name
    )
    version = max(getattr(group, "last_version", 0), *versions, 0) + 1
    group.last_version = version  # type: ignore[attr-defined]
    return version


def group_of(backend: SageMakerModelBackend, name: str) -> ModelPackageGroup:
    """A group by its name or ARN; raises SagegateError."""
    group = backend.model_package_groups.get(name.rpartition("/")[2])
    if group is None:
        head = f"arn:{backend.partition}:sagemaker:{backend.region_name}:{backend.account_id}"
        raise SagegateError(f"ModelPackageGroup {head}:model-package-group/{name.rpartition('/')[2]} does not exist.")
    return group


def package_of(backend: SageMakerModelBackend, name: str) -> ModelPackage:
    """A package by its ARN (or name), of another account too where its group's policy names the caller's account.

    Raises SagegateError.
    """
    parts = name.split(":")
    home = backend
    if len(parts) == 6 and (parts[4], parts[3]) != (backend.account_id, backend.region_name):
        home = sagemaker_backends[parts[4]][parts[3]]
    package = home.model_packages.get(home.model_package_name_mapping.get(name, name))
    if package is None:
        raise SagegateError(f"ModelPackage {name} does not exist.")
    if home.account_id != backend.account_id:
        group = home.model_package_groups[str(package.model_package_group_name)]
        if backend.account_id not in getattr(group, "policy", ""):
            raise PermissionError(f"Account {backend.account_id} is not authorized to access resource {name}")
    return package


def described(package: ModelPackage) -> Json:
    """DescribeModelPackage's response."""
    return package.gen_response_object() | dict(getattr(package, "more", {}))


def update(backend: SageMakerModelBackend, request: Json) -> Json:
    """UpdateModelPackage: only what is given changes."""
    with LOCK:
        package = package_of(backend, request["ModelPackageArn"])
        validate_model_approval_status(request.get("ModelApprovalStatus"))
        for field in ("ModelApprovalStatus", "ApprovalDescription", "InferenceSpecification"):
            if field in request:
                setattr(package, camelcase_to_underscores(field), request[field])
        properties = dict(package.customer_metadata_properties or {}) | request.get("CustomerMetadataProperties", {})
        for key in request.get("CustomerMetadataPropertiesToRemove", []):
            properties.pop(key, None)
        package.customer_metadata_properties = properties or None
        package.add_additional_inference_specifications(request.get("AdditionalInferenceSpecificationsToAdd"))
        more = getattr(package, "more", {}) | {field: request[field] for field in BEYOND if field in request}
        package.more = more  # type: ignore[attr-defined]
        package.last_modified_time = now()
        package.last_modified_by = package.created_by
    return {"ModelPackageArn": package.arn}


def delete(backend: SageMakerModelBackend, request: Json) -> Json:
    """DeleteModelPackage."""
    with LOCK:
        package = package_of(backend, request["ModelPackageName"])
        del backend.model_packages[package.arn]
        mapping = backend.model_package_name_mapping
        for name in [name for name, arn in mapping.items() if arn == package.arn]:
            del mapping[name]
    return {}


def delete_group(backend: SageMakerModelBackend, request: Json) -> Json:
    """DeleteModelPackageGroup: an empty one; raises FileExistsError for one that still has versions."""
    with LOCK:
        group = group_of(backend, request["ModelPackageGroupName"])
        name = group.model_package_group_name
        if any(p.model_package_group_name == name for p in backend.model_packages.values()):
            raise FileExistsError(f"Model Package Group {name} contains model packages: delete them first.")
        del backend.model_package_groups[name]
    return {}


def create_group(backend: SageMakerModelBackend, request: Json) -> Json:
    """CreateModelPackageGroup; raises SagegateError where it exists."""
    with LOCK:
        name = request["ModelPackageGroupName"]
        if name in backend.model_package_groups:
            raise SagegateError(f"Model Package Group already exists: {backend.model_package_groups[name].arn}")
        description = request.get("ModelPackageGroupDescription", "")
        return {
            "ModelPackageGroupArn": backend.create_model_package_group(name, description, request.get("Tags") or [])
        }


def policy(backend: SageMakerModelBackend, request: Json) -> Json:
    """GetModelPackageGroupPolicy."""
    group = group_of(backend, request["ModelPackageGroupName"])
    if not getattr(group, "policy", ""):
        raise SagegateError(f"Cannot find resource policy for: {group.arn}")
    return {"ResourcePolicy": group.policy}  # type: ignore[attr-defined]


def put_policy(backend: SageMakerModelBackend, request: Json) -> Json:
    """PutModelPackageGroupPolicy; without ResourcePolicy it is DeleteModelPackageGroupPolicy."""
    group = group_of(backend, request["ModelPackageGroupName"])
    group.policy = request.get("ResourcePolicy", "")  # type: ignore[attr-defined]
    return {"ModelPackageGroupArn": group.arn}
