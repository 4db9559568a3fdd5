"""Compute the template, parameters and environments of an account's platform stack. No I/O but the template's file.

The roles and their permissions are in the project's infra/platform.yaml. This file only fills in its parameters.

An account and region has one platform for all environments in it. Some resources exist once per account or survive the
deletion of a stack: GitHub's OIDC provider, autoscaling's role, the model package group. The stack creates them only if
they are missing. (A bucket needs no parameter: the change set imports it by its name.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sagegate.account.cloudformation import StackSpec, declared_only
from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json
from sagegate.names import Names

ENVIRONMENTS = ("dev", "staging", "prod")
PLACEHOLDER_OWNER = "my-org"
MAX_TEMPLATE_BYTES = 51_200  # TemplateBody in the API reference of CreateChangeSet
PROVIDER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class AccountState:
    """The resources that an account and region already has.

    `parameters`, `resources` (logical ids) and `outputs` are those of the platform stack; `parameters` is None if there
    is no stack. `audiences` are those of GitHub's OIDC provider, None if the account has no such provider.
    """

    parameters: dict[str, str] | None = None
    resources: frozenset[str] = frozenset()
    outputs: dict[str, str] = field(default_factory=dict)
    audiences: tuple[str, ...] | None = None
    has_scaling_role: bool = False
    has_group: bool = False


def provider_arn(names: Names) -> str:
    """Return the ARN of GitHub's OIDC provider in the account."""
    return f"arn:{names.partition}:iam::{names.account_id}:oidc-provider/{PROVIDER}"


def read_template(root: Path) -> str:
    """Return the text of infra/platform.yaml. Raises SagegateError if it is missing or too large for CloudFormation."""
    file = root / "infra" / "platform.yaml"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SagegateError("infra/platform.yaml is missing: restore it from git", USAGE) from None
    size = len(text.encode())
    if size > MAX_TEMPLATE_BYTES:
        raise SagegateError(
            f"infra/platform.yaml has {size} bytes, CloudFormation takes {MAX_TEMPLATE_BYTES}: move your own resources "
            "to another template and stack",
            USAGE,
        )
    return text


def template_version(text: str) -> str | None:
    """Return the template's output TemplateVersion, which every stack made from it has."""
    match = re.search(r"^ +TemplateVersion: *\{ *Value: *[\"']?([^\"'}\s]+)", text, re.MULTILINE)
    return match[1] if match else None


def check_settings(settings: Settings, environments: dict[str, Environment], name: str) -> None:
    """Raise SagegateError if the settings do not allow a platform for environment `name`."""
    if name not in ENVIRONMENTS:
        raise SagegateError(f"{name!r} has no platform: choose {', '.join(ENVIRONMENTS)}", USAGE)
    if environments[name].account_id == PLACEHOLDER_ACCOUNT:
        raise SagegateError(placeholder_error(name))
    if settings.project.repository.partition("/")[0] == PLACEHOLDER_OWNER:
        raise SagegateError(
            f"mlops.toml: project.repository is still the placeholder {settings.project.repository}: put your own "
            "owner/name there, because the roles will trust it"
        )
    if environments["dev"].account_id == PLACEHOLDER_ACCOUNT:
        raise SagegateError(f"{placeholder_error('dev')}: {name} deploys the models that dev registers")
    for other in _with_account(environments):
        if other.region != environments["dev"].region:
            raise SagegateError(
                f"environments/{other.name}.toml: region {other.region} is not dev's {environments['dev'].region}: "
                "SageMaker deploys a model package in its own region only"
            )


def placeholder_error(name: str) -> str:
    """Return the error for an environment whose account is not set."""
    return (
        f"environments/{name}.toml: account_id is still the placeholder {PLACEHOLDER_ACCOUNT}: put your account there"
    )


def environments_to_serve(
    environments: dict[str, Environment], name: str, parameters: dict[str, str] | None
) -> tuple[str, ...]:
    """Return the environments that the platform of `name` serves after `sagegate bootstrap NAME`.

    A new platform (`parameters` is None) serves all environments that share the account and region. An existing one
    keeps those that it serves and adds `name`: an environment that was removed is not created again unless it is named.
    """
    here = environments[name].account_id, environments[name].region
    sharing = tuple(e.name for e in _with_account(environments) if (e.account_id, e.region) == here)
    if parameters is None:
        return sharing
    return tuple(e for e in sharing if e == name or e in served_environments(parameters))


def served_environments(parameters: dict[str, str]) -> tuple[str, ...]:
    """Return the environments that a stack with these parameters serves."""
    return tuple(name for name in ENVIRONMENTS if parameters.get(f"Hosts{name.capitalize()}") == "true")


def stack_parameters(
    settings: Settings,
    environments: dict[str, Environment],
    served: tuple[str, ...],
    account: AccountState,
    subject: str,
) -> dict[str, str]:
    """Return the template's parameters; a parameter that is left out keeps the template's default.

    `subject` is how the subject of the repository's OIDC tokens begins.
    """
    here = [environments[name] for name in served]
    dev = environments["dev"]
    serves_dev = "dev" in served
    other_accounts = {e.account_id for e in _with_account(environments)} - {dev.account_id}
    owns_key = "Key" in account.resources
    key = _common_value("encryption.kms_key_arn", {e.name: e.encryption.kms_key_arn for e in here if e.encryption})
    if owns_key and key == account.outputs.get("KmsKeyArn"):
        key = ""  # the stack's own key remains the stack's
    training_key = dev.encryption.kms_key_arn if dev.encryption and not serves_dev else ""
    email = _common_value("platform.notification_email", {e.name: e.platform.notification_email for e in here})
    boundary = _common_value(
        "platform.permissions_boundary_arn", {e.name: e.platform.permissions_boundary_arn for e in here}
    )
    schedule = dev.platform.schedule if serves_dev else None

    def creates(resource: str, exists: bool) -> str:
        return _flag(resource in account.resources or not exists)

    values = {
        "ProjectName": settings.project.name,
        "GitHubRepository": settings.project.repository,
        "GitHubSubject": subject,
        "TrainingAccountId": dev.account_id,
        "DeployingAccountIds": ",".join(sorted(other_accounts)) if serves_dev else "",
        "CreateOidcProvider": creates("OidcProvider", account.audiences is not None),
        "CreateScalingRole": creates("ScalingRole", account.has_scaling_role) if set(served) - {"dev"} else "false",
        "CreateModelPackageGroup": creates("ModelPackageGroup", account.has_group) if serves_dev else "false",
        "CreateKmsKey": _flag(owns_key or any(e.platform.create_kms_key for e in here)),
        "KmsKeyArn": key,
        "TrainingKmsKeyArn": training_key,
        "CreateImageRepository": _flag(serves_dev and dev.platform.image_repository),
        "PermissionsBoundaryArn": boundary,
        "InVpc": _flag(any(e.network for e in here)),
        "NotificationEmail": email,
        "DataArrivalTrigger": "ENABLED" if serves_dev and dev.platform.data_arrival else "DISABLED",
        "ScheduleTrigger": "ENABLED" if schedule else "DISABLED",
    }
    values |= {f"Hosts{name.capitalize()}": _flag(name in served) for name in ENVIRONMENTS}
    return values | ({"ScheduleExpression": schedule} if schedule else {})


def stack_spec(names: Names, template: str, parameters: dict[str, str]) -> StackSpec:
    """Return the platform stack."""
    tags = {"project": names.project, "repository": parameters["GitHubRepository"]}
    capabilities = ("CAPABILITY_NAMED_IAM",)
    parameters = declared_only(template, parameters)
    return StackSpec(names.platform_stack, template, parameters, tags, capabilities, import_existing=True)


def group_policy(names: Names, accounts: list[str]) -> Json:
    """Return the resource policy that lets the deploying accounts read a model package group.

    infra/platform.yaml has the same policy for a group that the stack creates; this one is for an existing group.
    """
    prefix = f"arn:{names.partition}:sagemaker:{names.region}:{names.account_id}"
    deploying = {"Effect": "Allow", "Principal": {"AWS": accounts}}
    group = {
        "Sid": "DeployingAccountsLookAtTheGroup",
        "Action": "sagemaker:DescribeModelPackageGroup",
        "Resource": f"{prefix}:model-package-group/{names.group}",
    }
    packages = {
        "Sid": "DeployingAccountsUseModels",
        "Action": ["sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages", "sagemaker:CreateModel"],
        "Resource": f"{prefix}:model-package/{names.group}/*",
    }
    return {"Version": "2012-10-17", "Statement": [deploying | group, deploying | packages]}


def _with_account(environments: dict[str, Environment]) -> list[Environment]:
    return [environments[n] for n in ENVIRONMENTS if environments[n].account_id != PLACEHOLDER_ACCOUNT]


def _common_value(key: str, values: dict[str, str | None]) -> str:
    """Return the value that the environments of an account share. Raises SagegateError if they differ."""
    given = {name: value for name, value in values.items() if value}
    if len(set(given.values())) > 1:
        found = " and ".join(f"{name}.toml {value}" for name, value in given.items())
        raise SagegateError(
            f"{key}: one platform serves {', '.join(given)}, but the files have {found}: write the same in each", USAGE
        )
    return next(iter(given.values()), "")


def _flag(value: bool) -> str:
    return "true" if value else "false"
