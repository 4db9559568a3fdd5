"""The CloudFormation stack of an environment's endpoint: infra/endpoint.yaml with its parameters."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from sagegate.account.cloudformation import StackSpec, declared_only
from sagegate.config import Environment
from sagegate.names import Names

TEMPLATE = Path("infra") / "endpoint.yaml"


@dataclass(frozen=True)
class Model:
    """A model package to deploy: its ARN, its version and the SHA-256 of its artifact."""

    arn: str
    version: int
    digest: str


def endpoint_stack(root: Path, environment: Environment, names: Names, model: Model, tags: dict[str, str]) -> StackSpec:
    """Return the endpoint's stack with `model`.

    The parameter Revision is a digest of the template and all other parameters. It is part of the names of the
    SageMaker model and endpoint configuration, which cannot be changed in place.
    """
    template = (root / TEMPLATE).read_text(encoding="utf-8")
    parameters = endpoint_parameters(environment, names, model)
    content = json.dumps([template, parameters], sort_keys=True)
    parameters["Revision"] = hashlib.sha256(content.encode()).hexdigest()[:8]
    return StackSpec(names.endpoint_stack, template, declared_only(template, parameters), tags)


def endpoint_parameters(environment: Environment, names: Names, model: Model) -> dict[str, str]:
    """Return the parameters of infra/endpoint.yaml except Revision."""
    endpoint, network = environment.endpoint, environment.network
    return {
        "ProjectName": names.project,
        "Environment": environment.name,
        "ModelPackageArn": model.arn,
        "ModelVersion": str(model.version),
        "ArtifactDigest": model.digest,
        "EndpointRoleArn": names.iam_role("endpoint"),
        "KmsKeyArn": environment.encryption.kms_key_arn if environment.encryption else "",
        "SubnetIds": ",".join(network.subnet_ids) if network else "",
        "SecurityGroupIds": ",".join(network.security_group_ids) if network else "",
        "Mode": endpoint.mode,
        "InstanceType": endpoint.instance_type,
        "InstanceVcpus": str(vcpus(endpoint.instance_type)),
        "MinInstanceCount": str(endpoint.min_instance_count),
        "MaxInstanceCount": str(endpoint.max_instance_count),
        "InvocationsPerInstance": str(endpoint.invocations_per_instance),
        "Traffic": endpoint.traffic,
        "TrafficPercent": str(endpoint.traffic_percent),
        "WaitInSeconds": str(endpoint.wait_in_seconds),
        "CapturePercent": str(endpoint.capture_percent),
        "Max5xxErrors": str(endpoint.max_5xx_errors),
        "MaxLatencyInMilliseconds": str(endpoint.max_latency_in_milliseconds),
        "MaxCpuPercent": str(endpoint.max_cpu_percent),
        "MemorySizeInMb": str(endpoint.memory_size_in_mb),
        "MaxConcurrency": str(endpoint.max_concurrency),
    }


def vcpus(instance_type: str) -> int:
    """Return the vCPUs of an instance type: `medium` and `large` have 2, `xlarge` 4, `4xlarge` 16."""
    size = re.fullmatch(r"ml\.[a-z0-9-]+\.(\d*)xlarge", instance_type)
    return 4 * int(size[1] or 1) if size else 2
