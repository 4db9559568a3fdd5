"""Changes of a stack: its resources in order, compared with those that exist, then changed one by one with events.

moto parses templates and resolves intrinsic functions. Sources: "Understand update behaviors of stack resources" and
"How CloudFormation works" in the CloudFormation user guide.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Event, Stack
from moto.cloudformation.parsing import ResourceMap, clean_json

from fakes.resources import TYPES, Clients, Failed
from sagegate.files import Json

REPLACING = "Requested update requires the creation of a new physical resource; hence creating one."


@dataclass
class Resource:
    """A resource of a stack. One that is only planned has placeholders as its identity and attributes.

    The names of the first three fields are moto's.
    """

    logical_resource_id: str
    cf_resource_type: str
    physical_resource_id: str
    properties: Json
    attributes: Json = field(default_factory=dict)
    status: str = "CREATE_IN_PROGRESS"
    keep: bool = False  # DeletionPolicy: Retain
    planned: bool = False

    def get_cfn_attribute(self, name: str) -> Any:
        """Return the value of GetAtt."""
        if self.planned:
            return f"{{{self.logical_resource_id}.{name}}}"
        if name not in self.attributes:
            message = f"Requested attribute {name} does not exist in schema for {self.cf_resource_type}"
            raise ValidationError(message=message)
        return self.attributes[name]


class Names(ResourceMap):
    """moto's names of a template. Looking one up does not create the resource."""

    def __getitem__(self, key: str) -> Any:
        return self._parsed_resources[key]

    def validate_outputs(self) -> None:
        """Accept all outputs."""

    def put(self, resource: Resource) -> None:
        """Let Ref and GetAtt find a resource."""
        self._parsed_resources[resource.logical_resource_id] = resource


class LiveStack(Stack):
    """moto's stack with the resources that exist, and the reason of its status."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.resources: dict[str, Resource] = {}
        self.stack_status_reason: str | None = None

    @staticmethod
    def cloudformation_name_type() -> str:
        """Return no name property; moto's class is abstract."""
        return ""

    def is_created(self) -> bool:
        """Return True; moto's class is abstract."""
        return True

    @property
    def parameter_list(self) -> list[Json]:
        """The parameters as text (moto gives lists)."""
        values = self.resource_map.resolved_parameters.items()
        texts = {k: ",".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in values}
        return [{"ParameterKey": key, "ParameterValue": value} for key, value in texts.items()]

    def names_of(self, template: Json, parameters: dict[str, str]) -> Names:
        """Return the names of a template, without resources."""
        where = (self.tags, self.region_name, self.account_id)
        names = Names(self.stack_id, self.name, parameters, *where, template, {})
        names.load()
        return names


def references(value: Any) -> set[str]:
    """Return the names that a part of a template refers to."""
    names: set[str] = set()
    if isinstance(value, dict):
        for key, inside in value.items():
            if key == "Ref" and isinstance(inside, str):
                names.add(inside)
            elif key == "Fn::GetAtt":
                names.add(inside[0] if isinstance(inside, list) else inside.partition(".")[0])
            elif key == "Fn::Sub":
                text, own = inside if isinstance(inside, list) else (inside, {})
                names |= set(re.findall(r"\$\{([A-Za-z0-9:]+)", text)) - set(own)
                names |= references(list(own.values()))
            else:
                names |= references(inside)
    elif isinstance(value, list):
        for inside in value:
            names |= references(inside)
    return names


def order(template: Json, names: Names) -> list[str]:
    """Return the resources whose condition is true, each after those it refers to."""
    resources = template["Resources"]
    graph: dict[str, set[str]] = {}
    for logical, resource in resources.items():
        needs = references(resource.get("Properties", {}))
        after = resource.get("DependsOn", [])
        graph[logical] = (needs | set([after] if isinstance(after, str) else after)) & set(resources)
    conditions = names.lazy_condition_map
    ordered = [name for name in TopologicalSorter(graph).static_order() if name in resources]
    return [n for n in ordered if "Condition" not in resources[n] or conditions[resources[n]["Condition"]]]


@dataclass(frozen=True)
class Change:
    """The change of one resource, in DescribeChangeSet's terms."""

    action: str
    logical_resource_id: str
    resource_type: str
    physical_resource_id: str | None = None
    replacement: str | None = None


def resolved(definition: Json, names: Names) -> Json:
    """Return a resource's properties with functions resolved."""
    properties: Json = without_no_value(clean_json(definition.get("Properties", {}), names))
    return properties


def without_no_value(value: Any) -> Any:
    """Return the value without AWS::NoValue in lists (moto removes it from dictionaries only)."""
    if isinstance(value, dict):
        return {key: without_no_value(inside) for key, inside in value.items()}
    return [without_no_value(item) for item in value if item is not None] if isinstance(value, list) else value


def differs(old: Resource, kind: str, properties: Json) -> tuple[set[str], bool]:
    """Return the properties that change, and True if they need a new resource."""
    keys = set(old.properties) | set(properties)
    changed = {key for key in keys if old.properties.get(key) != properties.get(key)}
    return changed, TYPES[kind].replaces(changed)


def plan(stack: LiveStack, template: Json, names: Names) -> list[Change]:
    """Return the changes of an update to the template."""
    changes, ordered = [], order(template, names)
    for logical in ordered:
        definition = template["Resources"][logical]
        kind, old = definition["Type"], stack.resources.get(logical)
        properties = resolved(definition, names)
        planned = Resource(logical, kind, f"{{{logical}}}", properties, planned=True)
        if old is None:
            changes.append(Change("Add", logical, kind))
            names.put(planned)
            continue
        changed, replaced = differs(old, kind, properties)
        if changed:
            answer = "True" if replaced else "False"
            changes.append(Change("Modify", logical, kind, old.physical_resource_id, answer))
        names.put(planned if replaced else old)
    removed = [r for logical, r in stack.resources.items() if logical not in ordered]
    changes += [Change("Remove", r.logical_resource_id, r.cf_resource_type, r.physical_resource_id) for r in removed]
    return changes


class Run:
    """One operation on a stack."""

    def __init__(self, stack: LiveStack, clients: Clients, finish: Callable[[], None] = lambda: None) -> None:
        self.stack = stack
        self.clients = clients
        self._finish = finish  # is called before the final status

    def event(self, resource: Resource, status: str, reason: str | None = None) -> None:
        """Add an event with a resource's new status."""
        resource.status = status
        self.stack.events.append(
            Event(
                self.stack.stack_id, self.stack.name, resource.logical_resource_id, resource.physical_resource_id,
                resource.cf_resource_type, status, reason, None,
            )
        )  # fmt: skip

    def status(self, status: str, reason: str | None = None) -> None:
        """Set the stack's status; add the event before, for those who wait for the status."""
        self.stack._add_stack_event(status, reason)
        self.stack.stack_status_reason = reason
        self.stack.status = status

    def deploy(self, template: Json, names: Names) -> None:
        """Create or update the stack, and roll it back if a resource fails."""
        stack, before = self.stack, dict(self.stack.resources)
        action = "UPDATE" if stack.status.startswith("UPDATE") else "CREATE"
        replaced: list[Resource] = []
        try:
            ordered = order(template, names)
            for logical in ordered:
                old = self._deploy_resource(logical, template["Resources"][logical], names)
                replaced += [old] if old else []
        except (Failed, ClientError, BotoCoreError) as error:
            self._roll_back(before, action, getattr(error, "logical", "?"))
            return
        self._finish()
        removed = [stack.resources.pop(logical) for logical in list(stack.resources) if logical not in ordered]
        if action == "UPDATE":
            self.status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        for resource in reversed([*replaced, *removed]):
            self._delete(resource)
        self.status(f"{action}_COMPLETE")

    def _deploy_resource(self, logical: str, definition: Json, names: Names) -> Resource | None:
        """Create or change one resource; return the resource that it replaced, which is deleted later."""
        stack, kind = self.stack, definition["Type"]
        old = stack.resources.get(logical)
        properties = resolved(definition, names)
        new = Resource(logical, kind, "", properties, keep=definition.get("DeletionPolicy") == "Retain")
        changed, replaced = differs(old, kind, properties) if old else (set[str](), False)
        try:
            if old and not changed:
                names.put(old)
                return None
            if old and not replaced:
                old.status = "UPDATE_IN_PROGRESS"
                self.event(old, "UPDATE_IN_PROGRESS")
                new.physical_resource_id = old.physical_resource_id
                self._update(old, new)
                self.event(new, "UPDATE_COMPLETE")
            else:
                if kind not in TYPES:
                    raise Failed(f"The fake has no resource type {kind}")
                key = TYPES[kind].name
                if old and key and old.properties.get(key) == properties.get(key):
                    text = "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                    raise Failed(text + f"Rename {properties[key]} and update the stack again.")
                word = "UPDATE" if old else "CREATE"
                self.event(new, f"{word}_IN_PROGRESS", REPLACING if old else None)
                made = TYPES[kind].create(self.clients, properties)
                new.physical_resource_id, new.attributes = made.identity, made.attributes
                self.event(new, f"{word}_COMPLETE")
        except (Failed, ClientError, BotoCoreError) as error:
            self.event(old or new, f"{'UPDATE' if old else 'CREATE'}_FAILED", reason_of(error))
            error.logical = logical  # type: ignore[union-attr]
            raise
        stack.resources[logical] = new
        names.put(new)
        return old if replaced else None

    def _roll_back(self, before: dict[str, Resource], action: str, failed: str) -> None:
        """Roll back: restore changed resources, then delete new ones."""
        stack = self.stack
        change = "create" if action == "CREATE" else "update"
        prefix = "UPDATE_ROLLBACK" if action == "UPDATE" else "ROLLBACK"
        self.status(f"{prefix}_IN_PROGRESS", f"The following resource(s) failed to {change}: [{failed}]. ")
        extra: list[Resource] = []
        try:
            for logical, now in reversed(list(stack.resources.items())):
                old = before.get(logical)
                if old is now and not (old and old.status == "UPDATE_FAILED"):
                    continue
                if old is None or old.physical_resource_id != now.physical_resource_id:
                    extra.append(now)
                else:
                    self.event(now, "UPDATE_IN_PROGRESS")
                    self._update(now, old)
                    self.event(old, "UPDATE_COMPLETE")
            stack.resources = before
            if action == "UPDATE":
                self.status("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
            for resource in extra:
                self._delete(resource)
        except (Failed, ClientError, BotoCoreError) as error:
            self.status(f"{prefix}_FAILED", reason_of(error))
            return
        self.status(f"{prefix}_COMPLETE")

    def delete(self) -> bool:
        """Delete all resources in reverse order; return False if one cannot be deleted."""
        for logical, resource in reversed(list(self.stack.resources.items())):
            if not self._delete(resource):
                reason = f"The following resource(s) failed to delete: [{logical}]. "
                self.status("DELETE_FAILED", reason)
                return False
            self.stack.resources.pop(logical)
            self.stack.resource_map._parsed_resources.pop(logical, None)
        self.status("DELETE_COMPLETE")
        return True

    def _update(self, old: Resource, new: Resource) -> None:
        kind = TYPES[new.cf_resource_type]
        made = kind.update(self.clients, old.physical_resource_id, old.properties, new.properties)
        new.physical_resource_id, new.attributes = made.identity, made.attributes

    def _delete(self, resource: Resource) -> bool:
        if resource.keep:
            self.event(resource, "DELETE_SKIPPED")
            return True
        self.event(resource, "DELETE_IN_PROGRESS")
        try:
            kind = TYPES[resource.cf_resource_type]
            kind.delete(self.clients, resource.physical_resource_id, resource.properties)
        except Exception as error:  # every failure is an event
            self.event(resource, "DELETE_FAILED", reason_of(error))
            return False
        self.event(resource, "DELETE_COMPLETE")
        return True


def reason_of(error: Exception) -> str:
    """Return the reason of an event, in CloudFormation's words."""
    text = f'Resource handler returned message: "{error}" (RequestToken: {uuid.uuid4()}, '
    return text + "HandlerErrorCode: GeneralServiceException)"
