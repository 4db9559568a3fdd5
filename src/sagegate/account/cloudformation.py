"""Change CloudFormation stacks by change set, and show a stack's events while it changes.

Every function may be repeated after an interruption: it waits for a change that is still running, and deletes a stack
whose creation failed before it creates the stack again.

Source: "Stack status codes" in the CloudFormation user guide.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.session import paginate

# A stack in one of these states can only be deleted.
FAILED_STATES = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
# A stack in one of these states has no resources to keep or to compare with.
UNUSABLE_STATES = (*FAILED_STATES, "REVIEW_IN_PROGRESS")
STABLE_STATES = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
# Error messages that mean that another process changed the stack in the meantime.
CHANGED_MEANWHILE = ("can not be updated", "cannot be created again", "does not exist")
ATTEMPTS = 20
POLL_SECONDS = 5.0
CHANGE_SET_SECONDS = 600.0


class StackFailed(SagegateError):
    """A change of a stack that failed; the message has the final status and the first resource's error."""


@dataclass(frozen=True)
class StackSpec:
    """The template, parameters and tags of a stack. CloudFormation adds the tags to the stack's resources.

    With `import_existing`, a resource that the account already has under a name in the template joins the stack
    instead of failing it.
    """

    name: str
    template: str
    parameters: dict[str, str]
    tags: dict[str, str]
    capabilities: tuple[str, ...] = ()
    import_existing: bool = False


@dataclass(frozen=True)
class ChangeSet:
    """A change set that can be executed; `changes` has the shape of CloudFormation's ResourceChange."""

    stack: str
    name: str
    changes: list[Json]


def declared_only(template: str, parameters: dict[str, str]) -> dict[str, str]:
    """Return the parameters that the template (YAML text) declares; CloudFormation rejects any other.

    So an older project, whose templates lack a parameter of today, works with this version.
    """
    block = re.search(r"(?m)^Parameters:\n((?:(?: .*|#.*)?\n)+)", template)
    declared = re.findall(r"(?m)^  (\w+):", block[1]) if block else []
    return {name: value for name, value in parameters.items() if name in declared}


def poll_seconds(default: float) -> float:
    """Return the seconds between two requests for a state: SAGEGATE_POLL_SECONDS, or `default`."""
    return float(os.environ.get("SAGEGATE_POLL_SECONDS") or default)


def describe_stack(client: Any, name: str) -> Json | None:
    """Return a stack by its name or id, or None if it does not exist."""
    try:
        stack: Json = client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack


def outputs_of(stack: Json) -> dict[str, str]:
    """Return a stack's outputs by key."""
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def parameters_of(stack: Json) -> dict[str, str]:
    """Return a stack's parameters by key."""
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack.get("Parameters", [])}


def resource_ids(client: Any, name: str) -> frozenset[str]:
    """Return the logical ids of the resources in a stack."""
    summaries = paginate(client, "list_stack_resources", "StackResourceSummaries", StackName=name)
    deleted = ("DELETE_COMPLETE", "DELETE_SKIPPED")
    return frozenset(s["LogicalResourceId"] for s in summaries if s["ResourceStatus"] not in deleted)


def template_of(client: Any, name: str) -> str:
    """Return a stack's template as it was submitted."""
    body = client.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
    return body if isinstance(body, str) else json.dumps(body)  # boto3 parses a JSON template


def is_up_to_date(client: Any, spec: StackSpec) -> bool:
    """Return True if the stack is stable and has the template and parameters of `spec`."""
    stack = describe_stack(client, spec.name)
    if stack is None or stack["StackStatus"] not in STABLE_STATES:
        return False
    if not spec.parameters.items() <= parameters_of(stack).items():
        return False
    return template_of(client, spec.name).strip() == spec.template.strip()


def snapshot(client: Any, name: str, show: Callable[[str], None]) -> StackSpec | None:
    """Return the stack as it is once it is stable, so that it can be restored; None if it does not exist."""
    stack = wait_until_stable(client, name, show)
    if stack is None or stack["StackStatus"] in UNUSABLE_STATES:
        return None
    tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
    return StackSpec(name, template_of(client, name), parameters_of(stack), tags, tuple(stack.get("Capabilities", [])))


def deploy_stack(client: Any, spec: StackSpec, show: Callable[[str], None]) -> None:
    """Create or update a stack and wait for the end. Raises StackFailed if CloudFormation rolls the change back.

    If another process is changing the stack, wait for it and then compute the change set again.
    """
    for _ in range(ATTEMPTS):
        try:
            change = create_change_set(client, spec, show)
            if change:
                execute_change_set(client, change, show)
            return
        except ClientError as error:
            if not _is_changed_meanwhile(error):
                raise
            show(f"{spec.name}: another process is changing the stack: waiting for it")
    raise SagegateError(f"stack {spec.name}: other processes keep changing it: run this command again when they finish")


def create_change_set(client: Any, spec: StackSpec, show: Callable[[str], None]) -> ChangeSet | None:
    """Create a change set once the stack is stable. Return None, and leave no change set, if nothing would change."""
    stack = wait_until_stable(client, spec.name, show)
    if stack and stack["StackStatus"] in FAILED_STATES:
        show(f"{spec.name}: {stack['StackStatus']}: deleting the failed stack")
        delete_stack(client, spec.name, show)
        stack = None
    is_new = stack is None or stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    name = f"sagegate-{uuid.uuid4().hex[:16]}"
    client.create_change_set(
        StackName=spec.name,
        ChangeSetName=name,
        ChangeSetType="CREATE" if is_new else "UPDATE",
        TemplateBody=spec.template,
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in sorted(spec.parameters.items())],
        Tags=[{"Key": k, "Value": v} for k, v in sorted(spec.tags.items())],
        Capabilities=list(spec.capabilities),
        ImportExistingResources=spec.import_existing,
        ClientToken=name,
    )
    pause = poll_seconds(1)
    config = {"Delay": pause, "MaxAttempts": int(CHANGE_SET_SECONDS / pause)}
    with suppress(WaiterError):  # the description below has the status and its reason, or raises AWS's own error
        waiter = client.get_waiter("change_set_create_complete")
        waiter.wait(StackName=spec.name, ChangeSetName=name, WaiterConfig=config)
    described = client.describe_change_set(StackName=spec.name, ChangeSetName=name)
    change = ChangeSet(spec.name, name, [entry["ResourceChange"] for entry in described.get("Changes", [])])
    if described["Status"] == "CREATE_COMPLETE":
        return change
    delete_change_set(client, change)
    reason = described.get("StatusReason", "")
    if any(words in reason for words in NO_CHANGE):
        return None
    raise SagegateError(f"stack {spec.name}: CloudFormation rejects the change ({described['Status']}): {reason}")


def delete_change_set(client: Any, change: ChangeSet) -> None:
    """Delete a change set that will not be executed, and the empty stack that was created for it."""
    client.delete_change_set(StackName=change.stack, ChangeSetName=change.name)
    stack = describe_stack(client, change.stack)
    if stack and stack["StackStatus"] == "REVIEW_IN_PROGRESS":
        client.delete_stack(StackName=change.stack)


def execute_change_set(client: Any, change: ChangeSet, show: Callable[[str], None]) -> str:
    """Execute a change set, show the events, and return the final status. Raises StackFailed if it is rolled back."""
    before = _events(client, change.stack)
    client.execute_change_set(
        StackName=change.stack,
        ChangeSetName=change.name,
        ClientRequestToken=change.name,
        RetainExceptOnCreate=True,  # a failed creation leaves no resource behind that would break the next attempt
    )
    status, reason = _follow(client, change.stack, before, show)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"):
        raise StackFailed(f"stack {change.stack} ended as {status}: {reason or 'CloudFormation gives no reason'}")
    return status


def delete_stack(client: Any, name: str, show: Callable[[str], None]) -> None:
    """Delete a stack and wait for the end. Raises StackFailed if a resource cannot be deleted."""
    stack = describe_stack(client, name)
    if stack is None:
        return
    before = _events(client, name)
    client.delete_stack(StackName=name)
    status, reason = _follow(client, stack["StackId"], before, show)  # a deleted stack has no name, only its id
    if status != "DELETE_COMPLETE":
        raise StackFailed(f"stack {name} ended as {status}: {reason}")


def wait_until_stable(client: Any, name: str, show: Callable[[str], None]) -> Json | None:
    """Wait for a running change and return the stack, or None if it does not exist.

    Raises SagegateError for UPDATE_ROLLBACK_FAILED, which only a person can resolve.
    """
    stack = describe_stack(client, name)
    if stack and stack["StackStatus"].endswith("IN_PROGRESS") and stack["StackStatus"] != "REVIEW_IN_PROGRESS":
        show(f"{name}: {stack['StackStatus']}: waiting for the running change")
        _follow(client, stack["StackId"], _events(client, name), show)
        stack = describe_stack(client, name)
    if stack and stack["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
        raise SagegateError(
            f"stack {name} is stuck in UPDATE_ROLLBACK_FAILED: look at its events in the CloudFormation console, run "
            f"`aws cloudformation continue-update-rollback --stack-name {name}`, then run this command again"
        )
    return stack


def _follow(client: Any, stack: str, before: list[Json], show: Callable[[str], None]) -> tuple[str, str | None]:
    """Show the events after `before` until the change ends; return the status and the first error of a resource.

    A boto3 waiter would do without the events, but an endpoint takes ten minutes and more.
    """
    seen = {event["EventId"] for event in before}
    reason: str | None = None
    while True:
        described = describe_stack(client, stack)  # before the events, so that the last ones are not missed
        for event in reversed(_events(client, stack)):
            if event["EventId"] in seen:
                continue
            seen.add(event["EventId"])
            text = event.get("ResourceStatusReason", "")
            if event["ResourceStatus"].endswith("FAILED") and reason is None and "cancelled" not in text.lower():
                reason = f"{event['LogicalResourceId']}: {text or event['ResourceStatus']}"
            show(f"  {event['ResourceStatus']:<28} {event['LogicalResourceId']}  {text}".rstrip())
        status = described["StackStatus"] if described else "DELETE_COMPLETE"
        if not status.endswith("IN_PROGRESS") or status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS":
            return status, reason
        time.sleep(poll_seconds(POLL_SECONDS))


def _events(client: Any, stack: str) -> list[Json]:
    """Return a stack's newest events; the first page has a hundred, more than one poll misses."""
    try:
        events: list[Json] = client.describe_stack_events(StackName=stack)["StackEvents"]
    except ClientError as error:
        if "does not exist" in str(error):
            return []
        raise
    return events


def _is_changed_meanwhile(error: ClientError) -> bool:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in ("ChangeSetNotFound", "InvalidChangeSetStatus"):
        return True
    return code == "ValidationError" and any(words in message for words in CHANGED_MEANWHILE)
