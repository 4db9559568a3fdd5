"""What `sagegate doctor` finds: good, doubtful or wrong, each with its remedy, in one line.
What `sagegate doctor` looks at on GitHub, where GITHUB_TOKEN is set. Reads only.
What `sagegate doctor` looks at in the repository itself: without credentials, without a network.
What `sagegate doctor` looks at in an environment's AWS account. Reads only.
`sagegate doctor [ENV]`: what is missing or wrong, each with its remedy. Changes nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from botocore.exceptions import ClientError
from rich.markup import escape

from sagegate import output
from sagegate.account import bootstrap as account
from sagegate.account import cloudformation as stacks
from sagegate.account import platform, trust
from sagegate.aws_errors import error_code
from sagegate.config import PLACEHOLDER_ACCOUNT, Environment, Settings, load_environment, load_settings
from sagegate.errors import FAILED, USAGE, SagegateError
from sagegate.files import Json
from sagegate.pipeline import definition
from sagegate.registry import deployments
from sagegate.repository import github as github_environments
from sagegate.repository.github import ACTIONS_SETTING, GitHub, GitHubError
from sagegate.session import Session, pages

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` says what to do unless all is well."""

    state: State
    text: str
    fix: str = ""

    @property
    def line(self) -> str:
        """For the reader."""
        return f"{self.text}: {self.fix}" if self.fix else self.text


def ok(text: str) -> Finding:
    """All is well."""
    return Finding("ok", text)


def warning(text: str, fix: str = "") -> Finding:
    """It may be as it is meant to be, or could not be looked at."""
    return Finding("warning", text, fix)


def problem(text: str, fix: str = "") -> Finding:
    """It will not work."""
    return Finding("problem", text, fix)


def examine(what: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds, with the reason why it could not look further: one refusal never ends the others."""
    found: list[Finding] = []
    try:
        found.extend(check())  # keeps what came before an error
    except SagegateError as error:
        found.append(problem(str(error)))
    except Exception as error:
        from sagegate.aws_errors import explain_aws_error

        said = explain_aws_error(error)
        if said is None:
            raise
        found.append(warning(f"{what} not looked at: {said}"))
    return found


BRANCH = github_environments.BRANCH


def environment(github: GitHub, name: str) -> Iterator[Finding]:
    """The environment whose workflows the roles trust: its reviewers, and the branch that deployments come from."""
    found = github.environment(name)
    make = f"`sagegate bootstrap {name} --github" + ("`" if name == "dev" else " --reviewer LOGIN_OR_ORG/TEAM`")
    if found is None:
        yield problem(f"GitHub environment {name} is missing", make)
        return
    reviewers = github_environments.reviewers_of(found)
    if name != "dev" and not reviewers:
        yield warning(f"GitHub environment {name} has no reviewers: what is merged is deployed unasked", make)
    names = [policy["name"] for policy in github_environments.branches(github, name)] if _lists(found) else []
    if names != [BRANCH]:
        admitted = ", ".join(names) or "any branch"
        yield problem(f"GitHub environment {name} takes deployments from {admitted}, not from {BRANCH} only", make)
    else:
        yield ok(f"GitHub environment {name}: from {BRANCH} only; reviewers: {', '.join(reviewers) or 'none'}")


def branch(github: GitHub) -> Iterator[Finding]:
    """Whether the branch that deploys can be pushed to without a review."""
    try:
        found = github.call("GET", f"/branches/{BRANCH}", need="contents: read")
    except GitHubError as error:
        if error.status != 404:
            raise
        yield warning(f"{github.repository} has no branch {BRANCH} yet, or the token may not see it", "push it")
        return
    if found.get("protected"):
        yield ok(f"branch {BRANCH} is protected")
    else:
        yield warning(
            f"branch {BRANCH} is not protected, so anyone who can push can deploy",
            "Settings > Rules: require a pull request, a review of code owners and the status check",
        )


def workflows(github: GitHub) -> Iterator[Finding]:
    """Whether workflows may open promotion pull requests."""
    need = "administration: read"
    found = github.call("GET", "/actions/permissions/workflow", need=need)
    if found.get("can_approve_pull_request_reviews"):
        yield ok("workflows may open pull requests")
    else:
        yield problem("workflows may not open pull requests", ACTIONS_SETTING)


def _lists(environment: dict[str, object]) -> bool:
    return github_environments.from_named_branches(environment)


CODEOWNERS = ".github/CODEOWNERS"


def tools(root: Path) -> Iterator[Finding]:
    """Python, git and uv."""
    python = ".".join(map(str, sys.version_info[:3]))
    least = _least_python(root)
    if least and sys.version_info[:2] < least:
        wanted = ".".join(map(str, least))
        yield problem(f"Python {python} is too old", f"`uv python install {wanted}` and `uv sync`")
    else:
        yield ok(f"Python {python}")
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` sets UV
    for tool, path, fix in (("git", shutil.which("git"), "install git"), ("uv", uv, "`pip install uv`")):
        if path is None:
            yield problem(f"{tool} is not on the path", fix)
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        yield ok(said.stdout.strip()) if said.returncode == 0 else problem(f"{tool} does not run", fix)


def repository(root: Path, settings: Settings) -> Iterator[Finding]:
    """The repository that the roles trust, git's remote, and who must review."""
    name = settings.project.repository
    if name.partition("/")[0] == platform.PLACEHOLDER_OWNER:
        yield problem(f"mlops.toml: project.repository is the placeholder {name}", "put your own owner/name there")
    else:
        yield ok(f"repository {name}")
        remote = _remote(root)
        if remote is None:
            yield warning("git has no remote origin", f"`git remote add origin git@github.com:{name}.git`")
        elif not remote.removesuffix("/").removesuffix(".git").lower().endswith(name.lower()):
            yield warning(f"git's origin is {remote}, not {name}", "correct project.repository or the remote")
    owners = root / CODEOWNERS
    if not owners.is_file():
        yield warning(f"{CODEOWNERS} is missing", "restore it from git, for it asks for reviews of deployments")
    elif f"@{platform.PLACEHOLDER_OWNER}" in owners.read_text(encoding="utf-8"):
        yield problem(f"{CODEOWNERS} names the placeholder @{platform.PLACEHOLDER_OWNER}", "put a user or a team there")
    else:
        yield ok(CODEOWNERS)


def account_id(environment: Environment) -> Iterator[Finding]:
    """Whether an environment has an account yet."""
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        file = f"environments/{environment.name}.toml"
        yield problem(f"{file}: account_id is the placeholder {PLACEHOLDER_ACCOUNT}", "put your account there")


def compiled(root: Path, settings: Settings) -> Iterator[Finding]:
    """Whether pipeline/definition.json is what pipeline.py would give; imports no SDK."""
    if definition.is_stale(root, settings):
        yield problem("pipeline/definition.json is stale", "`sagegate compile`, and commit it")
    else:
        yield ok("pipeline/definition.json is up to date")


def pins(root: Path) -> Iterator[Finding]:
    """Whether every file of deployments/ is good."""
    count = deployments.check_manifests(root)  # raises SagegateError, with its remedy, for one that is not
    yield ok(f"deployments/ has {count} good files" if count else "deployments/ is empty: nothing is deployed yet")


def _least_python(root: Path) -> tuple[int, ...] | None:
    """The oldest Python that pyproject.toml admits."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return None
    wanted = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {}).get("requires-python", "")
    least = [part.strip().removeprefix(">=") for part in wanted.split(",") if part.strip().startswith(">=")]
    return tuple(int(number) for number in least[0].split(".")[:2]) if least else None


def _remote(root: Path) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    said = subprocess.run([git, "remote", "get-url", "origin"], cwd=root, capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def stack(root: Path, session: Session, settings: Settings, environments: dict[str, Environment]) -> Iterator[Finding]:
    """The platform: there, sound, of this template, with the parameters that the settings ask for."""
    name, again = session.names.platform_stack, f"`sagegate bootstrap {session.environment.name}`"
    client = session.client("cloudformation")
    described = stacks.describe_stack(client, name)
    if described is None or described["StackStatus"] == "REVIEW_IN_PROGRESS":
        yield problem(f"there is no stack {name}", again)
        return
    status = described["StackStatus"]
    if status in stacks.DEAD:
        yield problem(f"stack {name} is {status}", f"{again} makes it anew")
        return
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        yield warning(f"stack {name} is {status}", f"{again} once nothing is under way, and look at its events")
    else:
        yield ok(f"stack {name} is {status}")
    text = platform.template(root)
    has, wants = stacks.outputs_of(described).get("TemplateVersion"), platform.version(text)
    if has != wants:
        yield problem(f"stack {name} is of template version {has}, infra/platform.yaml of {wants}", again)
    elif str(client.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]).strip() != text.strip():
        yield warning(f"stack {name} was made from another infra/platform.yaml", again)
    given = stacks.parameters_of(described)
    if session.environment.name not in platform.hosted(given):
        yield problem(f"stack {name} does not serve {session.environment.name}", again)
        return
    yield from differing(given, _wanted(session, described, settings, environments), again)


def differing(given: dict[str, str], wanted: dict[str, str], again: str) -> Iterator[Finding]:
    """The parameters of a stack that are not as the settings say."""
    for key, value in sorted(wanted.items()):
        if given.get(key, "") != value:
            yield problem(f"the platform's {key} is {given.get(key, '')!r}, the settings ask for {value!r}", again)


def provider(session: Session) -> Iterator[Finding]:
    """GitHub's identity provider, with the audience that tokens are for."""
    audiences = account.audiences(session)
    if audiences is None:
        yield problem(
            "the account has no identity provider for GitHub", f"`sagegate bootstrap {session.environment.name}`"
        )
    elif platform.AUDIENCE not in audiences:
        yield problem(f"GitHub's identity provider does not admit {platform.AUDIENCE}", account.admit(session))
    else:
        yield ok("GitHub's identity provider")


def roles(session: Session, repository: str) -> Iterator[Finding]:
    """Each role with exactly the trust that it should have."""
    iam, again = session.client("iam"), f"`sagegate bootstrap {session.environment.name}`"
    for purpose, wanted in trust.expected(session.names, repository).items():
        name = f"{session.names.project}-{purpose}"
        try:
            found: Json = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        except iam.exceptions.NoSuchEntityException:
            yield problem(f"role {name} is missing", again)
            continue
        if trust.is_exactly(found, wanted):
            yield ok(f"role {name} trusts {', '.join(trust.subjects(wanted)) or 'SageMaker'} only")
            continue
        trusted = ", ".join(trust.subjects(found)) or "others"
        asked = ", ".join(trust.subjects(wanted)) or "SageMaker in this account"
        yield problem(
            f"role {name} does not trust exactly {asked} (it trusts {trusted})",
            f"{again}; if that finds no change, someone edited the role by hand: undo that",
        )


def bucket(session: Session) -> Iterator[Finding]:
    """The artifact bucket: there, ours to read, every version kept, closed to the public."""
    name, again = session.names.bucket, f"`sagegate bootstrap {session.environment.name}`"
    try:
        session.s3.list_objects_v2(Bucket=name, Prefix=f"{session.names.project}/", MaxKeys=1)
    except ClientError as error:
        if error_code(error) != "NoSuchBucket":
            raise
        yield problem(f"bucket {name} is missing", again)
        return
    yield ok(f"bucket {name} can be read")
    if session.s3.get_bucket_versioning(Bucket=name).get("Status") != "Enabled":
        yield problem(f"bucket {name} keeps no former versions", again)
    if not _is_closed(session):
        yield problem(f"bucket {name} could be made public", again)


def quotas(session: Session) -> Iterator[Finding]:
    """Whether the account may have as many instances as the settings ask for."""
    needed = needed_quotas(session.environment)
    if not needed:
        return
    client = session.client("service-quotas")
    found = {q["QuotaName"]: q["Value"] for q in pages(client.list_service_quotas, "Quotas", ServiceCode="sagemaker")}
    yield from compared(needed, found)


def needed_quotas(environment: Environment) -> dict[str, int]:
    """Instances that an environment uses at once, by the quota's name (Service Quotas, Amazon SageMaker).

    Jobs run in dev, endpoints in staging and prod; there a deployment has the old and the new instances side by side.
    """
    if environment.name == "dev":
        jobs, training = environment.processing, environment.training
        kind = "spot training" if training.spot else "training"
        return {
            f"{jobs.instance_type} for processing job usage": jobs.instance_count,
            f"{training.instance_type} for {kind} job usage": training.instance_count,
        }
    endpoint = environment.endpoint
    if endpoint.mode in ("real-time", "asynchronous"):
        return {f"{endpoint.instance_type} for endpoint usage": 2 * endpoint.max_instance_count}
    if endpoint.mode == "batch":
        return {f"{endpoint.instance_type} for transform job usage": endpoint.max_instance_count}
    return {}


def compared(needed: dict[str, int], found: dict[str, float]) -> Iterator[Finding]:
    """What the quotas are beside what is needed."""
    for name, count in needed.items():
        if name not in found:
            yield warning(f"there is no quota {name!r}", "check the instance type in environments/")
        elif found[name] < count:
            yield problem(
                f"quota {name!r} is {found[name]:g}, the settings need {count}",
                "ask for more in the Service Quotas console (Amazon SageMaker), or use another instance type",
            )
        else:
            yield ok(f"quota {name!r} is {found[name]:g}, {count} needed")


def _wanted(
    session: Session, described: Json, settings: Settings, environments: dict[str, Environment]
) -> dict[str, str]:
    platform.check(settings, environments, session.environment.name)
    found = account.look(session, described)
    hosts = platform.hosts(environments, session.environment.name, found.parameters)
    return platform.parameters(settings, environments, hosts, found)


def _is_closed(session: Session) -> bool:
    try:
        found = session.s3.get_public_access_block(Bucket=session.names.bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if error_code(error) != "NoSuchPublicAccessBlockConfiguration":
            raise
        return False
    return len(found) == 4 and all(found.values())


STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(root: Path, name: str | None) -> int:
    """The verb; the exit code: 1 if there is a problem."""
    if name is not None and name not in platform.HOSTED:
        raise SagegateError(f"{name!r}: choose {', '.join(platform.HOSTED)}, or none of them to look at all", USAGE)
    counts: Counter[str] = Counter()
    for where, found in findings(root, (name,) if name else platform.HOSTED):
        counts[found.state] += 1
        style = STYLES[found.state]
        output.console.print(f"[{style}]{found.state:<8}[/] {where:<8} {escape(found.line)}")
    output.line(", ".join(f"{state}: {counts[state]}" for state in STYLES))
    return FAILED if counts["problem"] else 0


def findings(root: Path, names: tuple[str, ...]) -> Iterator[tuple[str, Finding]]:
    """Everything that is found, each with where: `project`, an environment or `github`; as soon as it is known."""
    for found in examine("tools", lambda: tools(root)):
        yield "project", found
    try:
        settings = load_settings(root)
        environments = {one: load_environment(root, one) for one in platform.HOSTED}
    except SagegateError as error:
        yield "project", problem(str(error))
        yield "project", warning("accounts and GitHub not looked at", "mend the settings first")
        return
    yield "project", ok("settings are valid")
    for found in [
        *examine("the repository", lambda: repository(root, settings)),
        *examine("the definition", lambda: compiled(root, settings)),
        *examine("deployments/", lambda: pins(root)),
    ]:
        yield "project", found
    for name in names:
        for found in _account(root, settings, environments, name):
            yield name, found
    for found in _github(settings, names):
        yield "github", found


def _account(root: Path, settings: Settings, environments: dict[str, Environment], name: str) -> list[Finding]:
    environment = environments[name]
    if environment.account_id == PLACEHOLDER_ACCOUNT:
        return [problem(platform.placeholder(name))]
    from botocore.exceptions import NoCredentialsError

    from sagegate.session import open_session

    place = f"account {environment.account_id}"
    try:
        session = open_session(root, settings, environment)
    except NoCredentialsError:
        fix = f"`aws sso login`, set AWS_PROFILE, or make a profile {settings.project.name}-{name}"
        return [warning(f"{place} not looked at: no AWS credentials here", fix)]
    except SagegateError as error:
        return [problem(str(error))]
    except Exception as error:
        from sagegate.aws_errors import explain_aws_error

        said = explain_aws_error(error)
        if said is None:
            raise
        return [warning(f"{place} not looked at: {said}")]
    return [
        ok(f"credentials of {place}, {environment.region}"),
        *examine("the platform's stack", lambda: stack(root, session, settings, environments)),
        *examine("the identity provider", lambda: provider(session)),
        *examine("the roles", lambda: roles(session, settings.project.repository)),
        *examine("the bucket", lambda: bucket(session)),
        *examine("quotas", lambda: quotas(session)),
    ]


def _github(settings: Settings, names: tuple[str, ...]) -> list[Finding]:
    from sagegate.repository.github import open_github

    if not os.environ.get("GITHUB_TOKEN"):
        again = "GITHUB_TOKEN=$(gh auth token) sagegate doctor"
        return [warning("environments, reviewers and branch not looked at: GITHUB_TOKEN is not set", again)]
    github = open_github(settings.project.repository)
    found = []
    for name in names:
        found += examine(f"environment {name}", partial(environment, github, name))
    return [
        *found,
        *examine("branch", lambda: branch(github)),
        *examine("the settings of Actions", lambda: workflows(github)),
    ]
