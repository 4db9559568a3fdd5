"""`sagegate bootstrap ENV`: create or update the platform stack of an environment's AWS account.

An administrator runs it; workflows have no permission to. It shows the change set and asks before it executes it.
Running it again changes nothing.

`sagegate credentials ENV` prints the role that a workflow assumes there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import click

from sagegate import output
from sagegate.account import cloudformation, platform
from sagegate.account.cloudformation import ChangeSet, StackSpec
from sagegate.account.platform import AccountState
from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings, load_environment, load_settings
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json
from sagegate.names import Names
from sagegate.repository import github as github_environments
from sagegate.repository.github import GitHub, open_github
from sagegate.session import Session, is_missing, open_session

SUBJECT_IS_UNKNOWN = (
    "the roles trust the repository by its ids on GitHub: set GITHUB_TOKEN (GITHUB_TOKEN=$(gh auth token)), or pass "
    "--subject-prefix repo:OWNER@OWNER_ID/NAME@REPOSITORY_ID"
)
SUBJECT = r"repo:[A-Za-z0-9-]+(@[0-9]+)?/[A-Za-z0-9._-]+(@[0-9]+)?"  # as in infra/platform.yaml
SCALING_ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def bootstrap(
    root: Path, name: str, yes: bool, subject: str | None, with_github: bool, reviewers: tuple[str, ...]
) -> None:
    """Create or update the platform for environment `name`; `yes` skips the question.

    `subject` is how the subject of the repository's OIDC tokens begins; None asks GitHub if GITHUB_TOKEN is set, else
    keeps the platform's. `with_github` creates and protects the GitHub environment, before a role trusts it.
    Raises SagegateError if the settings are incomplete or the change fails, click.Abort if the user says no.
    """
    settings, environments = load_configuration(root)
    platform.check_settings(settings, environments, name)
    template = platform.read_template(root)
    if subject and not re.fullmatch(SUBJECT, subject):
        raise SagegateError(f"--subject-prefix {subject}: write repo:OWNER@OWNER_ID/NAME@REPOSITORY_ID", USAGE)
    asks_github = with_github or (not subject and os.environ.get("GITHUB_TOKEN"))
    github = open_github(settings.project.repository) if asks_github else None
    if github and not subject:
        subject = github.subject_prefix()
    session = open_session(root, name)
    names = session.names
    stack = cloudformation.wait_until_stable(session.client("cloudformation"), names.platform_stack, output.line)
    account = read_account(session, stack)
    accepts_us = account.audiences is None or platform.AUDIENCE in account.audiences
    if not accepts_us and "OidcProvider" not in account.resources:
        raise SagegateError(
            f"GitHub's OIDC provider does not accept the audience {platform.AUDIENCE}: run "
            f"{add_audience_command(session)}, then this command again"
        )
    served = platform.environments_to_serve(environments, name, account.parameters)
    subject = subject or (account.parameters or {}).get("GitHubSubject")
    if not subject:
        raise SagegateError(SUBJECT_IS_UNKNOWN, USAGE)
    parameters = platform.stack_parameters(settings, environments, served, account, subject)
    where = f"account {names.account_id}, {names.region}"
    if github and with_github:
        create_github_environment(github, name, reviewers)
    output.line(f"platform of {', '.join(served)} · stack {names.platform_stack} · {where}")
    output.line(f"trusts {subject}")
    _apply(session, platform.stack_spec(names, template, parameters), yes)
    if parameters["CreateModelPackageGroup"] == "false" and parameters["DeployingAccountIds"]:
        _share_group(session, parameters["DeployingAccountIds"].split(","))
    if github and with_github and name == "dev":
        github.set_variable("AWS_READY", "true")
        output.line("GitHub variable AWS_READY is true: the workflows train and promote run from now on")


def load_configuration(root: Path) -> tuple[Settings, dict[str, Environment]]:
    """Return the settings and the environments that can have a platform."""
    return load_settings(root), {name: load_environment(root, name) for name in platform.ENVIRONMENTS}


def read_account(session: Session, stack: Json | None) -> AccountState:
    """Return the resources that the account already has; `stack` is the platform stack or None."""
    account = AccountState(
        audiences=oidc_audiences(session), has_scaling_role=_has_scaling_role(session), has_group=_has_group(session)
    )
    if stack is None or stack["StackStatus"] in cloudformation.UNUSABLE_STATES:
        return account
    return replace(
        account,
        parameters=cloudformation.parameters_of(stack),
        resources=cloudformation.resource_ids(session.client("cloudformation"), session.names.platform_stack),
        outputs=cloudformation.outputs_of(stack),
    )


def oidc_audiences(session: Session) -> tuple[str, ...] | None:
    """Return the audiences that GitHub's OIDC provider accepts, or None if the account has no such provider."""
    iam = session.client("iam")
    try:
        provider = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=platform.provider_arn(session.names))
    except iam.exceptions.NoSuchEntityException:
        return None
    return tuple(provider["ClientIDList"])


def add_audience_command(session: Session) -> str:
    """Return the AWS CLI command that adds our audience to an existing OIDC provider."""
    return (
        "`aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn "
        f"{platform.provider_arn(session.names)} --client-id {platform.AUDIENCE}`"
    )


def create_github_environment(github: GitHub, name: str, reviewers: tuple[str, ...]) -> None:
    """Create or update the GitHub environment that the roles trust."""
    state = github_environments.ensure_environment(github, name, reviewers)
    found = ", ".join(github_environments.reviewers_of(github.environment(name) or {}))
    output.verdict(True, f"GitHub environment {name}: {state}; from main only; reviewers: {found or 'none'}", None)
    if name != "dev" and not found:
        output.line(f"warning: {name} has no reviewers, so a merge deploys without approval: pass --reviewer")


def next_steps(root: Path, name: str, github: bool) -> list[str]:
    """Return the commands to run after the platform exists; `github`: its GitHub environment exists as well."""
    _, environments = load_configuration(root)
    steps = []
    if not github:
        reviewers = "" if name == "dev" else " --reviewer LOGIN_OR_ORG/TEAM"
        steps.append(f"GITHUB_TOKEN=$(gh auth token) sagegate bootstrap {name} --github{reviewers}  # on GitHub")
    if environments[name].account_id != environments["dev"].account_id:
        steps.append("sagegate bootstrap dev  # lets this account read the models of dev's account")
    steps.append(f"sagegate doctor {name}")
    if name == "dev":
        steps.append("sagegate run --env dev")
    return steps


def credentials(root: Path, name: str, purpose: str | None) -> dict[str, str]:
    """Return `role-arn`, `region` and `profile` for a workflow, from the settings alone.

    `purpose` is `train` in dev and `deploy` in staging and prod by default. `approve` is a role of dev for every
    environment, because dev has the model registry.
    """
    purpose = purpose or ("train" if name == "dev" else "deploy")
    if purpose in ("train", "image") and name != "dev":
        what = "pipelines run" if purpose == "train" else "the images are"
        raise SagegateError(f"--purpose {purpose}: {what} in dev, not in {name}", USAGE)
    if purpose == "deploy" and name == "dev":
        raise SagegateError("--purpose deploy: models are deployed to staging and prod, not to dev", USAGE)
    environment = load_environment(root, "dev" if purpose == "approve" else name)
    if environment.is_local:
        raise SagegateError(f"local needs no role: choose {', '.join(platform.ENVIRONMENTS)}", USAGE)
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        raise SagegateError(platform.placeholder_error(environment.name))
    project = load_settings(root).project.name
    names = Names(project, environment.name, environment.account_id, environment.region)
    role = f"github-deploy-{name}" if purpose == "deploy" else f"github-{purpose}"
    return {
        "role-arn": names.iam_role(role),
        "region": environment.region,
        "profile": f"{project}-{environment.name}",
    }


def _has_scaling_role(session: Session) -> bool:
    """Return True if the account has autoscaling's service-linked role."""
    iam = session.client("iam")
    try:
        iam.get_role(RoleName=SCALING_ROLE)
    except iam.exceptions.NoSuchEntityException:
        return False
    return True


def _has_group(session: Session) -> bool:
    try:
        session.sagemaker.describe_model_package_group(ModelPackageGroupName=session.names.group)
    except Exception as error:
        if is_missing(session, error):
            return False
        raise
    return True


def _apply(session: Session, spec: StackSpec, yes: bool) -> None:
    client = session.client("cloudformation")
    change = cloudformation.create_change_set(client, spec, output.line)
    if change is None:
        output.line(f"{spec.name}: no changes")
        return
    try:
        _show(change)
        _confirm(yes)
    except BaseException:
        cloudformation.delete_change_set(client, change)
        raise
    status = cloudformation.execute_change_set(client, change, output.line)
    output.verdict(True, f"{spec.name}: {status}", None)


def _show(change: ChangeSet) -> None:
    replacement = {"True": "replaced", "Conditional": "may be replaced"}
    rows = [
        [c["Action"], c["LogicalResourceId"], c["ResourceType"], replacement.get(c.get("Replacement", ""), "")]
        for c in change.changes
    ]
    output.table(["action", "resource", "type", "replacement"], rows)
    counts = {action: sum(row[0] == action for row in rows) for action in dict.fromkeys(row[0] for row in rows)}
    output.line(", ".join(f"{action}: {count}" for action, count in counts.items()) or "only outputs or tags change")


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise SagegateError("nothing was changed: there is no terminal to ask at: run this again with --yes", USAGE)
    click.confirm("Deploy this?", abort=True)


def _share_group(session: Session, accounts: list[str]) -> None:
    """Let other accounts use a model package group that the stack did not create."""
    policy = json.dumps(platform.group_policy(session.names, accounts))
    session.sagemaker.put_model_package_group_policy(ModelPackageGroupName=session.names.group, ResourcePolicy=policy)
    output.line(f"model package group {session.names.group}: shared with {', '.join(accounts)}")
