"""What `mlops doctor` looks at in an environment's AWS account. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from mlops.accounts import account, platform, stacks, trust
from mlops.aws import Door, pages
from mlops.doctor.findings import Finding, ok, problem, warning
from mlops.refusals import code_of
from mlops.settings import Environment, Settings

Json = dict[str, Any]


def stack(root: Path, door: Door, settings: Settings, environments: dict[str, Environment]) -> Iterator[Finding]:
    """The platform: there, sound, of this template, with the parameters that the settings ask for."""
    name, again = door.names.platform_stack, f"`mlops bootstrap {door.environment.name}`"
    client = door.client("cloudformation")
    described = stacks.describe(client, name)
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
    if door.environment.name not in platform.hosted(given):
        yield problem(f"stack {name} does not serve {door.environment.name}", again)
        return
    yield from differing(given, _wanted(door, described, settings, environments), again)


def differing(given: dict[str, str], wanted: dict[str, str], again: str) -> Iterator[Finding]:
    """The parameters of a stack that are not as the settings say."""
    for key, value in sorted(wanted.items()):
        if given.get(key, "") != value:
            yield problem(f"the platform's {key} is {given.get(key, '')!r}, the settings ask for {value!r}", again)


def provider(door: Door) -> Iterator[Finding]:
    """GitHub's identity provider, with the audience that tokens are for."""
    audiences = account.audiences(door)
    if audiences is None:
        yield problem("the account has no identity provider for GitHub", f"`mlops bootstrap {door.environment.name}`")
    elif platform.AUDIENCE not in audiences:
        yield problem(f"GitHub's identity provider does not admit {platform.AUDIENCE}", account.admit(door))
    else:
        yield ok("GitHub's identity provider")


def roles(door: Door, repository: str) -> Iterator[Finding]:
    """Each role with exactly the trust that it should have."""
    iam, again = door.client("iam"), f"`mlops bootstrap {door.environment.name}`"
    for purpose, wanted in trust.expected(door.names, repository).items():
        name = f"{door.names.project}-{purpose}"
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


def bucket(door: Door) -> Iterator[Finding]:
    """The artifact bucket: there, ours to read, every version kept, closed to the public."""
    name, again = door.names.bucket, f"`mlops bootstrap {door.environment.name}`"
    try:
        door.s3.list_objects_v2(Bucket=name, Prefix=f"{door.names.project}/", MaxKeys=1)
    except ClientError as error:
        if code_of(error) != "NoSuchBucket":
            raise
        yield problem(f"bucket {name} is missing", again)
        return
    yield ok(f"bucket {name} can be read")
    if door.s3.get_bucket_versioning(Bucket=name).get("Status") != "Enabled":
        yield problem(f"bucket {name} keeps no former versions", again)
    if not _is_closed(door):
        yield problem(f"bucket {name} could be made public", again)


def quotas(door: Door) -> Iterator[Finding]:
    """Whether the account may have as many instances as the settings ask for."""
    needed = needed_quotas(door.environment)
    if not needed:
        return
    client = door.client("service-quotas")
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


def _wanted(door: Door, described: Json, settings: Settings, environments: dict[str, Environment]) -> dict[str, str]:
    platform.check(settings, environments, door.environment.name)
    found = account.look(door, described)
    hosts = platform.hosts(environments, door.environment.name, found.parameters)
    return platform.parameters(settings, environments, hosts, found)


def _is_closed(door: Door) -> bool:
    try:
        found = door.s3.get_public_access_block(Bucket=door.names.bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if code_of(error) != "NoSuchPublicAccessBlockConfiguration":
            raise
        return False
    return len(found) == 4 and all(found.values())
