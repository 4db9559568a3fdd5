"""A stack's life: the thread that brings it to a template, event by event, cleans up after it, or rolls back.

Source: "How CloudFormation works" and "Continue rolling back an update" in the CloudFormation user guide.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from copy import deepcopy

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudformation.models import Event
from moto.cloudformation.parsing import (
    OutputMap,
    generate_resource_name,
    resource_class_from_type,
    resource_name_property_from_type,
)

from sagegate.files import Json

from .planning import LiveStack, Map, Resource, differs, order, resolved
from .resource_types import TYPES, Clients, Failed

REPLACING = "Requested update requires the creation of a new physical resource; hence creating one."


class Run:
    """One operation on one stack."""

    def __init__(self, stack: LiveStack, clients: Clients, finish: Callable[[], None] = lambda: None) -> None:
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
            self.stack.resource_map._parsed_resources.pop(logical, None)
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
            raise Failed(f"The fake has no resource type {kind}")
        key = resource_name_property_from_type(kind)
        name = new.properties.get(key or "") or generate_resource_name(kind, stack.name, new.logical_resource_id)
        more = {"LogicalId": new.logical_resource_id, "StackId": stack.stack_id, "ResourceType": kind}
        definition = {"Type": kind, "Properties": deepcopy(new.properties)}  # moto's models change what they get
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
        definition = {"Type": kind, "Properties": deepcopy(new.properties)}  # moto's models change what they get
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


def outputs(stack: LiveStack) -> None:
    """Let DescribeStacks show the outputs of what exists now."""
    stack.output_map = OutputMap(stack.resource_map, stack.template_dict, stack.stack_id)
