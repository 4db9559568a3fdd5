"""Whether a pinned model may be deployed, and the stack that deploys it. Pure: facts in, refusals and a request out."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from sagegate.account.cloudformation import Wanted
from sagegate.config import Environment
from sagegate.files import Json
from sagegate.names import Names
from sagegate.registry.deployments import Package, Record

TEMPLATE = Path("infra") / "endpoint.yaml"


@dataclass(frozen=True)
class Target:
    """A model to have behind the endpoint: its package's ARN and version, and its artifact's SHA-256."""

    arn: str
    version: int
    digest: str


@dataclass(frozen=True)
class Facts:
    """What is known of a pinned model when it is to be deployed.

    `package` is its DescribeModelPackage response or None; `digest` the SHA-256 of its artifact as it is in S3 now, or
    None; `staging` the last record of this very artifact's deployments to staging, or None. (Not of all deployments:
    prod can go back to a model that staging has left behind.)
    """

    pinned: Package
    package: Json | None
    digest: str | None
    staging: Record | None


def refusal(environment: str, facts: Facts, training: Names) -> str | None:
    """Why the model may not be deployed, or None. `training` names what belongs to the account that trains."""
    pinned, package = facts.pinned, facts.package
    what = f"model {pinned.version}"
    if (pinned.account_id, pinned.region) != (training.account_id, training.region):
        return (
            f"{what} is from account {pinned.account_id} in {pinned.region}: only models that were trained in "
            f"{training.account_id} in {training.region} (environments/dev.toml) are deployed"
        )
    if pinned.group != training.group:
        return f"{what} is of model package group {pinned.group}: this project's is {training.group}"
    if package is None:
        return f"{what} ({pinned.arn}) is not in the registry: was it deleted?"
    if package["ModelApprovalStatus"] == "Rejected":
        return f"{what} is rejected: {package.get('ApprovalDescription') or 'no reason was given'}"
    registered = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    if registered != pinned.artifact.uri:
        return f"{what}: the registry says its artifact is {registered}, the pinned one is {pinned.artifact.uri}"
    if facts.digest is None:
        return f"{what}: its artifact {pinned.artifact.uri} does not exist"
    if facts.digest != pinned.artifact.sha256:
        return (
            f"{what}: its artifact has digest {facts.digest[:12]}, the reviewed one had {pinned.artifact.sha256[:12]}: "
            "it was changed after it was registered"
        )
    return _unproven(what, facts) if environment == "prod" else None


def _unproven(what: str, facts: Facts) -> str | None:
    """Why a model may not go to prod by what staging shows."""
    if facts.staging is None:
        return f"{what} was never healthy in staging: promote and deploy it there first"
    if facts.staging.result != "healthy":
        return f"{what} is not healthy in staging: {facts.staging.reason}"
    return None


def stack(root: Path, environment: Environment, names: Names, target: Target, tags: dict[str, str]) -> Wanted:
    """The endpoint's stack for a model."""
    template = (root / TEMPLATE).read_text(encoding="utf-8")
    values = parameters(environment, names, target)
    content = json.dumps([template, values], sort_keys=True)
    values["Revision"] = hashlib.sha256(content.encode()).hexdigest()[:8]
    return Wanted(names.endpoint_stack, template, values, tags)


def parameters(environment: Environment, names: Names, target: Target) -> dict[str, str]:
    """The parameters of infra/endpoint.yaml, without its Revision."""
    shape, network = environment.endpoint, environment.network
    return {
        "ProjectName": names.project,
        "Environment": environment.name,
        "ModelPackageArn": target.arn,
        "ModelVersion": str(target.version),
        "ArtifactDigest": target.digest,
        "EndpointRoleArn": names.iam_role("endpoint"),
        "KmsKeyArn": environment.encryption.kms_key_arn if environment.encryption else "",
        "SubnetIds": ",".join(network.subnet_ids) if network else "",
        "SecurityGroupIds": ",".join(network.security_group_ids) if network else "",
        "Mode": shape.mode,
        "InstanceType": shape.instance_type,
        "InstanceVcpus": str(vcpus(shape.instance_type)),
        "MinInstanceCount": str(shape.min_instance_count),
        "MaxInstanceCount": str(shape.max_instance_count),
        "InvocationsPerInstance": str(shape.invocations_per_instance),
        "Traffic": shape.traffic,
        "TrafficPercent": str(shape.traffic_percent),
        "WaitInSeconds": str(shape.wait_in_seconds),
        "CapturePercent": str(shape.capture_percent),
        "Max5xxErrors": str(shape.max_5xx_errors),
        "MaxLatencyInMilliseconds": str(shape.max_latency_in_milliseconds),
        "MaxCpuPercent": str(shape.max_cpu_percent),
        "MemorySizeInMb": str(shape.memory_size_in_mb),
        "MaxConcurrency": str(shape.max_concurrency),
    }


def vcpus(instance_type: str) -> int:
    """The vCPUs of an instance type: `medium` and `large` have 2, `xlarge` 4, `4xlarge` 16."""
    found = re.fullmatch(r"ml\.[a-z0-9-]+\.(?:(\d*)xlarge|.+)", instance_type)
    return 4 * int(found[1] or 1) if found and found[1] is not None else 2
