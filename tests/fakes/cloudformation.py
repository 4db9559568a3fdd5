"""CloudFormation's operations on stacks and change sets, in the place of moto's: they work in the background.

moto makes a stack within the request, skips what it does not know and cannot roll back (stacks.py says what is done).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from moto.cloudformation.exceptions import AlreadyExistsException, CloudFormationError, ValidationError
from moto.cloudformation.models import ChangeSet
from moto.cloudformation.responses import CloudFormationResponse
from moto.cloudformation.utils import generate_changeset_id
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow

from sagegate.files import Json

from . import planning, platform_types, templates
from .formation import THREADS, URL, Shared, go, names_of
from .planning import LiveStack, Resource
from .stacks import Run

NOTHING = "The submitted information didn't contain changes. Submit different information to create a change set."
LOCK = threading.Lock()


def one_at_a_time(operation: Callable[[Any], ActionResult]) -> Callable[[Any], ActionResult]:
    """Operations that change a stack do not overlap: two requests at once must not make two stacks of one name."""

    @wraps(operation)
    def locked(self: Any) -> ActionResult:
        with LOCK:
            return operation(self)

    return locked


class ChangeSetNotFound(CloudFormationError):
    """There is no such change set."""

    code = "ChangeSetNotFound"


class InvalidChangeSetStatus(CloudFormationError):
    """The change set is not one to be executed."""

    code = "InvalidChangeSetStatus"


class Operations(Shared):
    """The operations, to be put on moto's class."""

    @one_at_a_time
    def create_stack(self) -> ActionResult:
        """CREATE_IN_PROGRESS, then CREATE_COMPLETE or ROLLBACK_COMPLETE."""
        if self._named():
            raise AlreadyExistsException(f"Stack [{self._get_param('StackName')}] already exists")
        body, stack = self._body(), self._new_stack()
        parameters = self._checked(body, None)
        planning.plan(stack, templates.parse(body), names_of(stack, templates.parse(body), parameters, {}))
        self.cloudformation_backend.stacks[stack.stack_id] = stack
        stack.template = body
        self._begin(stack, "CREATE", body, parameters)
        return ActionResult({"StackId": stack.stack_id})

    @one_at_a_time
    def update_stack(self) -> ActionResult:
        """UPDATE_IN_PROGRESS, then UPDATE_COMPLETE or UPDATE_ROLLBACK_COMPLETE."""
        stack = self._named()
        if stack is None:
            raise ValidationError(self._get_param("StackName"))
        self._busy(stack)
        body = self._body(stack)
        parameters = self._checked(body, stack)
        if not self._changes(stack, body, parameters):
            raise ValidationError(message="No updates are to be performed.")
        self._begin(stack, "UPDATE", body, parameters)
        return ActionResult({"StackId": stack.stack_id})

    @one_at_a_time
    def delete_stack(self) -> ActionResult:
        """DELETE_IN_PROGRESS, then gone."""
        stack, backend = self._named(), self.cloudformation_backend
        if stack is None:
            return EmptyResult()
        run = Run(stack, self._clients())
        exports = [export.name for export in stack.exports]
        run.status("DELETE_IN_PROGRESS", "User Initiated")

        def work() -> None:
            if run.delete():
                for export in exports:
                    backend.exports.pop(export, None)
                backend.deleted_stacks[stack.stack_id] = stack
                backend.stacks.pop(stack.stack_id, None)

        go(work)
        return EmptyResult()

    @one_at_a_time
    def create_change_set(self) -> ActionResult:
        """CREATE_COMPLETE, or FAILED if nothing would change."""
        backend, stack = self.cloudformation_backend, self._named()
        kind, name = self._get_param("ChangeSetType", "UPDATE"), self._get_param("ChangeSetName")
        if kind == "CREATE":
            if stack and stack.status != "REVIEW_IN_PROGRESS":
                text = f"Stack [{stack.name}] already exists and cannot be created again with the changeSet [{name}]."
                raise ValidationError(message=text)
            stack = stack or self._new_stack()
        elif stack is None:
            raise ValidationError(self._get_param("StackName"))
        else:
            self._busy(stack)
        body = self._body(stack)
        parameters = self._checked(body, stack)
        for known in backend.change_sets.values():
            if known.change_set_name == name and known.stack_id == stack.stack_id:
                if self._get_param("ClientToken") and self._get_param("ClientToken") == getattr(known, "token", None):
                    return ActionResult({"Id": known.change_set_id, "StackId": stack.stack_id})
                raise AlreadyExistsException(f"ChangeSet {name} already exists")
        changes = self._changes(stack, body, parameters)
        if stack.stack_id not in backend.stacks:
            backend.stacks[stack.stack_id] = stack
            Run(stack, self._clients()).status("REVIEW_IN_PROGRESS", "User Initiated")
        identity = generate_changeset_id(name, self.region, self.current_account)
        made = ChangeSet(kind, identity, name, stack, body, parameters, self._get_param("Description"), tags=stack.tags)
        made.changes = changes or []  # type: ignore[assignment]
        made.status, made.execution_status, made.status_reason = "CREATE_COMPLETE", "AVAILABLE", None
        if changes is None:
            made.status, made.execution_status, made.status_reason = "FAILED", "UNAVAILABLE", NOTHING
        made.token = self._get_param("ClientToken")  # type: ignore[attr-defined]
        backend.change_sets[identity] = made
        return ActionResult({"Id": identity, "StackId": stack.stack_id})

    def _change_set(self) -> ChangeSet:
        name, stack = self._get_param("ChangeSetName"), self._get_param("StackName")
        for found in self.cloudformation_backend.change_sets.values():
            ours = stack is None or stack in (found.stack_name, found.stack_id)
            if name == found.change_set_id or (name == found.change_set_name and ours):
                return found
        raise ChangeSetNotFound(f"ChangeSet [{name}] does not exist")

    def describe_change_set(self) -> ActionResult:
        """As moto's, but of the stack that is named."""
        return ActionResult(self._change_set())

    def delete_change_set(self) -> ActionResult:
        """Forget it; the stack that was only reviewed stays, as AWS's does."""
        self.cloudformation_backend.change_sets.pop(self._change_set().change_set_id)
        return EmptyResult()

    @one_at_a_time
    def execute_change_set(self) -> ActionResult:
        """As CreateStack or UpdateStack."""
        found, token = self._change_set(), self._get_param("ClientRequestToken")
        if token and token == getattr(found, "executed_by", None):
            return EmptyResult()  # the same request again
        if found.execution_status != "AVAILABLE":
            text = f"ChangeSet [{found.change_set_id}] cannot be executed in its current status of [{found.status}]"
            raise InvalidChangeSetStatus(text)
        stack = cast(LiveStack, found.stack)
        if found.change_set_type == "UPDATE":
            self._busy(stack)
        found.execution_status = "EXECUTE_COMPLETE"
        found.executed_by = token  # type: ignore[attr-defined]
        stack.template = stack.template or found.template
        self._begin(stack, found.change_set_type, found.template, found.parameters)
        self.cloudformation_backend.change_sets = {
            key: kept
            for key, kept in self.cloudformation_backend.change_sets.items()
            if kept.stack_id != stack.stack_id or kept is found
        }
        return EmptyResult()

    def _resources(self) -> tuple[LiveStack, list[Resource]]:
        stack = self._named()
        if stack is None:
            stack = cast(LiveStack, self.cloudformation_backend.get_stack(self._get_param("StackName")))
        return stack, list(stack.made.values())

    def _detail(self, stack: LiveStack, resource: Resource) -> Json:
        return {
            "StackName": stack.name,
            "StackId": stack.stack_id,
            "LogicalResourceId": resource.logical_resource_id,
            "PhysicalResourceId": resource.physical_resource_id,
            "ResourceType": resource.cf_resource_type,
            "ResourceStatus": resource.status,
            "Timestamp": utcnow(),
            "LastUpdatedTimestamp": utcnow(),
        }

    def describe_stack_resources(self) -> ActionResult:
        """Each with its own status."""
        stack, found = self._resources()
        one = self._get_param("LogicalResourceId")
        shown = [self._detail(stack, r) for r in found if one in (None, r.logical_resource_id)]
        return ActionResult({"StackResources": shown})

    def describe_stack_resource(self) -> ActionResult:
        """One."""
        stack, found = self._resources()
        one = self._get_param("LogicalResourceId")
        for resource in found:
            if resource.logical_resource_id == one:
                return ActionResult({"StackResourceDetail": self._detail(stack, resource)})
        raise ValidationError(message=f"Resource {one} does not exist for stack {stack.name}")

    def list_stack_resources(self) -> ActionResult:
        """Each with its own status."""
        stack, found = self._resources()
        return ActionResult({"StackResourceSummaries": [self._detail(stack, resource) for resource in found]})


FUNCTIONS = {name: f for name, f in {**Shared.__dict__, **Operations.__dict__}.items() if not name.startswith("__")}


def install(url: str) -> None:
    """Put the operations in the place of moto's; resources are made through the server at `url`."""
    assert platform_types  # importing it registers its types
    URL.append(url)
    for name, function in FUNCTIONS.items():
        setattr(CloudFormationResponse, name, function)


def wait() -> None:
    """Wait for what runs."""
    for thread in list(THREADS):
        thread.join()
    THREADS.clear()
