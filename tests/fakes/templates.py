"""What CloudFormation checks before it does anything: parameters and capabilities."""

from __future__ import annotations

import re
from typing import Any

from moto.cloudformation.exceptions import CloudFormationError, ValidationError
from moto.cloudformation.models import Stack

from sagegate.files import Json

NAMED = {"AWS::IAM::Role": "RoleName", "AWS::IAM::ManagedPolicy": "ManagedPolicyName", "AWS::IAM::User": "UserName"}
IAM = {*NAMED, "AWS::IAM::Policy", "AWS::IAM::InstanceProfile", "AWS::IAM::Group", "AWS::IAM::AccessKey"}


class InsufficientCapabilities(CloudFormationError):
    """The template makes IAM resources and the request does not say that it may."""

    code = "InsufficientCapabilitiesException"


def parse(body: str) -> Json:
    """A template's text, JSON or YAML; raises ValidationError for one without resources."""
    template = _conditions(Stack.parse_template(body))
    if not isinstance(template, dict) or not template.get("Resources"):
        raise ValidationError(message="Template format error: At least one Resources member must be defined.")
    return template


def _conditions(value: Any) -> Any:
    """The short form of Condition as the long one (moto calls it Fn::Condition, and finds no such function)."""
    if isinstance(value, dict):
        return {"Condition" if k == "Fn::Condition" else k: _conditions(v) for k, v in value.items()}
    return [_conditions(item) for item in value] if isinstance(value, list) else value


def check_capabilities(template: Json, given: list[str]) -> None:
    """Raises InsufficientCapabilities."""
    needed = ""
    for resource in template["Resources"].values():
        if resource["Type"] in IAM and needed != "CAPABILITY_NAMED_IAM":
            named = NAMED.get(resource["Type"], "") in resource.get("Properties", {})
            needed = "CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"
    if needed and needed not in given and "CAPABILITY_NAMED_IAM" not in given:
        raise InsufficientCapabilities(f"Requires capabilities : [{needed}]")


def parameters(given: list[Json], template: Json, previous: Json) -> dict[str, str]:
    """The request's Parameters -> name to value; raises ValidationError as CloudFormation does."""
    slots = template.get("Parameters") or {}
    values = {}
    for item in given:
        name = item["ParameterKey"]
        values[name] = previous.get(name) if item.get("UsePreviousValue") else item.get("ParameterValue")
    if unknown := [name for name in values if name not in slots]:
        raise ValidationError(message=f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    absent = [name for name, slot in slots.items() if values.get(name) is None and "Default" not in slot]
    if absent:
        raise ValidationError(message=f"Parameters: [{', '.join(absent)}] must have values")
    found = {name: str(value) for name, value in values.items() if value is not None}
    for name, value in found.items():
        _check(name, value, slots[name])
    return found


def _check(name: str, value: str, slot: Json) -> None:
    """One parameter against its constraints."""
    said = slot.get("ConstraintDescription")
    start = f"Parameter '{name}'" if not said else f"Parameter {name} failed to satisfy constraint: {said}"
    if "AllowedValues" in slot and value not in [str(allowed) for allowed in slot["AllowedValues"]]:
        raise ValidationError(message=(said and start) or f"{start} must be one of AllowedValues")
    if "AllowedPattern" in slot and not re.fullmatch(slot["AllowedPattern"], value):
        raise ValidationError(message=(said and start) or f"{start} must match pattern {slot['AllowedPattern']}")
    if slot.get("Type") == "Number":
        try:
            number = float(value)
        except ValueError:
            raise ValidationError(message=f"Parameter '{name}' must be a number.") from None
        if number < float(slot.get("MinValue", number)):
            raise ValidationError(message=f"Parameter '{name}' must be a number not less than {slot['MinValue']}")
        if number > float(slot.get("MaxValue", number)):
            raise ValidationError(message=f"Parameter '{name}' must be a number not greater than {slot['MaxValue']}")
    elif not int(slot.get("MinLength", 0)) <= len(value) <= int(slot.get("MaxLength", len(value))):
        raise ValidationError(message=f"Parameter '{name}' must contain a number of characters within its limits")
