"""`sagegate deploy ENV`: deploy the model that deployments/ENV.json pins, test it, and roll back if it fails.

Check, approve, change the endpoint's stack (a canary with alarms), smoke test, set the champion or roll back,
write the record. Each step can be repeated, so a rerun after any interruption converges. A model that is deployed and
healthy is left alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagegate import markdown, output
from sagegate.account import cloudformation
from sagegate.account.cloudformation import StackFailed, StackSpec, declared_only
from sagegate.config import Environment
from sagegate.deployment.smoke_test import SmokeResult, SmokeTestFailed, read_sample, smoke_test_endpoint
from sagegate.errors import FAILED, USAGE, SagegateError, warn
from sagegate.files import Json
from sagegate.names import Names
from sagegate.registry import champion, deployments
from sagegate.registry.approval import artifact_uri, keep_artifact
from sagegate.registry.deployments import PinnedModel, Record
from sagegate.repository.git import Origin, is_committed, origin
from sagegate.session import Session, is_missing, open_session, read_object

STAGES = {"staging": "Staging", "prod": "Production"}
MAX_STAGE_DESCRIPTION = 1024  # characters; StageDescription in the API reference of ModelLifeCycle


@dataclass(frozen=True)
class Model:
    """A model package to deploy: its ARN, its version and the SHA-256 of its artifact."""

    arn: str
    version: int
    digest: str


def deploy(
    root: Path, environment: str, package: PinnedModel | None = None, confirm: Callable[[str], bool] = lambda _: True
) -> int:
    """Deploy the pinned model, or `package`, and return the exit code. `confirm` is asked before prod changes.

    If it fails, the code is 1 and the previous model serves again: CloudFormation restores it after a failed update of
    the stack, `roll_back` after a failed smoke test. The failed model stays approved, in stage Failed. Raises
    SagegateError if the model may not be deployed; nothing is changed then.
    """
    if environment == "local":
        from sagegate.deployment.serve import serve

        serve(open_session(root, "local"), None, 0, only_test=True)
        return 0
    if environment not in deployments.DEPLOYABLE:
        raise SagegateError(f"{environment}: only {' and '.join(deployments.DEPLOYABLE)} are deployed to", USAGE)
    from_pin = package is None
    if package is None:
        pin = deployments.read_manifest(root, environment)
        if pin is None:
            output.line(f"deployments/{environment}.json does not exist: `sagegate promote {environment}` writes it")
            return 0
        package = pin.model
    session = open_session(root, environment)
    dev = open_session(root, "dev")

    try:
        described, artifact = check_deployable(session, dev, package)
        # A batch model has no endpoint to test. A model without a sample cannot be tested, so it must not go live.
        sample = None if session.environment.endpoint.mode == "batch" else read_sample(artifact)
    except SagegateError as error:
        markdown.append_summary(markdown.deployment_summary(environment, package.version, False, str(error)))
        raise SagegateError(f"{environment}: {error}") from None

    model = Model(package.arn, package.version, package.artifact.sha256)
    project = session.settings.project
    tags = {"project": project.name, "repository": project.repository, "environment": environment}
    spec = endpoint_stack(root, session.environment, session.names, model, tags)
    client = session.client("cloudformation")
    latest = deployments.latest_record(session)
    is_healthy = latest is not None and latest.result == "healthy" and latest.artifact_sha256 == model.digest
    if is_healthy and cloudformation.is_up_to_date(client, spec):
        line = f"{environment}: model {model.version} is deployed and healthy already"
        output.verdict(True, line, None)
        markdown.append_summary(markdown.verdict_summary(True, line, "nothing was changed"))
        return 0

    if from_pin and not is_committed(root, f"deployments/{environment}.json"):
        warn(f"deployments/{environment}.json is not committed: nobody has reviewed what is deployed")
    if environment == "prod" and not confirm(f"Deploy model {model.version} to prod ({spec.name})?"):
        raise SagegateError("prod: nothing was changed")
    source = origin(root, environment)
    described = keep_artifact(dev, described, artifact)
    # An endpoint accepts approved packages only.
    approval = {
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": f"deployed to {environment}: {source.sentence}",
    }
    set_stage(dev, environment, package, "Approved", source.sentence, **approval)

    current = cloudformation.snapshot(client, spec.name, output.line)
    healthy = deployments.last_healthy(session)
    served = max(healthy.version if healthy else 0, int(current.parameters.get("ModelVersion", 0)) if current else 0)
    previous = previous_stack(session, spec, model, current)
    output.line(f"{environment}: model {model.version}: stack {spec.name}")
    failure, smoke = None, None
    try:
        cloudformation.deploy_stack(client, spec, output.line)
        smoke = smoke_test_endpoint(session, sample) if sample else None
    except StackFailed as error:
        failure = "; ".join([str(error), *_alarms_in_alarm(session)])
    except SmokeTestFailed as error:
        failure = f"{error}; {roll_back(client, spec, previous)}"

    if failure is None:
        update_champion(dev, described, package, served)
    reason = failure or (str(smoke) if smoke else "registered for batch jobs; there is no endpoint to test")
    _write_record(session, dev, model, source, failure is None, reason, smoke)
    if failure:
        set_stage(dev, environment, package, "Failed", failure)
    outcome = f"was not deployed: {reason}" if failure else f"is live: {reason}"
    output.verdict(not failure, f"{environment}: model {model.version} {outcome}", None)
    return FAILED if failure else 0


def check_deployable(session: Session, dev: Session, pinned: PinnedModel) -> tuple[Json, bytes]:
    """Return DescribeModelPackage's response and the artifact of a pinned model.

    Raises SagegateError if the model is not this project's, is rejected, was changed since its review, or, for prod,
    was not healthy in staging. The registry may be in another account than the endpoint.
    """
    model = f"model {pinned.version}"
    if (pinned.account_id, pinned.region) != (dev.names.account_id, dev.names.region):
        raise SagegateError(
            f"{model} is from account {pinned.account_id} in {pinned.region}: only models that were trained in "
            f"{dev.names.account_id} in {dev.names.region} (environments/dev.toml) are deployed"
        )
    if pinned.group != dev.names.group:
        raise SagegateError(f"{model} is of model package group {pinned.group}: this project's is {dev.names.group}")
    try:
        package: Json = session.sagemaker.describe_model_package(ModelPackageName=pinned.arn)
    except Exception as error:
        if not is_missing(session, error):
            raise
        raise SagegateError(f"{model} ({pinned.arn}) is not in the registry: promote a model that is") from None
    if package["ModelApprovalStatus"] == "Rejected":
        raise SagegateError(f"{model} is rejected: {package.get('ApprovalDescription') or 'no reason was given'}")
    registered = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    if registered != pinned.artifact.uri:
        raise SagegateError(
            f"{model}: in the registry its artifact is {registered}, in the pin it is {pinned.artifact.uri}"
        )
    artifact = read_object(session, artifact_uri(package))
    if artifact is None:
        raise SagegateError(f"{model}: its artifact {artifact_uri(package)} does not exist")
    digest = hashlib.sha256(artifact).hexdigest()
    if digest != pinned.artifact.sha256:
        raise SagegateError(
            f"{model}: its artifact has digest {digest[:12]}, the reviewed one had {pinned.artifact.sha256[:12]}: "
            "it was changed after it was registered"
        )
    if session.environment.name == "prod":
        # The record is of this package, because prod may roll back to a model that staging no longer runs. It is read
        # from dev's bucket, because a job of prod has no role in staging's account.
        record = deployments.last_record_of(dev, pinned.arn, pinned.artifact.sha256, "staging")
        if record is None:
            raise SagegateError(f"{model} was never healthy in staging: promote and deploy it there first")
        if record.result != "healthy":
            raise SagegateError(f"{model} is not healthy in staging: {record.reason}")
    return package, artifact


def set_stage(dev: Session, environment: str, package: PinnedModel, status: str, why: str, **decision: str) -> None:
    """Set the package's ModelLifeCycle, which Studio shows, and with `decision` its approval."""
    description = " ".join(why.split())[:MAX_STAGE_DESCRIPTION]
    stage = {"Stage": STAGES[environment], "StageStatus": status, "StageDescription": description}
    dev.sagemaker.update_model_package(ModelPackageArn=package.arn, ModelLifeCycle=stage, **decision)


def endpoint_stack(root: Path, environment: Environment, names: Names, model: Model, tags: dict[str, str]) -> StackSpec:
    """Return the endpoint's stack with `model`.

    The parameter Revision is a digest of the template and all other parameters. It is part of the names of the
    SageMaker model and endpoint configuration, which cannot be changed in place.
    """
    template = (root / "infra" / "endpoint.yaml").read_text(encoding="utf-8")
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


def previous_stack(session: Session, spec: StackSpec, model: Model, current: StackSpec | None) -> StackSpec | None:
    """Return the stack to restore if this deployment fails, or None if the stack must be deleted then.

    That is the current stack if it is healthy, else that of the last healthy deployment of another model: an
    interrupted run may have left the current stack with a model that nobody tested.
    """
    if current is None:
        return None
    digest = current.parameters.get("ArtifactDigest")
    healthy = deployments.last_healthy(session)
    if current.parameters != spec.parameters and healthy and healthy.artifact_sha256 == digest:
        return current
    record = deployments.last_healthy(session, other_than=model.digest)
    if record is None:
        return None if digest == model.digest else current
    former = Model(record.model_package_arn, record.version, record.artifact_sha256)
    return endpoint_stack(session.root, session.environment, session.names, former, spec.tags)


def roll_back(client: Any, spec: StackSpec, previous: StackSpec | None) -> str:
    """Restore the previous stack, or delete the stack if there is none; return a sentence on what happened."""
    if not cloudformation.is_up_to_date(client, spec):
        return "another deployment has changed the stack since then, so it is not rolled back"
    try:
        if previous is None:
            output.line(f"deleting {spec.name}: there is no healthy model to restore")
            cloudformation.delete_stack(client, spec.name, output.line)
            return "the endpoint was deleted"
        model = f"model {previous.parameters['ModelVersion']}"
        output.line(f"restoring {model}")
        cloudformation.deploy_stack(client, previous, output.line)
        return f"{model} serves again"
    except StackFailed as error:
        return f"the rollback failed: {error}"


def update_champion(dev: Session, described: Json, package: PinnedModel, served: int) -> None:
    """Make the deployed model the champion, unless that would lower the bar for candidates.

    `served` is the version that this environment had before, or 0. A newer champion is replaced only if this
    environment rolls back from it; not if prod deploys later than staging, or the same model with other settings.
    """
    best = champion.current_champion(dev)
    if not best or (best["digest"] != package.artifact.sha256 and best["version"] <= max(package.version, served)):
        champion.set_champion(dev, described)


def record_sessions(session: Session, dev: Session) -> list[Session]:
    """Return the sessions whose buckets store the deployment record, in the order of writing.

    Promotion and deployments to prod read dev's bucket. The environment's own bucket is last, because a rerun takes a
    record there as proof that everything was done.
    """
    return [session] if session.names.artifacts == dev.names.artifacts else [dev, session]


def _alarms_in_alarm(session: Session) -> list[str]:
    """Return the endpoint's alarms in state ALARM, for the reason of a failure; CloudFormation may not name them."""
    names = [f"{session.names.endpoint}-{alarm}" for alarm in ("5xx", "latency", "cpu")]
    alarms = session.client("cloudwatch").describe_alarms(AlarmNames=names, StateValue="ALARM")["MetricAlarms"]
    return [f"in ALARM: {', '.join(str(alarm['AlarmName']) for alarm in alarms)}"] if alarms else []


def _write_record(
    session: Session, dev: Session, model: Model, source: Origin, healthy: bool, reason: str, smoke: SmokeResult | None
) -> None:
    environment = session.environment.name
    record = Record(
        environment=environment,
        version=model.version,
        model_package_arn=model.arn,
        artifact_sha256=model.digest,
        result="healthy" if healthy else "failed",
        reason=reason,
        commit=source.commit,
        deployed_by=source.by,
        pull_request=source.pull_request,
        at=deployments.utc_now(),
        details={"job": source.job, "smoke": vars(smoke) if smoke else None},
    )
    for where in record_sessions(session, dev):
        deployments.write_record(where, record)
    facts = [
        ("model package", record.model_package_arn),
        ("artifact", f"SHA-256 {record.artifact_sha256}"),
        ("endpoint", session.names.endpoint),
        ("account", f"{session.names.account_id}, {session.names.region}"),
        ("commit", record.commit),
        ("deployed by", record.deployed_by),
        ("pull request", record.pull_request),
    ]
    markdown.append_summary(markdown.deployment_summary(environment, record.version, healthy, reason, facts))
