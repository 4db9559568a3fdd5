"""CloudFormation stacks by change set: what would change, then the change with its progress, then how it ended.

Running it again after any interruption converges: a change under way is waited for, a change set left behind is
replaced, a stack whose creation failed is removed first. States: "Stack status codes" in the CloudFormation guide.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from sagegate.errors import SagegateError
from sagegate.files import Json

NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
# Nothing but removing a stack leads out of these; it holds nothing, for its creation failed or was never carried out.
DEAD = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
STANDS = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
# How CloudFormation says that a stack is not any more as this process saw it, because another one changes it.
FASTER = ("can not be updated", "cannot be created again", "does not exist")
ATTEMPTS = 20
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 1.0, 10.0
LIMIT_SECONDS = 3 * 3600.0


@dataclass(frozen=True)
class Wanted:
    """A stack as it should be. Tags go on to every resource that can have them.

    `adopts`: what the account has already under a name of the template becomes the stack's, instead of a failure.
    """

    name: str
    template: str
    parameters: dict[str, str]
    tags: dict[str, str]
    capabilities: tuple[str, ...] = ()
    adopts: bool = False


@dataclass(frozen=True)
class Change:
    """A change set that waits to be executed; `changes` are CloudFormation's ResourceChange tables."""

    stack: str
    name: str
    changes: list[Json] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How a change ended. `reason` is the first failure's own words, None if there was none."""

    status: str
    reason: str | None
    outputs: dict[str, str]

    @property
    def succeeded(self) -> bool:
        """Whether the stack is now as it was wanted."""
        return self.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")


def describe_stack(client: Any, name: str) -> Json | None:
    """The stack, or None if there is none."""
    try:
        stacks = client.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    found: Json = stacks[0]
    return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def outputs_of(stack: Json) -> dict[str, str]:
    """A stack's outputs by key."""
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def parameters_of(stack: Json) -> dict[str, str]:
    """A stack's parameters by key."""
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack.get("Parameters", [])}


def resources(client: Any, name: str) -> dict[str, Json]:
    """What a stack owns now: StackResourceSummary by logical id."""
    pages = client.get_paginator("list_stack_resources").paginate(StackName=name)
    found = (summary for page in pages for summary in page["StackResourceSummaries"])
    gone = ("DELETE_COMPLETE", "DELETE_SKIPPED")
    return {summary["LogicalResourceId"]: summary for summary in found if summary["ResourceStatus"] not in gone}


def is_as_wanted(client: Any, wanted: Wanted) -> bool:
    """Whether the stack stands as wanted already. Reads only."""
    stack = describe_stack(client, wanted.name)
    if stack is None or stack["StackStatus"] not in STANDS:
        return False
    parameters = parameters_of(stack)
    if any(parameters.get(name) != value for name, value in wanted.parameters.items()):
        return False
    body = client.get_template(StackName=wanted.name, TemplateStage="Original")["TemplateBody"]
    return isinstance(body, str) and body.strip() == wanted.template.strip()


def present(client: Any, name: str, show: Callable[[str], None]) -> Wanted | None:
    """The stack as it stands once no change is under way, so that it can be put back; None if there is none."""
    stack = settle(client, name, show)
    if stack is None or stack["StackStatus"] in (*DEAD, "REVIEW_IN_PROGRESS"):
        return None
    body = client.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
    return Wanted(
        name,
        body if isinstance(body, str) else json.dumps(body),
        {p["ParameterKey"]: p["ParameterValue"] for p in stack.get("Parameters", [])},
        {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])},
        tuple(stack.get("Capabilities", [])),
    )


def bring(client: Any, wanted: Wanted, show: Callable[[str], None]) -> Outcome | None:
    """Make a stack as wanted and follow that to its end; None if nothing was to be done.

    Where another process was faster its change is waited for, and then looked at what is left to do.
    """
    for _ in range(ATTEMPTS):
        try:
            change = propose(client, wanted, show)
            return execute(client, change, show) if change else None
        except ClientError as error:
            if not _is_overtaken(error):
                raise
            show(f"{wanted.name}: another process changes it: waiting for that")
    raise SagegateError(
        f"stack {wanted.name}: other processes keep changing it: repeat this command when they are done"
    )


def propose(client: Any, wanted: Wanted, show: Callable[[str], None]) -> Change | None:
    """Make a change set; None if nothing would change. A change under way is waited for first."""
    stack = settle(client, wanted.name, show)
    if stack and stack["StackStatus"] in DEAD:
        show(f"{wanted.name}: {stack['StackStatus']}: removing what is left of it")
        delete(client, wanted.name, show)
        stack = None
    is_new = stack is None or stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    name = f"mlops-{uuid.uuid4().hex[:16]}"
    client.create_change_set(
        StackName=wanted.name,
        ChangeSetName=name,
        ChangeSetType="CREATE" if is_new else "UPDATE",
        TemplateBody=wanted.template,
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in sorted(wanted.parameters.items())],
        Tags=[{"Key": k, "Value": v} for k, v in sorted(wanted.tags.items())],
        Capabilities=list(wanted.capabilities),
        ImportExistingResources=wanted.adopts,
        ClientToken=name,
    )
    for _ in polls():
        found = client.describe_change_set(StackName=wanted.name, ChangeSetName=name)
        if found["Status"] == "CREATE_COMPLETE":
            return Change(wanted.name, name, [change["ResourceChange"] for change in found.get("Changes", [])])
        if found["Status"] == "FAILED":
            discard(client, Change(wanted.name, name))
            if any(words in found.get("StatusReason", "") for words in NO_CHANGE):
                return None
            raise SagegateError(f"stack {wanted.name}: CloudFormation refused the change: {found.get('StatusReason')}")
    raise AssertionError("polls() does not end by itself")


def discard(client: Any, change: Change) -> None:
    """Remove a change set that will not be executed; and the empty stack that was made for it."""
    client.delete_change_set(StackName=change.stack, ChangeSetName=change.name)
    stack = describe_stack(client, change.stack)
    if stack and stack["StackStatus"] == "REVIEW_IN_PROGRESS":
        client.delete_stack(StackName=change.stack)


def execute(client: Any, change: Change, show: Callable[[str], None]) -> Outcome:
    """Execute a change set and follow it to its end, one line for each event of a resource."""
    seen = {event["EventId"] for event in _events(client, change.stack)}
    client.execute_change_set(
        StackName=change.stack,
        ChangeSetName=change.name,
        ClientRequestToken=change.name,
        RetainExceptOnCreate=True,  # a roll-back leaves nothing behind that the next attempt would stumble over
    )
    return _follow(client, change.stack, seen, show)


def delete(client: Any, name: str, show: Callable[[str], None]) -> Outcome:
    """Remove a stack and follow that to its end."""
    stack = describe_stack(client, name)
    if stack is None:
        return Outcome("DELETE_COMPLETE", None, {})
    seen = {event["EventId"] for event in _events(client, name)}
    client.delete_stack(StackName=name)
    return _follow(client, stack["StackId"], seen, show)  # by its id, for the name ends with the stack


def settle(client: Any, name: str, show: Callable[[str], None]) -> Json | None:
    """The stack once no change is under way; raises SagegateError for a state that only a person can end."""
    stack = describe_stack(client, name)
    if stack and stack["StackStatus"].endswith("IN_PROGRESS") and stack["StackStatus"] != "REVIEW_IN_PROGRESS":
        show(f"{name}: {stack['StackStatus']}: waiting for the change that is under way")
        _follow(client, stack["StackId"], {event["EventId"] for event in _events(client, name)}, show)
        stack = describe_stack(client, name)
    if stack and stack["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
        raise SagegateError(
            f"stack {name} is stuck in UPDATE_ROLLBACK_FAILED: look at its events in the CloudFormation console, then "
            f"`aws cloudformation continue-update-rollback --stack-name {name}`, and repeat this command"
        )
    return stack


def _is_overtaken(error: ClientError) -> bool:
    """Whether another process's change made a call on a stack or a change set impossible."""
    code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in ("ChangeSetNotFound", "InvalidChangeSetStatus"):
        return True
    return code == "ValidationError" and any(words in said for words in FASTER)


def _follow(client: Any, stack: str, seen: set[str], show: Callable[[str], None]) -> Outcome:
    reason: str | None = None
    for _ in polls():
        described = _describe_by_id(client, stack)  # before the events, so that the last ones are not missed
        for event in reversed(_events(client, stack)):
            if event["EventId"] in seen:
                continue
            seen.add(event["EventId"])
            said = event.get("ResourceStatusReason", "")
            if event["ResourceStatus"].endswith("FAILED") and reason is None and "cancelled" not in said.lower():
                reason = f"{event['LogicalResourceId']}: {said or event['ResourceStatus']}"
            show(f"  {event['ResourceStatus']:<28} {event['LogicalResourceId']}  {said}".rstrip())
        status = described["StackStatus"] if described else "DELETE_COMPLETE"
        if not status.endswith("IN_PROGRESS") or status == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS":
            return Outcome(status, reason, outputs_of(described) if described else {})
    raise AssertionError("polls() does not end by itself")


def _describe_by_id(client: Any, stack: str) -> Json | None:
    try:
        found: Json = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return found


def _events(client: Any, stack: str) -> list[Json]:
    """A stack's events, the newest first; none before it exists. One page holds a hundred, more than a change makes."""
    try:
        found: list[Json] = client.describe_stack_events(StackName=stack)["StackEvents"]
    except ClientError as error:
        if "does not exist" in str(error):
            return []
        raise
    return found


def polls() -> Iterator[None]:
    """Wait before each look: a second first, ten at last; SAGEGATE_POLL_SECONDS sets them all. Gives up after 3 hours."""
    given = os.environ.get("SAGEGATE_POLL_SECONDS")
    pause = float(given) if given else FIRST_POLL_SECONDS
    start = time.monotonic()
    while time.monotonic() - start < LIMIT_SECONDS:
        yield
        time.sleep(pause)
        pause = pause if given else min(pause * 1.3, LAST_POLL_SECONDS)
    raise SagegateError("CloudFormation did not end within 3 hours: look at the stack's events in its console")
