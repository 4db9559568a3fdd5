"""`sagegate doctor [ENV]`: check the project, the AWS accounts and GitHub, and print one line for each finding.

It changes nothing. A check that cannot run becomes a warning, so the others still run. What differs between the stack
and the settings, `sagegate bootstrap` shows; what somebody changed by hand, CloudFormation's drift detection.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.markup import escape

from sagegate import output
from sagegate.account import bootstrap, cloudformation, platform
from sagegate.aws_errors import explain_aws_error
from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings
from sagegate.errors import FAILED, USAGE, SagegateError
from sagegate.files import Json
from sagegate.pipeline import definition
from sagegate.registry import deployments
from sagegate.repository import git
from sagegate.repository import github as github_environments
from sagegate.repository.github import ACTIONS_SETTING, BRANCH, GitHub, GitHubError, open_github
from sagegate.session import Session, open_session, paginate

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
CODEOWNERS = ".github/CODEOWNERS"
CHECK = "ci"  # a job of .github/workflows/ci.yml
RULES = "Settings > Rules: require a pull request, a review of code owners and the status check ci"


@dataclass(frozen=True)
class Finding:
    """The result of a check. `remedy` says what to do; it is empty if the state is `ok`."""

    state: Literal["ok", "warning", "problem"]
    text: str
    remedy: str = ""


def ok(text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding("ok", text)


def warning(text: str, remedy: str) -> Finding:
    """Return a finding that may be intended, or a check that could not run."""
    return Finding("warning", text, remedy)


def problem(text: str, remedy: str = "") -> Finding:
    """Return a finding that makes a command or a workflow fail, or a security risk."""
    return Finding("problem", text, remedy)


def doctor(root: Path, name: str | None) -> int:
    """Check environment `name`, or all of them, and return the exit code: 1 if there is a problem."""
    if name is not None and name not in platform.ENVIRONMENTS:
        raise SagegateError(f"{name!r}: choose {', '.join(platform.ENVIRONMENTS)}, or none to check them all", USAGE)
    counts: Counter[str] = Counter()
    for where, finding in check_all(root, (name,) if name else platform.ENVIRONMENTS):
        counts[finding.state] += 1
        line = f"{finding.text}: {finding.remedy}" if finding.remedy else finding.text
        output.console.print(f"[{STYLES[finding.state]}]{finding.state:<8}[/] {where:<8} {escape(line)}")
    output.line(", ".join(f"{state}: {counts[state]}" for state in STYLES))
    return FAILED if counts["problem"] else 0


def check_all(root: Path, names: tuple[str, ...]) -> Iterator[tuple[str, Finding]]:
    """Yield (`project`, an environment's name or `github`; finding), each as soon as it is known."""
    try:
        settings, environments = bootstrap.load_configuration(root)
    except SagegateError as error:
        yield "project", problem(str(error))
        yield "project", warning("accounts and GitHub are not checked", "correct the settings first")
        return
    yield "project", ok("settings are valid")
    for what, check in (
        ("the repository", check_repository(root, settings)),
        ("the definition", check_definition(root, settings)),
        ("deployments/", check_deployments(root)),
    ):
        for finding in run_check(what, check):
            yield "project", finding
    for name in names:
        account = f"account {environments[name].account_id}"
        for finding in run_check(account, check_account(root, settings, environments[name])):
            yield name, finding
    for finding in check_github(settings, names):
        yield "github", finding


def run_check(what: str, check: Iterable[Finding]) -> Iterator[Finding]:
    """Yield a check's findings. An error becomes a finding as well, after those that came before it."""
    try:
        yield from check
    except SagegateError as error:
        yield problem(str(error))
    except Exception as error:
        explained = explain_aws_error(error)
        if explained is None:
            raise
        yield warning(f"{what} cannot be checked", str(explained))


# --- the project ---------------------------------------------------------------------------------------------------
def check_repository(root: Path, settings: Settings) -> Iterator[Finding]:
    """Check the repository that the roles trust, git's remote, the code owners, and where sagegate comes from."""
    name = settings.project.repository
    if name.partition("/")[0] == platform.PLACEHOLDER_OWNER:
        yield problem(f"mlops.toml: project.repository is the placeholder {name}", "put your own owner/name there")
    else:
        yield ok(f"repository {name}")
        remote = git.remote_url(root)
        if not remote:
            yield warning("git has no remote origin", f"`git remote add origin git@github.com:{name}.git`")
        elif not remote.removesuffix("/").removesuffix(".git").lower().endswith(name.lower()):
            yield warning(f"git's origin is {remote}, not {name}", "correct project.repository or the remote")
    owners = root / CODEOWNERS
    if not owners.is_file():
        yield warning(f"{CODEOWNERS} is missing", "restore it from git: it requires reviews of deployments")
    elif f"@{platform.PLACEHOLDER_OWNER}" in owners.read_text(encoding="utf-8"):
        yield problem(f"{CODEOWNERS} names the placeholder @{platform.PLACEHOLDER_OWNER}", "put a user or a team there")
    else:
        yield ok(CODEOWNERS)
    if "sagegate @ file:" in (root / "pyproject.toml").read_text(encoding="utf-8"):
        remedy = "before others install the project, write its Git address there, or run `sagegate vendor`"
        yield warning("pyproject.toml installs sagegate from a folder of your machine", remedy)


def check_definition(root: Path, settings: Settings) -> Iterator[Finding]:
    """Check that pipeline/definition.json is compiled from pipeline.py as it is now."""
    if definition.is_stale(root, settings):
        yield problem("pipeline/definition.json is stale", "`sagegate compile`, and commit it")
    else:
        yield ok("pipeline/definition.json is up to date")


def check_deployments(root: Path) -> Iterator[Finding]:
    """Check every file in deployments/; its SagegateError has the remedy."""
    count = deployments.check_manifests(root)
    yield ok(f"deployments/ has {count} valid files" if count else "deployments/ is empty: nothing is deployed yet")


# --- an environment's AWS account ----------------------------------------------------------------------------------
def check_account(root: Path, settings: Settings, environment: Environment) -> Iterator[Finding]:
    """Check the credentials, then the platform of an environment's account."""
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        yield problem(platform.placeholder_error(environment.name))
        return
    session = open_session(root, environment.name)
    yield ok(f"credentials of account {environment.account_id}, {environment.region}")
    yield from run_check("the platform's stack", check_stack(root, session))
    yield from run_check("the OIDC provider", check_oidc_provider(session))
    yield from run_check("the trust of the roles", check_trust(session, settings.project.repository))
    yield from run_check("quotas", check_quotas(session))


def check_stack(root: Path, session: Session) -> Iterator[Finding]:
    """Check that the platform's stack exists, serves the environment and comes from infra/platform.yaml."""
    name, environment = session.names.platform_stack, session.environment.name
    remedy = f"`sagegate bootstrap {environment}`"
    client = session.client("cloudformation")
    stack = cloudformation.describe_stack(client, name)
    if stack is None or stack["StackStatus"] in cloudformation.UNUSABLE_STATES:
        yield problem(f"stack {name} is {stack['StackStatus']}" if stack else f"there is no stack {name}", remedy)
        return
    if stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        yield ok(f"stack {name} is {stack['StackStatus']}")
    else:
        yield warning(f"stack {name} is {stack['StackStatus']}", f"look at its events, then {remedy}")
    template = platform.read_template(root)
    found, expected = cloudformation.outputs_of(stack).get("TemplateVersion"), platform.template_version(template)
    if found != expected:
        yield problem(f"stack {name} has template version {found}, infra/platform.yaml has {expected}", remedy)
    elif cloudformation.template_of(client, name).strip() != template.strip():
        yield warning(f"stack {name} was created from another infra/platform.yaml", remedy)
    if environment not in platform.served_environments(cloudformation.parameters_of(stack)):
        yield problem(f"stack {name} does not serve {environment}", remedy)


def check_oidc_provider(session: Session) -> Iterator[Finding]:
    """Check that GitHub's OIDC provider exists and accepts the audience of the workflows' tokens."""
    audiences = bootstrap.oidc_audiences(session)
    if audiences is None:
        remedy = f"`sagegate bootstrap {session.environment.name}`"
        yield problem("the account has no OIDC provider for GitHub", remedy)
    elif platform.AUDIENCE not in audiences:
        remedy = bootstrap.add_audience_command(session)
        yield problem(f"GitHub's OIDC provider does not accept the audience {platform.AUDIENCE}", remedy)
    else:
        yield ok("GitHub's OIDC provider")


def check_trust(session: Session, repository: str) -> Iterator[Finding]:
    """Check that each role of GitHub's jobs trusts exactly the subjects that GitHub sends for its environments.

    Without GITHUB_TOKEN the stack's parameter stands for what GitHub sends.
    """
    environment, iam = session.environment.name, session.client("iam")
    stack = cloudformation.describe_stack(session.client("cloudformation"), session.names.platform_stack)
    prefix = cloudformation.parameters_of(stack).get("GitHubSubject") if stack else None
    if not prefix:
        return  # there is no stack, or an earlier one: check_stack reports it
    if os.environ.get("GITHUB_TOKEN"):
        try:
            prefix = open_github(repository).subject_prefix()
        except GitHubError as error:
            yield warning(f"whether GitHub sends the subject that the roles trust, {prefix}, is not known", str(error))
    roles = {"train": ["dev"], "approve": ["prod", "staging"]} if environment == "dev" else {}
    if session.environment.platform.image_repository:
        roles["image"] = ["dev"]
    for purpose, environments in (roles or {f"deploy-{environment}": [environment]}).items():
        name, remedy = f"{session.names.project}-github-{purpose}", f"`sagegate bootstrap {environment}`"
        try:
            policy = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        except iam.exceptions.NoSuchEntityException:
            yield problem(f"role {name} is missing", remedy)
            continue
        sent = [f"{prefix}:environment:{each}" for each in environments]
        trusted = sorted(trusted_subjects(policy))
        if trusted == sent:
            yield ok(f"role {name} trusts {', '.join(sent)} only")
        else:
            text = f"GitHub sends {', '.join(sent)}, but role {name} trusts {', '.join(trusted) or 'no subject'}"
            yield problem(text, f"{remedy}; if that finds no change, undo the manual edit of the role")


def trusted_subjects(policy: Json) -> list[str]:
    """Return the values of the token's `sub` that a trust policy accepts, under any condition operator."""
    blocks = [block for statement in policy["Statement"] for block in statement.get("Condition", {}).values()]
    values = [block.get(f"{platform.PROVIDER}:sub", []) for block in blocks]
    return [subject for value in values for subject in ([value] if isinstance(value, str) else value)]


def check_quotas(session: Session) -> Iterator[Finding]:
    """Check that the quotas allow the instances in the settings."""
    needed = needed_quotas(session.environment)
    if not needed:
        return
    client = session.client("service-quotas")
    listed = paginate(client, "list_service_quotas", "Quotas", ServiceCode="sagemaker")
    quotas = {quota["QuotaName"]: quota["Value"] for quota in listed}
    for name, count in needed.items():
        if name not in quotas:
            yield warning(f"there is no quota {name!r}", "check the instance type in environments/")
        elif quotas[name] < count:
            yield problem(
                f"quota {name!r} is {quotas[name]:g}, the settings need {count}",
                "request an increase in the Service Quotas console (Amazon SageMaker), or use another instance type",
            )
        else:
            yield ok(f"quota {name!r} is {quotas[name]:g}, {count} needed")


def needed_quotas(environment: Environment) -> dict[str, int]:
    """Return the number of instances that an environment uses at once, by the name of the quota.

    Jobs run in dev, endpoints in staging and prod. While a deployment shifts traffic, the old and the new instances run
    side by side. The names are those of Amazon SageMaker in Service Quotas.
    """
    if environment.name == "dev":
        processing, training = environment.processing, environment.training
        kind = "spot training" if training.spot else "training"
        return {
            f"{processing.instance_type} for processing job usage": processing.instance_count,
            f"{training.instance_type} for {kind} job usage": training.instance_count,
        }
    endpoint = environment.endpoint
    if endpoint.mode in ("real-time", "asynchronous"):
        return {f"{endpoint.instance_type} for endpoint usage": 2 * endpoint.max_instance_count}
    if endpoint.mode == "batch":
        return {f"{endpoint.instance_type} for transform job usage": endpoint.max_instance_count}
    return {}


# --- GitHub --------------------------------------------------------------------------------------------------------
def check_github(settings: Settings, names: tuple[str, ...]) -> Iterator[Finding]:
    """Check GitHub's environments, the main branch and the settings of Actions, if GITHUB_TOKEN is set."""
    if not os.environ.get("GITHUB_TOKEN"):
        remedy = "GITHUB_TOKEN=$(gh auth token) sagegate doctor"
        yield warning("environments, reviewers and branch are not checked: GITHUB_TOKEN is not set", remedy)
        return
    github = open_github(settings.project.repository)
    for name in names:
        yield from run_check(f"environment {name}", check_github_environment(github, name))
    yield from run_check("the branch", check_branch(github))
    yield from run_check("the code owners", check_code_owners(github))
    yield from run_check("the settings of Actions", check_actions(github))


def check_github_environment(github: GitHub, name: str) -> Iterator[Finding]:
    """Check an environment's reviewers and the branch that deploys to it; the roles trust workflows by environment."""
    remedy = f"`sagegate bootstrap {name} --github" + ("`" if name == "dev" else " --reviewer LOGIN_OR_ORG/TEAM`")
    environment = github.environment(name)
    if environment is None:
        yield problem(f"GitHub environment {name} is missing", remedy)
        return
    reviewers = github_environments.reviewers_of(environment)
    if name != "dev" and not reviewers:
        yield warning(f"GitHub environment {name} has no reviewers: a merge deploys without approval", remedy)
    branches: list[str] = []
    if github_environments.from_named_branches(environment):
        branches = [policy["name"] for policy in github_environments.branches(github, name)]
    if branches == [BRANCH]:
        yield ok(f"GitHub environment {name}: from {BRANCH} only; reviewers: {', '.join(reviewers) or 'none'}")
    else:
        found = ", ".join(branches) or "any branch"
        yield problem(f"GitHub environment {name} takes deployments from {found}, not from {BRANCH} only", remedy)


def check_branch(github: GitHub) -> Iterator[Finding]:
    """Check that nobody can push to the branch that deploys without a review.

    Source: docs.github.com/rest/repos/rules, "Get rules for a branch".
    """
    try:
        branch = github.call("GET", f"/branches/{BRANCH}", need="contents: read")
    except GitHubError as error:
        if error.status != 404:
            raise
        yield warning(f"{github.repository} has no branch {BRANCH} yet, or the token may not read it", "push it")
        return
    if not branch.get("protected"):
        yield warning(f"branch {BRANCH} is not protected, so anyone who can push can deploy", RULES)
        return
    yield ok(f"branch {BRANCH} is protected")
    rules = github.call("GET", f"/rules/branches/{BRANCH}?per_page=100", need="contents: read")
    given = [(rule["type"], rule.get("parameters", {})) for rule in rules]
    reviewed = any(kind == "pull_request" and each.get("require_code_owner_review") for kind, each in given)
    required = [each for kind, each in given if kind == "required_status_checks"]
    checks = [check["context"] for each in required for check in each["required_status_checks"]]
    missing = [] if any(kind == "pull_request" for kind, _ in given) else ["a pull request"]
    missing += [] if reviewed else ["a review of code owners"]
    missing += [] if CHECK in checks else [f"the status check {CHECK}"]
    if missing:  # rulesets only: GitHub shows classic branch protection to administrators alone
        yield warning(f"no ruleset requires {', '.join(missing)} on {BRANCH}", RULES)
    else:
        yield ok(f"branch {BRANCH} requires a pull request, a review of code owners and the status check {CHECK}")


def check_code_owners(github: GitHub) -> Iterator[Finding]:
    """Check that GitHub can read CODEOWNERS on the main branch: it ignores a line with an error."""
    try:
        errors = github.call("GET", f"/codeowners/errors?ref={BRANCH}", need="contents: read")["errors"]
    except GitHubError as error:
        if error.status != 404:
            raise
        yield warning(f"branch {BRANCH} has no CODEOWNERS, or the token may not read it", f"push {CODEOWNERS}")
        return
    for each in errors:
        text = f"{each['path']}, line {each['line']}: {each['kind']}"
        yield problem(text, each.get("suggestion") or "GitHub ignores the line: name users or teams with write access")


def check_actions(github: GitHub) -> Iterator[Finding]:
    """Check that workflows may open promotion pull requests."""
    permissions = github.call("GET", "/actions/permissions/workflow", need="administration: read")
    if permissions.get("can_approve_pull_request_reviews"):
        yield ok(
            "workflows may open pull requests, and approve them; with a GitHub App that is not needed: turn it off"
        )
    else:
        yield warning("workflows may not open pull requests", f"use a GitHub App (README.md), or {ACTIONS_SETTING}")
