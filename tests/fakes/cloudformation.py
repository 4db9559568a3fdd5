"""CloudFormation's change sets and stacks, which change in the background (stacks.py).

Replaces operations of moto, which creates a stack within the request, ignores unknown types and cannot roll back.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, cast

import boto3
from botocore.config import Config
from botocore.loaders import create_loader
from moto.cloudformation.exceptions import AlreadyExistsException, CloudFormationError, ValidationError
from moto.cloudformation.models import ChangeSet, Stack
from moto.cloudformation.parsing import OutputMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.cloudformation.utils import generate_changeset_id, generate_stack_id
from moto.core.responses import ActionResult, EmptyResult

from fakes.resources import Clients
from fakes.stacks import Change, LiveStack, Run, plan
from sagegate.files import Json

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
NAME_OF = {"AWS::IAM::Role": "RoleName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName"}
LOCK = threading.Lock()
THREADS: list[threading.Thread] = []
URL: list[str] = []  # of the server that creates the resources
LOADER = create_loader()  # keeps service models: each request has a session of its own, and SageMaker's model is large


class ChangeSetNotFound(CloudFormationError):
    """The change set does not exist."""

    code = "ChangeSetNotFound"


class InvalidChangeSetStatus(CloudFormationError):
    """The change set cannot be executed."""

    code = "InvalidChangeSetStatus"


class InsufficientCapabilities(CloudFormationError):
    """The template creates IAM resources, which the request does not allow."""

    code = "InsufficientCapabilitiesException"


# --- checks of a request -----------------------------------------------------------------------------------------
def parse(body: str) -> Json:
    """Return a template; raises ValidationError if it has no resources."""
    template = json.loads(as_json(body))
    if not isinstance(template, dict) or not template.get("Resources"):
        raise ValidationError(message="Template format error: At least one Resources member must be defined.")
    return template


@cache
def as_json(body: str) -> str:
    """Return a template as JSON. Parsing YAML takes half a second, and the same one comes again and again."""

    def fix_conditions(value: Any) -> Any:
        """Rename moto's Fn::Condition, which it does not know itself."""
        if isinstance(value, dict):
            return {"Condition" if k == "Fn::Condition" else k: fix_conditions(v) for k, v in value.items()}
        return [fix_conditions(item) for item in value] if isinstance(value, list) else value

    return json.dumps(fix_conditions(Stack.parse_template(body)))


def check_capabilities(template: Json, given: list[str]) -> None:
    """Raise InsufficientCapabilities if the template needs more."""
    resources = [r for r in template["Resources"].values() if r["Type"] in NAME_OF]
    named = any(NAME_OF[r["Type"]] in r.get("Properties", {}) for r in resources)
    enough = {"CAPABILITY_NAMED_IAM"} if named else {"CAPABILITY_NAMED_IAM", "CAPABILITY_IAM"}
    if resources and not enough & set(given):
        raise InsufficientCapabilities(f"Requires capabilities : [CAPABILITY_{'NAMED_' if named else ''}IAM]")


def parameter_values(given: list[Json], template: Json) -> dict[str, str]:
    """Return a request's Parameters by name; raises ValidationError as CloudFormation does."""
    known = template.get("Parameters") or {}
    values = {item["ParameterKey"]: str(item["ParameterValue"]) for item in given}
    if unknown := [name for name in values if name not in known]:
        raise ValidationError(message=f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    if missing := [name for name, slot in known.items() if name not in values and "Default" not in slot]:
        raise ValidationError(message=f"Parameters: [{', '.join(missing)}] must have values")
    for name, value in values.items():
        slot = known[name]
        allowed = [str(item) for item in slot.get("AllowedValues", [value])]
        if value not in allowed or not re.fullmatch(slot.get("AllowedPattern", ".*"), value, re.DOTALL):
            text = slot.get("ConstraintDescription", f"{value!r} is not allowed")
            raise ValidationError(message=f"Parameter {name} failed to satisfy constraint: {text}")
    return values


# --- operations --------------------------------------------------------------------------------------------------
def run_in_thread(work: Callable[[], Any]) -> None:
    """Run a function in a thread that `wait` waits for."""
    thread = threading.Thread(target=work, name="stack", daemon=True)
    THREADS[:] = [*(t for t in THREADS if t.is_alive()), thread]
    thread.start()


def locked(operation: Callable[[Any], ActionResult]) -> Callable[[Any], ActionResult]:
    """Let an operation run alone, so that two requests cannot create one stack twice."""

    @wraps(operation)
    def alone(self: Any) -> ActionResult:
        with LOCK:
            return operation(self)

    return alone


class Operations(CloudFormationResponse):
    """Operations that replace those of moto's class."""

    def _stack(self) -> LiveStack | None:
        name, known = self._get_param("StackName"), list(self.cloudformation_backend.stacks.values())
        return next((cast(LiveStack, stack) for stack in known if name in (stack.name, stack.stack_id)), None)

    def _clients(self) -> Clients:
        """Return a function that gives clients with the caller's credentials."""
        token = self.headers.get("X-Amz-Security-Token")
        session = boto3.Session(self.get_access_key(), "secret", token, region_name=self.region)
        session._session.register_component("data_loader", LOADER)
        config, clients = Config(retries={"total_max_attempts": 1}), {}

        def client(service: str) -> Any:
            if service not in clients:
                clients[service] = session.client(service, endpoint_url=URL[-1], config=config)
            return clients[service]

        return client

    def _check_updatable(self, stack: LiveStack) -> None:
        if stack.status.endswith(("_IN_PROGRESS", "ROLLBACK_FAILED")) or stack.status == "ROLLBACK_COMPLETE":
            text = f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
            raise ValidationError(message=text)

    @locked
    def create_change_set(self) -> ActionResult:
        """CreateChangeSet: CREATE_COMPLETE, or FAILED if nothing would change."""
        backend, stack = self.cloudformation_backend, self._stack()
        kind, name = self._get_param("ChangeSetType", "UPDATE"), self._get_param("ChangeSetName")
        token = self._get_param("ClientToken")
        if kind == "CREATE" and stack and stack.status != "REVIEW_IN_PROGRESS":
            text = f"Stack [{stack.name}] already exists and cannot be created again with the changeSet [{name}]."
            raise ValidationError(message=text)
        if kind != "CREATE" and stack is None:
            raise ValidationError(self._get_param("StackName"))
        if kind != "CREATE" and stack:
            self._check_updatable(stack)
        body = self._get_param("TemplateBody")
        template = parse(body)
        check_capabilities(template, self._get_param("Capabilities", []))
        parameters = parameter_values(self._get_param("Parameters", []), template)
        if stack is None:
            tags = {item["Key"]: item["Value"] for item in self._get_param("Tags", [])}
            where = (self.current_account, self.region)
            identity = generate_stack_id(self._get_param("StackName"), self.region, self.current_account)
            stack = LiveStack(identity, self._get_param("StackName"), {}, {}, *where, [], tags)
        for known in backend.change_sets.values():
            if known.change_set_name == name and known.stack_id == stack.stack_id:
                if token and token == getattr(known, "token", None):
                    return ActionResult({"Id": known.change_set_id, "StackId": stack.stack_id})
                raise AlreadyExistsException(f"ChangeSet {name} already exists")
        changes = self._changes(stack, template, parameters)
        if stack.stack_id not in backend.stacks:
            backend.stacks[stack.stack_id] = stack
            Run(stack, self._clients()).status("REVIEW_IN_PROGRESS", "User Initiated")
        identity = generate_changeset_id(name, self.region, self.current_account)
        # moto would parse the template once more, and find out changes of its own.
        change_set = ChangeSet(kind, identity, name, stack, '{"Resources": {}}', parameters, "", tags=stack.tags)
        change_set.template, change_set.template_dict = body, template
        change_set.changes = changes or []  # type: ignore[assignment]
        change_set.status, change_set.execution_status, change_set.status_reason = "CREATE_COMPLETE", "AVAILABLE", None
        if changes is None:
            change_set.status, change_set.execution_status = "FAILED", "UNAVAILABLE"
            change_set.status_reason = NO_CHANGES
        change_set.token = token  # type: ignore[attr-defined]
        backend.change_sets[identity] = change_set
        return ActionResult({"Id": identity, "StackId": stack.stack_id})

    def _changes(self, stack: LiveStack, template: Json, parameters: dict[str, str]) -> list[Change] | None:
        """Return the changes of resources, and None if the outputs would not change either."""
        changes = plan(stack, template, stack.names_of(template, parameters))
        is_same = not changes and template.get("Outputs") == (stack.template_dict or {}).get("Outputs")
        return None if is_same else changes

    def _change_set(self) -> ChangeSet:
        name, stack = self._get_param("ChangeSetName"), self._get_param("StackName")
        for known in self.cloudformation_backend.change_sets.values():
            of_stack = stack in (None, known.stack_name, known.stack_id)
            if name == known.change_set_id or (name == known.change_set_name and of_stack):
                return known
        raise ChangeSetNotFound(f"ChangeSet [{name}] does not exist")

    def describe_change_set(self) -> ActionResult:
        """DescribeChangeSet."""
        return ActionResult(self._change_set())

    def delete_change_set(self) -> ActionResult:
        """DeleteChangeSet; a stack in REVIEW_IN_PROGRESS remains, as AWS's does."""
        self.cloudformation_backend.change_sets.pop(self._change_set().change_set_id)
        return EmptyResult()

    @locked
    def execute_change_set(self) -> ActionResult:
        """ExecuteChangeSet: CREATE_IN_PROGRESS or UPDATE_IN_PROGRESS, then complete or rolled back."""
        change_set, token = self._change_set(), self._get_param("ClientRequestToken")
        if token and token == getattr(change_set, "executed_by", None):
            return EmptyResult()  # the same request again
        if change_set.execution_status != "AVAILABLE":
            state = f"current status of [{change_set.status}]"
            raise InvalidChangeSetStatus(f"ChangeSet [{change_set.change_set_id}] cannot be executed in its {state}")
        stack, backend = cast(LiveStack, change_set.stack), self.cloudformation_backend
        kind, body, parameters = change_set.change_set_type, change_set.template, change_set.parameters
        if kind == "UPDATE":
            self._check_updatable(stack)
        change_set.execution_status = "EXECUTE_COMPLETE"
        change_set.executed_by = token  # type: ignore[attr-defined]
        backend.change_sets = {
            key: known
            for key, known in backend.change_sets.items()
            if known.stack_id != stack.stack_id or known is change_set
        }
        template = parse(body)
        names = stack.names_of(template, parameters)
        if kind == "CREATE":
            stack.template, stack.resource_map = body, names
            stack.output_map = OutputMap(names, {}, stack.stack_id)

        def finish() -> None:
            stack.template, stack.template_dict, stack.parameters = body, template, parameters
            stack.description = template.get("Description")
            stack.resource_map, stack.output_map = names, OutputMap(names, template, stack.stack_id)

        run = Run(stack, self._clients(), finish)
        run.status(f"{kind}_IN_PROGRESS", "User Initiated")
        run_in_thread(lambda: run.deploy(template, names))
        return EmptyResult()

    @locked
    def delete_stack(self) -> ActionResult:
        """DeleteStack: DELETE_IN_PROGRESS, then gone."""
        stack, backend = self._stack(), self.cloudformation_backend
        if stack is None:
            return EmptyResult()
        run = Run(stack, self._clients())
        run.status("DELETE_IN_PROGRESS", "User Initiated")

        def work() -> None:
            if run.delete():
                backend.deleted_stacks[stack.stack_id] = stack
                backend.stacks.pop(stack.stack_id, None)

        run_in_thread(work)
        return EmptyResult()

    def list_stack_resources(self) -> ActionResult:
        """ListStackResources."""
        stack = self._stack()
        if stack is None:
            raise ValidationError(self._get_param("StackName"))
        summaries = [
            {
                "LogicalResourceId": resource.logical_resource_id,
                "PhysicalResourceId": resource.physical_resource_id,
                "ResourceType": resource.cf_resource_type,
                "ResourceStatus": resource.status,
            }
            for resource in list(stack.resources.values())
        ]
        return ActionResult({"StackResourceSummaries": summaries})


def install(url: str) -> None:
    """Patch moto; the resources are created by the server at `url`."""
    URL.append(url)
    for name, function in Operations.__dict__.items():
        if not name.startswith("__"):
            setattr(CloudFormationResponse, name, function)


def wait() -> None:
    """Wait for all changes of stacks."""
    for thread in list(THREADS):
        thread.join()
