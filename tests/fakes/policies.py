"""IAM's evaluation of a policy statement, in the place of moto's, which takes an unmet condition for a refusal.

Source: "Policy evaluation logic" and "Condition operators" in the IAM user guide. Requests count as made by TLS: that
the fake listens on a loopback port without it is not what a policy is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from moto.iam.access_control import IAMPolicyStatement, PermissionResult

from sagegate.files import Json

ALWAYS = {"aws:SecureTransport": "true"}


def is_action_permitted(
    self: IAMPolicyStatement,
    action: str,
    resource: str = "*",
    principal: str | None = None,
    incoming_condition_values: dict[str, str] | None = None,
) -> PermissionResult:
    """PERMITTED or DENIED if the statement is about the request, else NEUTRAL."""
    statement: Json = self._statement
    if not _concerns(statement, "Action", action, fold=True):
        return PermissionResult.NEUTRAL
    if "Resource" in statement and not _concerns(statement, "Resource", resource):
        return PermissionResult.NEUTRAL
    who = statement.get("Principal")
    if who is not None and not _is_principal(who, principal):
        return PermissionResult.NEUTRAL
    if not met(statement.get("Condition", {}), ALWAYS | (incoming_condition_values or {})):
        return PermissionResult.NEUTRAL
    return PermissionResult.PERMITTED if statement["Effect"] == "Allow" else PermissionResult.DENIED


def met(conditions: Json, values: dict[str, Any]) -> bool:
    """Whether all conditions hold for a request's context."""
    lowered = {key.lower(): value for key, value in values.items()}
    return all(
        _holds(operator, wanted, lowered.get(key.lower()))
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _holds(operator: str, wanted: Any, found: Any) -> bool:
    name, optional = operator.removesuffix("IfExists"), operator.endswith("IfExists")
    options = [str(option) for option in _listed(wanted)]
    if name == "Null":
        return (found is None) == (options[0].lower() == "true")
    if found is None:
        return optional or name.startswith(("StringNot", "ArnNot"))
    given = [str(value) for value in _listed(found)]
    if name in ("StringEquals", "StringNotEquals"):
        equal = any(value in options for value in given)
    elif name in ("StringLike", "StringNotLike", "ArnLike", "ArnNotLike", "ArnEquals", "ArnNotEquals"):
        equal = any(_like(option, value) for option in options for value in given)
    elif name == "Bool":
        equal = any(value.lower() == option.lower() for option in options for value in given)
    else:
        raise NotImplementedError(f"the fake does not know the condition operator {operator}")
    return not equal if "Not" in name else equal


def _concerns(statement: Json, element: str, value: str, fold: bool = False) -> bool:
    if f"Not{element}" in statement:
        return not any(_like(pattern, value, fold) for pattern in _listed(statement[f"Not{element}"]))
    return any(_like(pattern, value, fold) for pattern in _listed(statement[element]))


def _is_principal(who: Any, principal: str | None) -> bool:
    """Everyone, or the one who asks; without one, as for a bucket's policy, only what is said of everyone counts."""
    if who == "*" or (isinstance(who, dict) and who.get("AWS") == "*"):
        return True
    if principal is None or not isinstance(who, dict):
        return False
    account = principal.split(":")[4] if principal.startswith("arn:") else principal
    known = (principal, account, f"arn:aws:iam::{account}:root")
    return any(one in known for one in _listed(who.get("AWS", [])))


def _like(pattern: str, value: str, fold: bool = False) -> bool:
    text = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(text, value, re.DOTALL | (re.IGNORECASE if fold else 0)) is not None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def install() -> Callable[[], None]:
    """Evaluate statements so; the function that gives moto its own back."""
    own = IAMPolicyStatement.is_action_permitted
    IAMPolicyStatement.is_action_permitted = is_action_permitted  # type: ignore[method-assign]

    def uninstall() -> None:
        IAMPolicyStatement.is_action_permitted = own  # type: ignore[method-assign]

    return uninstall
