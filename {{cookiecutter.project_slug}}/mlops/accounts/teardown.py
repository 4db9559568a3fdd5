"""`mlops bootstrap ENV --delete`: remove an environment's endpoint and platform. Data and models stay unless told.

A platform that serves other environments as well is only reduced. Every step can be repeated after an interruption.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from mlops import show
from mlops.accounts import account, bootstrap, platform, stacks
from mlops.accounts.platform import Found
from mlops.aws import Door, is_missing, open_door, pages
from mlops.errors import USAGE, MlopsError
from mlops.refusals import code_of
from mlops.runs import upsert

Json = dict[str, Any]
# DeletionPolicy: Retain in infra/platform.yaml, and why.
RETAINED = {
    "Bucket": "data, models, and the record of deployments",
    "ModelPackageGroup": "the registered models",
    "Key": "what it encrypted needs it; [encryption] kms_key_arn takes it up again",
    "OidcProvider": "the account has one, other projects use it",
    "ScalingRole": "the account has one, other endpoints use it",
}


def delete(root: Path, name: str, yes: bool, with_data: bool) -> None:
    """The verb."""
    settings, environments = bootstrap.load(root)
    if name not in platform.HOSTED:
        raise MlopsError(f"{name!r} has no platform: choose {', '.join(platform.HOSTED)}", USAGE)
    door = open_door(root, settings, environments[name])
    client = door.client("cloudformation")
    found = account.look(door, stacks.settle(client, door.names.platform_stack, show.line))
    others = tuple(e for e in platform.hosted(found.parameters or {}) if e != name)
    if with_data and others:
        served = ", ".join(others)
        raise MlopsError(f"--delete-data: the account's bucket is also that of {served}: delete {served} first", USAGE)
    if with_data:
        _let_type(f"All data and models of {door.names.project} in account {door.names.account_id} go, for good.", door)
    _delete_endpoint(door, yes)
    if found.parameters is None:
        show.line(f"{door.names.platform_stack}: there is none")
    elif name not in platform.hosted(found.parameters):
        show.line(f"{door.names.platform_stack}: does not serve {name}")
    elif others:
        _reduce(door, found.parameters, others, yes)
    else:
        _delete_platform(door, found, yes)
    if with_data:
        _delete_models(door)
        _delete_pipeline(door)
        _delete_bucket(door)
    show.line(f"the repository's GitHub environment {name} stays: Settings > Environments removes it")


def _delete_endpoint(door: Door, yes: bool) -> None:
    client, stack = door.client("cloudformation"), door.names.endpoint_stack
    if stacks.settle(client, stack, show.line) is None:
        return
    _list(f"stack {stack}", stacks.resources(client, stack), {})
    bootstrap.confirm(f"Delete {stack}? What it serves stops answering.", yes)
    _deleted(stack, stacks.delete(client, stack, show.line))


def _reduce(door: Door, given: dict[str, str], others: tuple[str, ...], yes: bool) -> None:
    """Let the platform, otherwise as it is, serve the other environments only."""
    client, name = door.client("cloudformation"), door.names.platform_stack
    show.line(bootstrap.title(door, others))
    text = client.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
    values = given | {f"Hosts{e.capitalize()}": str(e in others).lower() for e in platform.HOSTED}
    bootstrap.apply(door, platform.wanted(door.names, text, values), yes)


def _delete_platform(door: Door, found: Found, yes: bool) -> None:
    client, name = door.client("cloudformation"), door.names.platform_stack
    _list(f"stack {name}", stacks.resources(client, name), RETAINED)
    bootstrap.confirm(f"Delete {name}?", yes)
    _deleted(name, stacks.delete(client, name, show.line))


def _list(title: str, resources: dict[str, Json], retained: dict[str, str]) -> None:
    show.line(title)
    rows = []
    for logical, summary in sorted(resources.items(), key=lambda item: (item[0] in retained, item[0])):
        fate = f"stays: {retained[logical]}" if logical in retained else "goes"
        rows.append([summary.get("PhysicalResourceId", logical), summary["ResourceType"], fate])
    show.table(["resource", "type", ""], rows)


def _deleted(stack: str, outcome: stacks.Outcome) -> None:
    if outcome.status != "DELETE_COMPLETE":
        raise MlopsError(f"stack {stack} ended as {outcome.status}: {outcome.reason}: remove that, then repeat")
    show.verdict(True, f"{stack}: deleted", None)


def _let_type(what: str, door: Door) -> None:
    """Have the project's name typed; raises MlopsError for anything else. `--yes` does not replace this."""
    print(f"{what} Type {door.names.project} to go on: ", end="", flush=True)
    if sys.stdin.readline().strip() != door.names.project:
        raise MlopsError("that is not the project's name: nothing was deleted", USAGE)


def _delete_models(door: Door) -> None:
    client, group = door.sagemaker, door.names.group
    try:
        client.describe_model_package_group(ModelPackageGroupName=group)
    except Exception as error:
        if is_missing(door, error):
            return
        raise
    found = list(pages(client.list_model_packages, "ModelPackageSummaryList", ModelPackageGroupName=group))
    for package in found:
        client.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    client.delete_model_package_group(ModelPackageGroupName=group)
    show.verdict(True, f"model package group {group}: deleted with {len(found)} models", None)


def _delete_pipeline(door: Door) -> None:
    name = door.names.pipeline
    try:
        door.sagemaker.delete_pipeline(PipelineName=name, ClientRequestToken=upsert.token())
    except Exception as error:
        if is_missing(door, error):
            return
        raise
    show.verdict(True, f"pipeline {name}: deleted with the record of its executions", None)


def _delete_bucket(door: Door) -> None:
    """Every version of every object, then the bucket."""
    bucket, count = door.names.bucket, 0
    try:
        for page in door.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            listed = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            if not listed:
                continue
            said = door.s3.delete_objects(Bucket=bucket, Delete={"Objects": listed, "Quiet": True})
            for refused in said.get("Errors", []):
                raise MlopsError(f"s3://{bucket}/{refused['Key']} stays: {refused['Message']}: remove it, then repeat")
            count += len(listed)
        door.s3.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if code_of(error) != "NoSuchBucket":
            raise
        return
    show.verdict(True, f"bucket {bucket}: deleted with {count} versions of objects", None)
