"""What an account's platform stack should be: pure functions from the settings and what was found there.

An account has one platform for all environments in it. What an account can have only once, or keeps when a stack is
deleted, is made where it is missing and adopted where it is there already: GitHub's identity provider, the role of
autoscaling, the model package group. (The bucket is imported: CloudFormation knows a bucket by its name.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sagegate.account.cloudformation import Wanted
from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json
from sagegate.names import Names

HOSTED = ("dev", "staging", "prod")
PLACEHOLDER_OWNER = "my-org"
LIMIT_BYTES = 51_200  # of TemplateBody, API reference of CreateChangeSet
PROVIDER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class Found:
    """What there is in the account and region.

    `parameters` are the stack's (None: there is no stack), `resources` the logical ids of what it owns, `audiences`
    those of GitHub's identity provider (None: there is none); the others say whether the account has the thing.
    """

    parameters: dict[str, str] | None = None
    resources: frozenset[str] = frozenset()
    outputs: dict[str, str] = field(default_factory=dict)
    audiences: tuple[str, ...] | None = None
    has_scaling_role: bool = False
    has_group: bool = False


def template(root: Path) -> str:
    """The text of infra/platform.yaml; raises SagegateError if CloudFormation would not take it."""
    file = root / "infra" / "platform.yaml"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SagegateError("infra/platform.yaml is missing: restore it from git", USAGE) from None
    size = len(text.encode())
    if size > LIMIT_BYTES:
        raise SagegateError(
            f"infra/platform.yaml has {size} bytes, CloudFormation takes {LIMIT_BYTES}: put your own resources into a "
            "template and a stack of their own",
            USAGE,
        )
    return text


def version(text: str) -> str | None:
    """The template's own version: the output that a stack made from it will have."""
    found = re.search(r"^ +TemplateVersion: *\{ *Value: *[\"']?([^\"'}\s]+)", text, re.MULTILINE)
    return found[1] if found else None


def check(settings: Settings, environments: dict[str, Environment], name: str) -> None:
    """Raises SagegateError for settings from which no platform can be made for environment `name`."""
    if name not in HOSTED:
        raise SagegateError(f"{name!r} has no platform: choose {', '.join(HOSTED)}", USAGE)
    if environments[name].account_id == PLACEHOLDER_ACCOUNT:
        raise SagegateError(placeholder(name))
    if settings.project.repository.partition("/")[0] == PLACEHOLDER_OWNER:
        raise SagegateError(
            f"mlops.toml: project.repository is still the placeholder {settings.project.repository}: put your own "
            "owner/name there, for the roles will trust it"
        )
    if environments["dev"].account_id == PLACEHOLDER_ACCOUNT:
        raise SagegateError(f"{placeholder('dev')}, for {name} deploys models from there")
    for other in _real(environments):
        if other.region != environments["dev"].region:
            raise SagegateError(
                f"environments/{other.name}.toml: region {other.region} is not dev's {environments['dev'].region}: "
                "SageMaker deploys a model package in its own region only"
            )


def placeholder(name: str) -> str:
    """What to say of an environment without an account."""
    return (
        f"environments/{name}.toml: account_id is still the placeholder {PLACEHOLDER_ACCOUNT}: put your account there"
    )


def sharing(environments: dict[str, Environment], name: str) -> tuple[str, ...]:
    """The environments in the account and region of `name`, itself included."""
    place = environments[name].account_id, environments[name].region
    return tuple(e.name for e in _real(environments) if (e.account_id, e.region) == place)


def hosts(environments: dict[str, Environment], name: str, parameters: dict[str, str] | None) -> tuple[str, ...]:
    """The environments that the platform is to serve: of a new one all that share the account.

    Of one that exists (`parameters`) those it serves now, and `name`: what was deleted stays so until it is asked for.
    """
    shared = sharing(environments, name)
    return shared if parameters is None else tuple(e for e in shared if e == name or e in hosted(parameters))


def hosted(parameters: dict[str, str]) -> tuple[str, ...]:
    """The environments that a stack with these parameters serves."""
    return tuple(name for name in HOSTED if parameters.get(_host_parameter(name)) == "true")


def parameters(
    settings: Settings, environments: dict[str, Environment], hosts: tuple[str, ...], found: Found
) -> dict[str, str]:
    """The template's parameters; those left out keep the template's defaults."""
    here = [environments[name] for name in hosts]
    dev = environments["dev"]
    deploys = any(name != "dev" for name in hosts)
    others = {e.account_id for e in _real(environments)} - {dev.account_id}
    key = _one("encryption.kms_key_arn", {e.name: e.encryption.kms_key_arn for e in here if e.encryption})
    if key == found.outputs.get("KmsKeyArn") and "Key" in found.resources:
        key = ""  # the stack's own: it stays the stack's
    makes_key = any(e.platform.create_kms_key for e in here) or "Key" in found.resources
    far = "dev" not in hosts and dev.encryption
    email = _one("platform.notification_email", {e.name: e.platform.notification_email for e in here})
    boundary = _one("platform.permissions_boundary_arn", {e.name: e.platform.permissions_boundary_arn for e in here})
    schedule = dev.platform.schedule if "dev" in hosts else None
    values = {
        "ProjectName": settings.project.name,
        "GitHubRepository": settings.project.repository,
        "TrainingAccountId": dev.account_id,
        "DeployingAccountIds": ",".join(sorted(others)) if "dev" in hosts else "",
        "CreateOidcProvider": _make("OidcProvider", found, found.audiences is not None),
        "CreateScalingRole": _make("ScalingRole", found, found.has_scaling_role) if deploys else "false",
        "CreateModelPackageGroup": _make("ModelPackageGroup", found, found.has_group) if "dev" in hosts else "false",
        "CreateKmsKey": _flag(makes_key),
        "KmsKeyArn": key,
        "TrainingKmsKeyArn": dev.encryption.kms_key_arn if far and dev.encryption else "",
        "PermissionsBoundaryArn": boundary,
        "InVpc": _flag(any(e.network for e in here)),
        "NotificationEmail": email,
        "DataArrivalTrigger": _state("dev" in hosts and dev.platform.data_arrival),
        "ScheduleTrigger": _state(schedule is not None),
    }
    hosting = {_host_parameter(name): _flag(name in hosts) for name in HOSTED}
    return values | hosting | ({"ScheduleExpression": schedule} if schedule else {})


def wanted(names: Names, text: str, values: dict[str, str]) -> Wanted:
    """The stack."""
    tags = {"project": names.project, "repository": values["GitHubRepository"]}
    return Wanted(names.platform_stack, text, values, tags, ("CAPABILITY_NAMED_IAM",), adopts=True)


def group_policy(names: Names, accounts: list[str]) -> Json:
    """The model package group's policy for the accounts that deploy, as infra/platform.yaml has it, if adopted."""
    head = f"arn:{names.partition}:sagemaker:{names.region}:{names.account_id}"

    def allow(sid: str, actions: str | list[str], resource: str) -> Json:
        who = {"AWS": accounts}
        return {"Sid": sid, "Effect": "Allow", "Principal": who, "Action": actions, "Resource": f"{head}:{resource}"}

    uses = ["sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages", "sagemaker:CreateModel"]
    describes = "sagemaker:DescribeModelPackageGroup"
    return {
        "Version": "2012-10-17",
        "Statement": [
            allow("DeployingAccountsLookAtTheGroup", describes, f"model-package-group/{names.group}"),
            allow("DeployingAccountsUseModels", uses, f"model-package/{names.group}/*"),
        ],
    }


def _real(environments: dict[str, Environment]) -> list[Environment]:
    return [environments[n] for n in HOSTED if environments[n].account_id != PLACEHOLDER_ACCOUNT]


def _make(resource: str, found: Found, exists: bool) -> str:
    """Whether the stack makes a thing: it does if the thing is its own already, or if there is none."""
    return _flag(resource in found.resources or not exists)


def _one(key: str, values: dict[str, str | None]) -> str:
    """The one value that the environments of an account give; raises SagegateError if they differ."""
    given = {name: value for name, value in values.items() if value}
    if len(set(given.values())) > 1:
        said = " and ".join(f"{name}.toml {value}" for name, value in given.items())
        raise SagegateError(f"{key}: one platform serves {', '.join(given)}, but {said}: give them the same", USAGE)
    return next(iter(given.values()), "")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _state(value: bool) -> str:
    return "ENABLED" if value else "DISABLED"


def _host_parameter(name: str) -> str:
    return f"Hosts{name.capitalize()}"
