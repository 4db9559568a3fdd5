"""CloudFormation's operations on stacks and change sets, in the place of moto's: they work in the background.

moto makes a stack within the request, skips what it does not know and cannot roll back (stacks.py says what is done).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from moto.cloudformation.exceptions import AlreadyExistsException, CloudFormationError, ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.parsing import OutputMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.cloudformation.utils import generate_changeset_id, generate_stack_id
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.iam.access_control import CreateAccessKeyFailure, create_access_key
from moto.utilities.utils import get_partition

from . import platform_types, stacks, templates
from .resource_types import Clients
from .stacks import Map, Resource, Run

Json = dict[str, Any]
NOTHING = "The submitted information didn't contain changes. Submit different information to create a change set."
BUSY = ("_IN_PROGRESS", "ROLLBACK_FAILED")
_threads: list[threading.Thread] = []
_url: list[str] = []
MOTO: dict[str, Any] = {}


class ChangeSetNotFound(CloudFormationError):
    """There is no such change set."""

    code = "ChangeSetNotFound"


def go(work: Callable[[], Any]) -> None:
    """In the background."""
    thread = threading.Thread(target=work, name="stack", daemon=True)
    _threads[:] = [*(t for t in _threads if t.is_alive()), thread]
    thread.start()


def names_of(stack: Stack, template: Json, parameters: dict[str, str], exports: Any) -> Map:
    """moto's resolution of a template's names, with nothing made yet."""
    names = Map(
        stack.stack_id, stack.name, parameters, stack.tags, stack.region_name, stack.account_id, template, exports
    )
    names.load()
    return names


def parameter_list(stack: Stack) -> list[Json]:
    """Name and value of each parameter; NoEcho ones hidden (moto shows them)."""
    slots = stack.resource_map._template.get("Parameters") or {}
    hidden = [name for name, slot in slots.items() if str(slot.get("NoEcho", "")).lower() == "true"]
    values = stack.resource_map.resolved_parameters.items()
    texts = {k: ",".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in values}
    return [{"ParameterKey": k, "ParameterValue": "****" if k in hidden else v} for k, v in texts.items()]


def apply(
    backend: CloudFormationBackend, stack: Stack, body: str, parameters: dict[str, str], clients: Clients
) -> None:
    """Bring the stack to the template, in the background; its status has been set."""
    template = templates.parse(body)
    names = names_of(stack, template, parameters, backend.exports)
    if stack.status.startswith("CREATE"):
        stack.resource_map, stack.output_map = names, OutputMap(names, {}, stack.stack_id)

    def finish() -> None:
        stack.template, stack.template_dict, stack.parameters = body, template, parameters
        stack.description = template.get("Description")
        stack.resource_map = names
        stacks.outputs(stack)
        backend.exports.update({export.name: export for export in stack.exports})

    go(lambda: Run(stack, clients, finish).deploy(template, names))


class Operations(CloudFormationResponse):
    """The operations, to be put on moto's class."""

    def _clients(self) -> Clients:
        """Clients with the caller's credentials, as CloudFormation uses them without a role of its own."""
        headers = dict(self.headers.items())
        token = self.headers.get("X-Amz-Security-Token")
        if token:
            headers["X-Amz-Security-Token"] = token
        access, secret = self.get_access_key(), "secret"
        try:
            key = create_access_key(self.current_account, get_partition(self.region), access, headers)
            secret = key.create_credentials().secret_key
        except CreateAccessKeyFailure:
            pass  # moto knows no such key and does not ask for one: any secret will do
        region, url, kept = self.region, _url[-1], {}
        session = boto3.Session(access, secret, token, region_name=region)
        config = Config(retries={"total_max_attempts": 1})

        def client(service: str) -> Any:
            if service not in kept:
                kept[service] = session.client(service, endpoint_url=url, config=config)
            return kept[service]

        return client

    def _body(self, stack: Stack | None = None) -> str:
        """The request's template."""
        if self._get_bool_param("UsePreviousTemplate", False) and stack:
            return str(stack.template)
        body = self._get_param("TemplateBody") or ""
        if url := self._get_param("TemplateURL"):
            body = self._get_stack_from_s3_url(url)
        if not body:
            raise ValidationError(message="Either Template URL or Template Body must be specified.")
        return body

    def _checked(self, body: str, stack: Stack | None) -> dict[str, str]:
        """The parameters; raises for what CloudFormation refuses before it begins."""
        template = templates.parse(body)
        templates.check_capabilities(template, self._get_param("Capabilities", []))
        previous = stack.parameters if stack else {}
        return templates.parameters(self._get_param("Parameters", []), template, previous)

    def _new_stack(self) -> Stack:
        """A stack without resources, not registered yet."""
        tags = {item["Key"]: item["Value"] for item in self._get_param("Tags", [])}
        name = self._get_param("StackName")
        identity = generate_stack_id(name, self.region, self.current_account)
        stack = Stack(
            identity, name, {}, {}, self.current_account, self.region, self._get_param("NotificationARNs", []), tags
        )
        stack.made = {}
        return stack

    def _busy(self, stack: Stack) -> None:
        """Raises if the stack cannot be updated now."""
        if stack.status.endswith(BUSY) or stack.status == "ROLLBACK_COMPLETE":
            text = f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
            raise ValidationError(message=text)

    def _named(self) -> Stack | None:
        """The stack that the request names, if it exists."""
        name = self._get_param("StackName")
        stacks_ = list(self.cloudformation_backend.stacks.values())
        return next((stack for stack in stacks_ if name in (stack.name, stack.stack_id)), None)

    def create_stack(self) -> ActionResult:
        """CREATE_IN_PROGRESS, then CREATE_COMPLETE or ROLLBACK_COMPLETE."""
        if self._named():
            raise AlreadyExistsException(f"Stack [{self._get_param('StackName')}] already exists")
        body, stack = self._body(), self._new_stack()
        parameters = self._checked(body, None)
        stacks.plan(stack, templates.parse(body), names_of(stack, templates.parse(body), parameters, {}))
        self.cloudformation_backend.stacks[stack.stack_id] = stack
        stack.template = body
        self._begin(stack, "CREATE", body, parameters)
        return ActionResult({"StackId": stack.stack_id})

    def _begin(self, stack: Stack, verb: str, body: str, parameters: dict[str, str]) -> None:
        Run(stack, self._clients()).status(f"{verb}_IN_PROGRESS", "User Initiated")
        apply(self.cloudformation_backend, stack, body, parameters, self._clients())

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

    def _changes(self, stack: Stack, body: str, parameters: dict[str, str]) -> list[stacks.Change] | None:
        """What would change; None for nothing (outputs included)."""
        template = templates.parse(body)
        exports = self.cloudformation_backend.exports
        changes = stacks.plan(stack, template, names_of(stack, template, parameters, exports))
        same = template.get("Outputs") == (stack.template_dict or {}).get("Outputs")
        return None if not changes and same else changes

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
        if any(c.change_set_name == name and c.stack_id == stack.stack_id for c in backend.change_sets.values()):
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

    def execute_change_set(self) -> ActionResult:
        """As CreateStack or UpdateStack."""
        found = self._change_set()
        if found.execution_status != "AVAILABLE":
            text = f"ChangeSet [{found.change_set_id}] cannot be executed in its current status of [{found.status}]"
            raise InvalidChangeSetStatus(text)
        stack: Stack = found.stack
        if found.change_set_type == "UPDATE":
            self._busy(stack)
        found.execution_status = "EXECUTE_COMPLETE"
        stack.template = stack.template or found.template
        self._begin(stack, found.change_set_type, found.template, found.parameters)
        self.cloudformation_backend.change_sets = {
            key: kept
            for key, kept in self.cloudformation_backend.change_sets.items()
            if kept.stack_id != stack.stack_id or kept is found
        }
        return EmptyResult()

    def _resources(self) -> tuple[Stack, list[Resource]]:
        stack = self._named()
        if stack is None:
            stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
        return stack, list(stack.made.values())

    def _detail(self, stack: Stack, resource: Resource) -> Json:
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


class InvalidChangeSetStatus(CloudFormationError):
    """The change set is not one to be executed."""

    code = "InvalidChangeSetStatus"


NAMES = [name for name in Operations.__dict__ if not name.startswith("__")]


def install(url: str) -> None:
    """Put the operations in the place of moto's; resources are made through the server at `url`."""
    _url.append(url)
    assert platform_types  # importing it registers its types
    for name in NAMES:
        MOTO[name] = getattr(CloudFormationResponse, name, None)
        setattr(CloudFormationResponse, name, Operations.__dict__[name])
    MOTO["parameter_list"] = Stack.__dict__["parameter_list"]
    Stack.parameter_list = property(parameter_list)  # type: ignore[assignment, method-assign]


def close() -> None:
    """Wait for what runs; moto's operations are back."""
    for thread in list(_threads):
        thread.join()
    _threads.clear()
    Stack.parameter_list = MOTO.pop("parameter_list")  # type: ignore[method-assign]
    for name in NAMES:
        operation = MOTO.pop(name)
        if operation is None:
            delattr(CloudFormationResponse, name)
        else:
            setattr(CloudFormationResponse, name, operation)
    _url.pop()
