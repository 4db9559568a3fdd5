"""What an AWS account has that a platform depends on, looked up. Reads only.
`sagegate bootstrap ENV`: make the account's platform, or bring it up to date, by a change set that is shown first.

For an administrator, from a laptop; workflows have no right to do it. Running it again changes nothing.
`sagegate bootstrap ENV --delete`: remove an environment's endpoint and platform. Data and models stay unless told.

A platform that serves other environments as well is only reduced. Every step can be repeated after an interruption.
`sagegate credentials ENV`: which role a workflow takes, in lines for $GITHUB_OUTPUT. All follows from the settings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from botocore.exceptions import ClientError

from sagegate import output
from sagegate.account import cloudformation as stacks
from sagegate.account import platform, trust
from sagegate.account.platform import Found
from sagegate.aws_errors import error_code
from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings, load_environment, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json
from sagegate.names import Names
from sagegate.repository import github as github_environments
from sagegate.repository.github import GitHub, open_github
from sagegate.runs import start as upsert
from sagegate.session import Session, is_missing, open_session, pages

SCALING_ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def look(session: Session, stack: Json | None) -> Found:
    """What there is; `stack` is the platform's as CloudFormation describes it, None if there is none."""
    admitted, has_role, has_group = audiences(session), has_scaling_role(session), group_exists(session)
    if stack is None or stack["StackStatus"] in (*stacks.DEAD, "REVIEW_IN_PROGRESS"):
        return Found(audiences=admitted, has_scaling_role=has_role, has_group=has_group)
    given = stacks.parameters_of(stack)
    owned = stacks.resources(session.client("cloudformation"), session.names.platform_stack)
    return Found(given, frozenset(owned), stacks.outputs_of(stack), admitted, has_role, has_group)


def audiences(session: Session) -> tuple[str, ...] | None:
    """What GitHub's identity provider admits as a token's audience, or None if the account has no such provider."""
    iam = session.client("iam")
    try:
        found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=trust.provider_arn(session.names))
    except iam.exceptions.NoSuchEntityException:
        return None
    return tuple(found["ClientIDList"])


def admit(session: Session) -> str:
    """The command that lets an identity provider, made by others, admit our tokens."""
    return (
        "`aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn "
        f"{trust.provider_arn(session.names)} --client-id {platform.AUDIENCE}`"
    )


def has_scaling_role(session: Session) -> bool:
    """Whether the account has the role with which autoscaling changes endpoints."""
    iam = session.client("iam")
    try:
        iam.get_role(RoleName=SCALING_ROLE)
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def group_exists(session: Session) -> bool:
    """Whether there is the project's model package group."""
    try:
        session.sagemaker.describe_model_package_group(ModelPackageGroupName=session.names.group)
    except Exception as error:
        if is_missing(session, error):
            return False
        raise
    return True


def bootstrap(root: Path, name: str, yes: bool) -> None:
    """The verb: have the platform for environment `name`."""
    settings, environments = load(root)
    platform.check(settings, environments, name)
    text = platform.template(root)
    session = open_session(root, settings, environments[name])
    stack = stacks.settle(session.client("cloudformation"), session.names.platform_stack, output.line)
    found = look(session, stack)
    admitted = found.audiences is None or platform.AUDIENCE in found.audiences or "OidcProvider" in found.resources
    if not admitted:
        raise SagegateError(
            f"GitHub's identity provider does not admit {platform.AUDIENCE}: {admit(session)}, then repeat"
        )
    hosts = platform.hosts(environments, name, found.parameters)
    values = platform.parameters(settings, environments, hosts, found)
    output.line(title(session, hosts))
    apply(session, platform.wanted(session.names, text, values), yes)
    if values["CreateModelPackageGroup"] == "false" and values["DeployingAccountIds"]:
        _share_adopted_group(session, values["DeployingAccountIds"].split(","))


def github_of(root: Path) -> GitHub:
    """The repository's client; raises SagegateError where there is no token."""
    return open_github(load_settings(root).project.repository)


def github_environment(github: GitHub, name: str, reviewers: tuple[str, ...]) -> None:
    """Have the GitHub environment whose workflows the roles trust."""
    state = github_environments.ensure_environment(github, name, reviewers)
    found = ", ".join(github_environments.reviewers_of(github.environment(name) or {}))
    output.verdict(True, f"GitHub environment {name}: {state}; from main only; reviewers: {found or 'none'}", None)
    if name != "dev" and not found:
        output.line(f"warning: {name} has no reviewers, so what is merged is deployed unasked: give it a --reviewer")


def load(root: Path) -> tuple[Settings, dict[str, Environment]]:
    """The settings, and every environment that can have a platform."""
    return load_settings(root), {name: load_environment(root, name) for name in platform.HOSTED}


def title(session: Session, hosts: tuple[str, ...]) -> str:
    """What is about to be changed, and where."""
    names = session.names
    return f"platform of {', '.join(hosts)} · stack {names.platform_stack} · account {names.account_id}, {names.region}"


def apply(session: Session, wanted: stacks.Wanted, yes: bool) -> bool:
    """Bring a stack to what is wanted: show, ask, deploy. False if nothing had to change."""
    client = session.client("cloudformation")
    change = stacks.propose(client, wanted, output.line)
    if change is None:
        output.line(f"{wanted.name}: no changes")
        return False
    try:
        changes_table(change)
        confirm("Deploy this?", yes)
    except BaseException:
        stacks.discard(client, change)
        raise
    outcome = stacks.execute(client, change, output.line)
    if not outcome.succeeded:
        raise SagegateError(f"stack {wanted.name} ended as {outcome.status}: {outcome.reason}")
    output.verdict(True, f"{wanted.name}: {outcome.status}", None)
    return True


def changes_table(change: stacks.Change) -> None:
    """A change set: what happens to each resource."""
    replacement = {"True": "replaced", "Conditional": "may be replaced"}
    rows = [
        [c["Action"], c["LogicalResourceId"], c["ResourceType"], replacement.get(c.get("Replacement", ""), "")]
        for c in change.changes
    ]
    output.table(["action", "resource", "type", "replacement"], rows)
    counts = {action: sum(row[0] == action for row in rows) for action in dict.fromkeys(row[0] for row in rows)}
    output.line(", ".join(f"{action}: {count}" for action, count in counts.items()) or "only outputs or tags change")


def confirm(question: str, yes: bool) -> None:
    """Ask, unless told not to; raises SagegateError where nobody can answer, click.Abort at a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise SagegateError(f"{question} Nobody can answer here, so nothing was changed: repeat with --yes", USAGE)
    click.confirm(question, abort=True)


def next_steps(root: Path, name: str, github: bool) -> list[str]:
    """What is left to do after the platform is there."""
    _, environments = load(root)
    steps = []
    if not github:
        reviewers = "" if name == "dev" else " --reviewer LOGIN_OR_ORG/TEAM"
        steps.append(f"GITHUB_TOKEN=$(gh auth token) sagegate bootstrap {name} --github{reviewers}  # on GitHub")
    dev, here = environments["dev"], environments[name]
    if here.account_id != dev.account_id:
        steps.append("sagegate bootstrap dev  # so that dev's account lets this one read models; no changes if it does")
    steps.append(f"sagegate doctor {name}")
    if name == "dev":
        steps.append("sagegate run --env dev")
    return steps


def _share_adopted_group(session: Session, accounts: list[str]) -> None:
    policy = json.dumps(platform.group_policy(session.names, accounts))
    session.sagemaker.put_model_package_group_policy(ModelPackageGroupName=session.names.group, ResourcePolicy=policy)
    output.line(f"model package group {session.names.group}: shared with {', '.join(accounts)}")


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
    settings, environments = load(root)
    if name not in platform.HOSTED:
        raise SagegateError(f"{name!r} has no platform: choose {', '.join(platform.HOSTED)}", USAGE)
    session = open_session(root, settings, environments[name])
    client = session.client("cloudformation")
    found = look(session, stacks.settle(client, session.names.platform_stack, output.line))
    others = tuple(e for e in platform.hosted(found.parameters or {}) if e != name)
    if with_data and others:
        served = ", ".join(others)
        raise SagegateError(
            f"--delete-data: the account's bucket is also that of {served}: delete {served} first", USAGE
        )
    if with_data:
        _let_type(
            f"All data and models of {session.names.project} in account {session.names.account_id} go, for good.",
            session,
        )
    _delete_endpoint(session, yes)
    if found.parameters is None:
        output.line(f"{session.names.platform_stack}: there is none")
    elif name not in platform.hosted(found.parameters):
        output.line(f"{session.names.platform_stack}: does not serve {name}")
    elif others:
        _reduce(session, found.parameters, others, yes)
    else:
        _delete_platform(session, found, yes)
    if with_data:
        _delete_models(session)
        _delete_pipeline(session)
        _delete_bucket(session)
    output.line(f"the repository's GitHub environment {name} stays: Settings > Environments removes it")


def _delete_endpoint(session: Session, yes: bool) -> None:
    client, stack = session.client("cloudformation"), session.names.endpoint_stack
    if stacks.settle(client, stack, output.line) is None:
        return
    _list(f"stack {stack}", stacks.resources(client, stack), {})
    confirm(f"Delete {stack}? What it serves stops answering.", yes)
    _deleted(stack, stacks.delete(client, stack, output.line))


def _reduce(session: Session, given: dict[str, str], others: tuple[str, ...], yes: bool) -> None:
    """Let the platform, otherwise as it is, serve the other environments only."""
    client, name = session.client("cloudformation"), session.names.platform_stack
    output.line(title(session, others))
    text = client.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
    values = given | {f"Hosts{e.capitalize()}": str(e in others).lower() for e in platform.HOSTED}
    apply(session, platform.wanted(session.names, text, values), yes)


def _delete_platform(session: Session, found: Found, yes: bool) -> None:
    client, name = session.client("cloudformation"), session.names.platform_stack
    _list(f"stack {name}", stacks.resources(client, name), RETAINED)
    confirm(f"Delete {name}?", yes)
    _deleted(name, stacks.delete(client, name, output.line))


def _list(title: str, resources: dict[str, Json], retained: dict[str, str]) -> None:
    output.line(title)
    rows = []
    for logical, summary in sorted(resources.items(), key=lambda item: (item[0] in retained, item[0])):
        fate = f"stays: {retained[logical]}" if logical in retained else "goes"
        rows.append([summary.get("PhysicalResourceId", logical), summary["ResourceType"], fate])
    output.table(["resource", "type", ""], rows)


def _deleted(stack: str, outcome: stacks.Outcome) -> None:
    if outcome.status != "DELETE_COMPLETE":
        raise SagegateError(f"stack {stack} ended as {outcome.status}: {outcome.reason}: remove that, then repeat")
    output.verdict(True, f"{stack}: deleted", None)


def _let_type(what: str, session: Session) -> None:
    """Have the project's name typed; raises SagegateError for anything else. `--yes` does not replace this."""
    print(f"{what} Type {session.names.project} to go on: ", end="", flush=True)
    if sys.stdin.readline().strip() != session.names.project:
        raise SagegateError("that is not the project's name: nothing was deleted", USAGE)


def _delete_models(session: Session) -> None:
    client, group = session.sagemaker, session.names.group
    try:
        client.describe_model_package_group(ModelPackageGroupName=group)
    except Exception as error:
        if is_missing(session, error):
            return
        raise
    found = list(pages(client.list_model_packages, "ModelPackageSummaryList", ModelPackageGroupName=group))
    for package in found:
        client.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    client.delete_model_package_group(ModelPackageGroupName=group)
    output.verdict(True, f"model package group {group}: deleted with {len(found)} models", None)


def _delete_pipeline(session: Session) -> None:
    name = session.names.pipeline
    try:
        session.sagemaker.delete_pipeline(PipelineName=name, ClientRequestToken=upsert.request_token())
    except Exception as error:
        if is_missing(session, error):
            return
        raise
    output.verdict(True, f"pipeline {name}: deleted with the record of its executions", None)


def _delete_bucket(session: Session) -> None:
    """Every version of every object, then the bucket."""
    bucket, count = session.names.bucket, 0
    try:
        for page in session.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            listed = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            if not listed:
                continue
            said = session.s3.delete_objects(Bucket=bucket, Delete={"Objects": listed, "Quiet": True})
            for refused in said.get("Errors", []):
                raise SagegateError(
                    f"s3://{bucket}/{refused['Key']} stays: {refused['Message']}: remove it, then repeat"
                )
            count += len(listed)
        session.s3.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if error_code(error) != "NoSuchBucket":
            raise
        return
    output.verdict(True, f"bucket {bucket}: deleted with {count} versions of objects", None)


PURPOSES = ("train", "approve", "deploy")


def credentials(root: Path, name: str, purpose: str | None) -> dict[str, str]:
    """The verb: `role-arn`, `region` and `profile`. Reads the settings and asks nobody.

    `purpose` is train in dev and deploy in staging and prod unless given; `approve` is dev's role whichever environment
    asks, for the models are there.
    """
    purpose = purpose or ("train" if name == "dev" else "deploy")
    if purpose == "train" and name != "dev":
        raise SagegateError(f"--purpose train: pipelines run in dev, not in {name}", USAGE)
    if purpose == "deploy" and name == "dev":
        raise SagegateError("--purpose deploy: models are deployed to staging and prod, not to dev", USAGE)
    environment = load_environment(root, "dev" if purpose == "approve" else name)
    if environment.is_local:
        raise SagegateError(f"local is this machine, which needs no role: choose {', '.join(platform.HOSTED)}", USAGE)
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        raise SagegateError(platform.placeholder(environment.name))
    project = load_settings(root).project.name
    names = Names(project, environment.name, environment.account_id, environment.region)
    role = f"github-deploy-{name}" if purpose == "deploy" else f"github-{purpose}"
    return {
        "role-arn": names.iam_role(role),
        "region": environment.region,
        "profile": f"{project}-{environment.name}",
    }
