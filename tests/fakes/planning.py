"""What a template would change in a stack: its resources in order, resolved, compared with those that exist.

moto parses templates and resolves intrinsic functions; the order and the comparison are here. Source: "Understand
update behaviors of stack resources" in the CloudFormation user guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Stack
from moto.cloudformation.parsing import (
    ResourceMap,
    clean_json,
    generate_resource_name,
    resource_name_property_from_type,
)

from sagegate.files import Json

from .resource_types import TYPES


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


class LiveStack(Stack):
    """moto's stack, with the resources that exist and why its status is what it is."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.made: dict[str, Resource] = {}
        self.stack_status_reason: str | None = None

    @staticmethod
    def cloudformation_name_type() -> str:
        """Stacks within stacks have no name of their own."""
        return ""

    def is_created(self) -> bool:
        """moto asks."""
        return True

    @property
    def parameter_list(self) -> list[Json]:
        """Name and value of each parameter; NoEcho ones hidden (moto shows them)."""
        slots = self.resource_map._template.get("Parameters") or {}
        hidden = [name for name, slot in slots.items() if str(slot.get("NoEcho", "")).lower() == "true"]
        values = self.resource_map.resolved_parameters.items()
        texts = {k: ",".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in values}
        return [{"ParameterKey": k, "ParameterValue": "****" if k in hidden else v} for k, v in texts.items()]


@dataclass(frozen=True)
class Change:
    """One resource's change, with the field names of DescribeChangeSet."""

    action: str
    logical_resource_id: str
    resource_type: str
    physical_resource_id: str | None = None
    replacement: str | None = None


def resolved(stack: LiveStack, logical: str, definition: Json, names: Map) -> Json:
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


def plan(stack: LiveStack, template: Json, names: Map) -> list[Change]:
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
