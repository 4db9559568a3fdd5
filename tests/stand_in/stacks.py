"""A stack's life: what a template would change, and the thread that does it, event by event, and rolls back.

moto parses templates and resolves intrinsic functions; the order, the diff, the statuses, the clean-up after the
update and the roll-back are here. Source: "How CloudFormation works" and "Understand update behaviors of stack
resources" in the CloudFormation user guide.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Event, Stack
from moto.cloudformation.parsing import (
    OutputMap,
    ResourceMap,
    clean_json,
    generate_resource_name,
    resource_class_from_type,
    resource_name_property_from_type,
)

from .resource_types import TYPES, Clients, Failed, Json

REPLACING = "Requested update requires the creation of a new physical resource; hence creating one."


@dataclass
class Resource:
    """A resource that exists (or, for a plan, will: then its identity is a placeholder)."""

    logical_resource_id: str
    cf_resource_type: str
    physical_resource_id: str
    properties: Json
    attributes: Json = field(default_factory=dict)
    status: str = "CREATE_IN_PROGRESS"
    native: Any = None  # moto's object, where moto's own model made it
    keep: bool = False  # DeletionPolicy: Retain
    planned: bool = False

    def get_cfn_attribute(self, name: str) -> Any:
        """GetAtt's value."""
        if self.planned:
            return f"{{{self.logical_resource_id}.{name}}}"
        if self.native is not None:
            return self.native.get_cfn_attribute(name)
        if name not in self.attributes:
            raise ValidationError(
                message=f"Requested attribute {name} does not exist in schema for {self.cf_resource_type}"
            )
        return self.attributes[name]

    def is_created(self) -> bool:
        """moto asks."""
        return True


class Map(ResourceMap):
    """moto's names of a template, without its habit of creating what is looked up."""

    def __getitem__(self, key: str) -> Any:
        return self._parsed_resources[key]

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, value in self._parsed_resources.items() if isinstance(value, Resource)])

    def validate_outputs(self) -> None:
        """Outputs may name any resource."""

    def put(self, resource: Resource) -> None:
        """Let Ref and GetAtt find it."""
        self._parsed_resources[resource.logical_resource_id] = resource

    def drop(self, logical: str) -> None:
        """It is gone."""
        self._parsed_resources.pop(logical, None)


def references(value: Any) -> set[str]:
    """The names that a piece of a template refers to."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, inside in value.items():
            if key == "Ref" and isinstance(inside, str):
                found.add(inside)
            elif key == "Fn::GetAtt":
                found.add(inside[0] if isinstance(inside, list) else inside.partition(".")[0])
            elif key == "Fn::Sub":
                text, own = inside if isinstance(inside, list) else (inside, {})
                found |= set(re.findall(r"\$\{([A-Za-z0-9:]+)", text)) - set(own)
                found |= references(list(own.values()))
            else:
                found |= references(inside)
    elif isinstance(value, list):
        for inside in value:
            found |= references(inside)
    return found


def order(template: Json, names: Map) -> list[str]:
    """The template's resources whose condition holds, each after those it refers to."""
    resources = template["Resources"]
    known = set(resources) | set(names._parsed_resources)
    graph: dict[str, set[str]] = {}
    for logical, resource in resources.items():
        needs = references(resource.get("Properties", {}))
        if unknown := sorted(name for name in needs - known if not name.startswith("AWS::")):
            text = f"Template format error: Unresolved resource dependencies [{', '.join(unknown)}] "
            raise ValidationError(message=text + "in the Resources block of the template")
        after = resource.get("DependsOn", [])
        graph[logical] = (needs | set([after] if isinstance(after, str) else after)) & set(resources)
    conditions = names.lazy_condition_map
    wanted = [name for name in TopologicalSorter(graph).static_order() if name in resources]
    return [n for n in wanted if "Condition" not in resources[n] or conditions[resources[n]["Condition"]]]


@dataclass(frozen=True)
class Change:
    """One resource's change, with the field names of DescribeChangeSet."""

    action: str
    logical_resource_id: str
    resource_type: str
    physical_resource_id: str | None = None
    replacement: str | None = None


def resolved(stack: Stack, logical: str, definition: Json, names: Map) -> Json:
    """A resource's properties, intrinsic functions resolved, named if the template does not name it."""
    properties: Json = without_nothing(clean_json(definition.get("Properties", {}), names))
    kind = definition["Type"]
    key = TYPES[kind].name if kind in TYPES else resource_name_property_from_type(kind)
    old = stack.made.get(logical)
    if key and key not in properties:
        named = old.properties.get(key) if old else None
        properties[key] = named or generate_resource_name(kind, stack.name, logical)[:63]
    return properties


def without_nothing(value: Any) -> Any:
    """Lists without AWS::NoValue (moto leaves it out of dictionaries only)."""
    if isinstance(value, dict):
        return {key: without_nothing(inside) for key, inside in value.items()}
    return [without_nothing(item) for item in value if item is not None] if isinstance(value, list) else value


def differs(old: Resource, kind: str, properties: Json) -> tuple[set[str], bool]:
    """The properties that change, and whether a new resource is needed."""
    keys = set(old.properties) | set(properties)
    changed = {key for key in keys if old.properties.get(key) != properties.get(key)}
    return changed, kind in TYPES and TYPES[kind].replaces(changed)


def plan(stack: Stack, template: Json, names: Map) -> list[Change]:
    """What an update to the template would change."""
    changes, wanted = [], order(template, names)
    for logical in wanted:
        definition = template["Resources"][logical]
        kind, old = definition["Type"], stack.made.get(logical)
        properties = resolved(stack, logical, definition, names)
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
    gone = [r for logical, r in stack.made.items() if logical not in wanted]
    changes += [Change("Remove", r.logical_resource_id, r.cf_resource_type, r.physical_resource_id) for r in gone]
    return changes


class Run:
    """One operation on one stack."""

    def __init__(self, stack: Stack, clients: Clients, finish: Callable[[], None] = lambda: None) -> None:
        self.stack = stack
        self.clients = clients
        self.finish = finish  # called before the status says that all went well

    def event(self, resource: Resource, status: str, reason: str | None = None) -> None:
        """A resource's new status."""
        resource.status = status
        self.stack.events.append(
            Event(
                self.stack.stack_id, self.stack.name, resource.logical_resource_id, resource.physical_resource_id,
                resource.cf_resource_type, status, reason, None,
            )
        )  # fmt: skip

    def status(self, status: str, reason: str | None = None) -> None:
        """The stack's new status; its event first, so that who waits for the status finds it."""
        self.stack._add_stack_event(status, reason)
        self.stack.stack_status_reason = reason
        self.stack.status = status

    def deploy(self, template: Json, names: Map) -> bool:
        """Create or update to the template; True if it succeeded (else it is rolled back)."""
        stack, before = self.stack, dict(self.stack.made)
        verb = "UPDATE" if stack.status.startswith("UPDATE") else "CREATE"
        replaced: list[Resource] = []
        try:
            wanted = order(template, names)
            for logical in wanted:
                old = self._one(logical, template["Resources"][logical], names)
                replaced += [old] if old else []
        except (Failed, ClientError, BotoCoreError) as error:
            self._undo(before, verb, getattr(error, "logical", "?"))
            return False
        self.finish()
        gone = [stack.made.pop(logical) for logical in list(stack.made) if logical not in wanted]
        if verb == "UPDATE":
            self.status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        for resource in reversed([*replaced, *gone]):
            self._delete(resource)
        self.status(f"{verb}_COMPLETE")
        return True

    def _one(self, logical: str, definition: Json, names: Map) -> Resource | None:
        """Bring one resource to its definition; the resource that it replaced, to be deleted later."""
        stack, kind = self.stack, definition["Type"]
        old = stack.made.get(logical)
        properties = resolved(stack, logical, definition, names)
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
                key = TYPES[kind].name if kind in TYPES else ""
                if old and key and old.properties.get(key) == properties.get(key):
                    text = "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                    raise Failed(text + f"Rename {properties[key]} and update the stack again.")
                word = "UPDATE" if old else "CREATE"
                self.event(new, f"{word}_IN_PROGRESS", REPLACING if old else None)
                self._create(new)
                self.event(new, f"{word}_COMPLETE")
        except (Failed, ClientError, BotoCoreError) as error:
            self.event(old or new, f"{'UPDATE' if old else 'CREATE'}_FAILED", told(error))
            error.logical = logical  # type: ignore[union-attr]
            raise
        stack.made[logical] = new
        names.put(new)
        return old if replaced else None

    def _undo(self, before: dict[str, Resource], verb: str, failed: str) -> None:
        """Roll back: first what was changed, then away with what is new."""
        stack = self.stack
        doing = "create" if verb == "CREATE" else "update"
        prefix = "UPDATE_ROLLBACK" if verb == "UPDATE" else "ROLLBACK"
        self.status(f"{prefix}_IN_PROGRESS", f"The following resource(s) failed to {doing}: [{failed}]. ")
        extra: list[Resource] = []
        try:
            for logical, now in reversed(list(stack.made.items())):
                old = before.get(logical)
                if old is now and not (old and old.status == "UPDATE_FAILED"):
                    continue
                if old is None or old.physical_resource_id != now.physical_resource_id:
                    extra.append(now)
                else:
                    self.event(now, "UPDATE_IN_PROGRESS")
                    self._update(now, old)
                    self.event(old, "UPDATE_COMPLETE")
            stack.made = before
            if verb == "UPDATE":
                self.status("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
            for resource in extra:
                self._delete(resource)
        except (Failed, ClientError, BotoCoreError) as error:
            self.status(f"{prefix}_FAILED", told(error))
            return
        self.status(f"{prefix}_COMPLETE")

    def delete(self) -> bool:
        """Delete all, the last made first; False if something could not be deleted."""
        for logical, resource in reversed(list(self.stack.made.items())):
            if not self._delete(resource):
                reason = f"The following resource(s) failed to delete: [{logical}]. "
                self.status("DELETE_FAILED", reason)
                return False
            self.stack.made.pop(logical)
            self.stack.resource_map.drop(logical)
        self.status("DELETE_COMPLETE")
        return True

    def _create(self, new: Resource) -> None:
        stack, kind = self.stack, new.cf_resource_type
        if kind in TYPES:
            made = TYPES[kind].create(self.clients, new.properties)
            new.physical_resource_id, new.attributes = made.identity, made.attributes
            return
        model = resource_class_from_type(kind)
        if model is None:
            raise Failed(f"The stand-in has no resource type {kind}")
        key = resource_name_property_from_type(kind)
        name = new.properties.get(key or "") or generate_resource_name(kind, stack.name, new.logical_resource_id)
        more = {"LogicalId": new.logical_resource_id, "StackId": stack.stack_id, "ResourceType": kind}
        definition = {"Type": kind, "Properties": new.properties}
        try:
            made_by_moto = model.create_from_cloudformation_json(
                name, definition, stack.account_id, stack.region_name, **more
            )
        except Exception as error:  # whatever moto's models raise is the resource's failure, as a service's refusal is
            raise Failed(f"{type(error).__name__}: {error}") from error
        new.native = made_by_moto
        new.physical_resource_id = getattr(made_by_moto, "physical_resource_id", None) or name

    def _update(self, old: Resource, new: Resource) -> None:
        kind, stack = new.cf_resource_type, self.stack
        if kind in TYPES:
            made = TYPES[kind].update(self.clients, old.physical_resource_id, old.properties, new.properties)
            new.physical_resource_id, new.attributes = made.identity, made.attributes
            return
        definition = {"Type": kind, "Properties": new.properties}
        model = resource_class_from_type(kind)
        try:
            new.native = model.update_from_cloudformation_json(
                old.native, old.physical_resource_id, definition, stack.account_id, stack.region_name
            )
        except Exception as error:  # as in _create
            raise Failed(f"{type(error).__name__}: {error}") from error
        new.physical_resource_id = getattr(new.native, "physical_resource_id", old.physical_resource_id)

    def _delete(self, resource: Resource) -> bool:
        if resource.keep:
            self.event(resource, "DELETE_SKIPPED")
            return True
        self.event(resource, "DELETE_IN_PROGRESS")
        try:
            if resource.cf_resource_type in TYPES:
                kind = TYPES[resource.cf_resource_type]
                kind.delete(self.clients, resource.physical_resource_id, resource.properties)
            else:
                definition = {"Type": resource.cf_resource_type, "Properties": resource.properties}
                self.stack.resource_map._delete_resource(resource.native, definition)
        except Exception as error:  # a resource that cannot be deleted is reported, whatever the reason
            self.event(resource, "DELETE_FAILED", told(error))
            return False
        self.event(resource, "DELETE_COMPLETE")
        return True


def told(error: Exception) -> str:
    """The reason in an event, as CloudFormation passes a resource handler's on."""
    text = f'Resource handler returned message: "{error}" (RequestToken: {uuid.uuid4()}, '
    return text + "HandlerErrorCode: GeneralServiceException)"


def outputs(stack: Stack) -> None:
    """Let DescribeStacks show the outputs of what exists now."""
    stack.output_map = OutputMap(stack.resource_map, stack.template_dict, stack.stack_id)
