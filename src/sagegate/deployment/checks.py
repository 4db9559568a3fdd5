"""The checks before a deployment: the model is this project's, not rejected, unchanged since its review, and proven."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.names import Names
from sagegate.registry import deployments
from sagegate.registry.deployments import Package, Record
from sagegate.registry.evaluation import read_object
from sagegate.session import Session, is_missing


@dataclass(frozen=True)
class DeploymentInputs:
    """The facts that decide whether a model may be deployed.

    `package` is DescribeModelPackage's response and `artifact` the content of model.tar.gz; None if there is none.
    `staging` is the last record of a deployment of this package and artifact to staging. (Not of all deployments: prod
    may roll back to a model that staging no longer runs.)
    """

    pinned: Package
    package: Json | None
    artifact: bytes | None
    staging: Record | None


def read_inputs(session: Session, dev: Session, pinned: Package) -> DeploymentInputs:
    """Read the facts about a pinned model. The registry may be in another account than the endpoint."""
    package: Json | None
    try:
        package = session.sagemaker.describe_model_package(ModelPackageName=pinned.arn)
    except Exception as error:
        if not is_missing(session, error):
            raise
        package = None
    staging = None
    if session.environment.name == "prod":
        # From dev's bucket, because a job of prod has no role in staging's account.
        staging = deployments.last_record_of(dev, pinned.arn, pinned.artifact.sha256, "staging")
    return DeploymentInputs(pinned, package, read_object(session, pinned.artifact.uri), staging)


def check_deployable(environment: str, inputs: DeploymentInputs, dev: Names) -> None:
    """Raise SagegateError if the model may not be deployed to `environment`; `dev` are the names of dev's resources."""
    pinned, package = inputs.pinned, inputs.package
    model = f"model {pinned.version}"
    if (pinned.account_id, pinned.region) != (dev.account_id, dev.region):
        raise SagegateError(
            f"{model} is from account {pinned.account_id} in {pinned.region}: only models that were trained in "
            f"{dev.account_id} in {dev.region} (environments/dev.toml) are deployed"
        )
    if pinned.group != dev.group:
        raise SagegateError(f"{model} is of model package group {pinned.group}: this project's is {dev.group}")
    if package is None:
        raise SagegateError(f"{model} ({pinned.arn}) is not in the registry: promote a model that is")
    if package["ModelApprovalStatus"] == "Rejected":
        raise SagegateError(f"{model} is rejected: {package.get('ApprovalDescription') or 'no reason was given'}")
    registered = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    if registered != pinned.artifact.uri:
        raise SagegateError(
            f"{model}: in the registry its artifact is {registered}, in the pin it is {pinned.artifact.uri}"
        )
    if inputs.artifact is None:
        raise SagegateError(f"{model}: its artifact {pinned.artifact.uri} does not exist")
    digest = hashlib.sha256(inputs.artifact).hexdigest()
    if digest != pinned.artifact.sha256:
        raise SagegateError(
            f"{model}: its artifact has digest {digest[:12]}, the reviewed one had {pinned.artifact.sha256[:12]}: "
            "it was changed after it was registered"
        )
    if environment != "prod":
        return
    if inputs.staging is None:
        raise SagegateError(f"{model} was never healthy in staging: promote and deploy it there first")
    if inputs.staging.result != "healthy":
        raise SagegateError(f"{model} is not healthy in staging: {inputs.staging.reason}")
