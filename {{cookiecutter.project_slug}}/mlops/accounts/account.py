"""What an AWS account has that a platform depends on, looked up. Reads only."""

from __future__ import annotations

from typing import Any

from mlops.accounts import platform, stacks, trust
from mlops.accounts.platform import Found
from mlops.aws import Door, is_missing

Json = dict[str, Any]
SCALING_ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def look(door: Door, stack: Json | None) -> Found:
    """What there is; `stack` is the platform's as CloudFormation describes it, None if there is none."""
    admitted, has_role, has_group = audiences(door), has_scaling_role(door), group_exists(door)
    if stack is None or stack["StackStatus"] in (*stacks.DEAD, "REVIEW_IN_PROGRESS"):
        return Found(audiences=admitted, has_scaling_role=has_role, has_group=has_group)
    given = stacks.parameters_of(stack)
    owned = stacks.resources(door.client("cloudformation"), door.names.platform_stack)
    return Found(given, frozenset(owned), stacks.outputs_of(stack), admitted, has_role, has_group)


def audiences(door: Door) -> tuple[str, ...] | None:
    """What GitHub's identity provider admits as a token's audience, or None if the account has no such provider."""
    iam = door.client("iam")
    try:
        found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=trust.provider_arn(door.names))
    except iam.exceptions.NoSuchEntityException:
        return None
    return tuple(found["ClientIDList"])


def admit(door: Door) -> str:
    """The command that lets an identity provider, made by others, admit our tokens."""
    return (
        "`aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn "
        f"{trust.provider_arn(door.names)} --client-id {platform.AUDIENCE}`"
    )


def has_scaling_role(door: Door) -> bool:
    """Whether the account has the role with which autoscaling changes endpoints."""
    iam = door.client("iam")
    try:
        iam.get_role(RoleName=SCALING_ROLE)
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def group_exists(door: Door) -> bool:
    """Whether there is the project's model package group."""
    try:
        door.sagemaker.describe_model_package_group(ModelPackageGroupName=door.names.group)
    except Exception as error:
        if is_missing(door, error):
            return False
        raise
    return True
