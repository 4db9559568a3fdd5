"""Which permissions a request needs: the action, the ARN it acts on, and IAM's context keys. Pure.

Source: the "Service Authorization Reference" of each service. moto asks for the action only, on resource `*`, whatever
is acted on; so a role that may update one endpoint might update all. What is not listed here needs `*`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sagegate.files import Json

SAGEMAKER = {
    "PipelineName": "pipeline",
    "ModelPackageGroupName": "model-package-group",
    "ProcessingJobName": "processing-job",
    "TrainingJobName": "training-job",
    "HyperParameterTuningJobName": "hyper-parameter-tuning-job",
    "TransformJobName": "transform-job",
    "ModelName": "model",
    "EndpointConfigName": "endpoint-config",
    "EndpointName": "endpoint",
}
ROLES = ("RoleArn", "ExecutionRoleArn")
SCALING = "application-autoscaling"
S3 = {"HeadBucket": "ListBucket", "HeadObject": "GetObject"}


@dataclass(frozen=True)
class Asked:
    """One permission."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a request arrives."""

    partition: str
    region: str
    account: str

    def arn(self, service: str, resource: str, region: str | None = None) -> str:
        """An ARN of this place."""
        return f"arn:{self.partition}:{service}:{self.region if region is None else region}:{self.account}:{resource}"


def asked(service: str, operation: str, request: Json, place: Place) -> list[Asked]:
    """The permissions that an operation of a service needs; all of them must be given. For S3, see `of_s3`."""
    listing = {"sagemaker": _sagemaker, "cloudformation": _stacks, "cloudwatch": _watching, "logs": _logs, "iam": _iam}
    action = f"{service}:{operation}"
    if service == SCALING and not operation.startswith("Describe"):
        keys = {"ServiceNamespace": "service-namespace", "ScalableDimension": "scalable-dimension"}
        context = {f"{SCALING}:{key}": str(request[name]) for name, key in keys.items() if name in request}
        found = [Asked(action, place.arn(SCALING, "scalable-target/0"), context)]
        return found + ([Asked(f"{SCALING}:TagResource", found[0].resource)] if request.get("Tags") else [])
    return list(listing[service](operation, request, place) if service in listing else ()) or [Asked(action, "*")]


def of_s3(action: str, resource: str, prefix: str | None, source: str | None) -> list[Asked]:
    """The permissions of a request to S3; `source` is the bucket and key that an object is copied from."""
    name = S3.get(action, action)
    found = [Asked(f"s3:{name}", resource, {"s3:prefix": prefix or ""} if name == "ListBucket" else {})]
    return found + ([Asked("s3:GetObject", f"arn:aws:s3:::{source.lstrip('/')}")] if source else [])


def _sagemaker(operation: str, request: Json, place: Place) -> Iterator[Asked]:
    status = request.get("ModelApprovalStatus")
    context = {"sagemaker:ModelApprovalStatus": str(status)} if status else {}
    resources = []
    for key, value in request.items():
        if str(value).startswith("arn:") and (key.endswith("Arn") or key.endswith("Name")) and key not in ROLES:
            resources.append(str(value))
        elif key in SAGEMAKER:
            resources.append(place.arn("sagemaker", f"{SAGEMAKER[key]}/{value}"))
    own = list(resources)
    if operation == "CreateModel":
        containers = [*request.get("Containers", []), request.get("PrimaryContainer") or {}]
        resources += [c["ModelPackageName"] for c in containers if "ModelPackageName" in c]
    for resource in resources:
        yield Asked(f"sagemaker:{operation}", resource, context)
    if request.get("Tags") and operation.startswith("Create"):
        yield from (Asked("sagemaker:AddTags", resource) for resource in own)
    for key in ROLES:
        if key in request:
            yield Asked("iam:PassRole", request[key], {"iam:PassedToService": "sagemaker.amazonaws.com"})


def _stacks(operation: str, request: Json, place: Place) -> Iterator[Asked]:
    name = request.get("StackName")
    if name:
        arn = name if str(name).startswith("arn:") else place.arn("cloudformation", f"stack/{name}/0")
        yield Asked(f"cloudformation:{operation}", arn)


def _watching(operation: str, request: Json, place: Place) -> Iterator[Asked]:
    for name in [*request.get("AlarmNames", []), *([request["AlarmName"]] if "AlarmName" in request else [])]:
        yield Asked(f"cloudwatch:{operation}", place.arn("cloudwatch", f"alarm:{name}"))
        if request.get("Tags"):
            yield Asked("cloudwatch:TagResource", place.arn("cloudwatch", f"alarm:{name}"))
    for name in [
        *request.get("DashboardNames", []),
        *([request["DashboardName"]] if "DashboardName" in request else []),
    ]:
        yield Asked(f"cloudwatch:{operation}", place.arn("cloudwatch", f"dashboard/{name}", region=""))


def _logs(operation: str, request: Json, place: Place) -> Iterator[Asked]:
    if "logGroupName" in request:
        yield Asked(f"logs:{operation}", place.arn("logs", f"log-group:{request['logGroupName']}:*"))


def _iam(operation: str, request: Json, place: Place) -> Iterator[Asked]:
    if "RoleName" in request:
        yield Asked(f"iam:{operation}", place.arn("iam", f"role/{request['RoleName']}", region=""))
