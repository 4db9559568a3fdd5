"""What differs between two pipeline definitions, field by field. Pure.

Elements of a list are matched by their name where they have one (InputName, ChannelName ...), so that a new input in
front of others is one addition; other lists are matched as texts are, by what stays the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from mlops.definitions.definition import Step, steps_of

Json = Any
NAMES = ("InputName", "OutputName", "ChannelName", "PropertyFileName", "StepName", "MetricName", "Name", "Key")
FUNCTIONS = ("Get", "Std:Join", "Std:JsonGet")
ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class Change:
    """One field: `path` is its place, such as `ProcessingInputs[data].S3Input.S3Uri`; `old` or `new` is None where the
    field is added or removed."""

    kind: str
    path: str
    old: Json = None
    new: Json = None


@dataclass(frozen=True)
class Difference:
    """Between an old and a new definition. `steps` holds each changed step's fields, `rest` what belongs to no step."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    steps: dict[str, list[Change]] = field(default_factory=dict)
    parameters: list[Change] = field(default_factory=list)
    rest: list[Change] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.steps, self.parameters, self.rest))


def compare(old: dict[str, Json], new: dict[str, Json]) -> Difference:
    """From one definition to the other; `Metadata` does not count, for no environment gets it."""
    before, after = steps_of(old), steps_of(new)
    both = [name for name in after if name in before]
    found = {name: list(changes(whole(before[name]), whole(after[name]))) for name in both}
    left = ("Steps", "Parameters", "Metadata")
    top_old, top_new = ({key: value for key, value in d.items() if key not in left} for d in (old, new))
    return Difference(
        added=[name for name in after if name not in before],
        removed=[name for name in before if name not in after],
        steps={name: changed for name, changed in found.items() if changed},
        parameters=list(changes(_parameters(old), _parameters(new))),
        rest=list(changes(top_old, top_new)),
    )


def whole(step: Step) -> dict[str, Json]:
    """A step without those nested in it, and with the branch that it is in."""
    body = {key: value for key, value in step.body.items() if key not in ("Name", "Arguments")}
    branch = {"Branch": f"{step.branch[0]} {'holds' if step.branch[1] else 'does not hold'}"} if step.branch else {}
    return body | branch | {"Arguments": step.arguments}


def changes(old: Json, new: Json, path: str = "") -> Iterator[Change]:
    """Every field that differs, in the order of the new value, removed ones last."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and not (_is_function(old) or _is_function(new)):
        yield from _of_dictionaries(old, new, lambda key: f"{path}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list):
        key = _name_key([*old, *new], old, new)
        if key:
            by_name = [{str(item[key]): item for item in items} for items in (old, new)]
            yield from _of_dictionaries(by_name[0], by_name[1], lambda name: f"{path}[{name}]")
        else:
            yield from _of_lists(old, new, path)
    else:
        yield Change(CHANGED, path, old, new)


def _of_dictionaries(old: dict[str, Json], new: dict[str, Json], place: Any) -> Iterator[Change]:
    for key, value in new.items():
        if key in old:
            yield from changes(old[key], value, place(key))
        else:
            yield Change(ADDED, place(key), None, value)
    for key, value in old.items():
        if key not in new:
            yield Change(REMOVED, place(key), value, None)


def _of_lists(old: list[Json], new: list[Json], path: str) -> Iterator[Change]:
    before, after = ([json.dumps(item, sort_keys=True) for item in items] for items in (old, new))
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        together = min(i2 - i1, j2 - j1)
        for offset in range(together):
            yield from changes(old[i1 + offset], new[j1 + offset], f"{path}[{j1 + offset}]")
        for index in range(j1 + together, j2):
            yield Change(ADDED, f"{path}[{index}]", None, new[index])
        for index in range(i1 + together, i2):
            yield Change(REMOVED, f"{path}[{index}]", old[index], None)


def _name_key(items: list[Json], old: list[Json], new: list[Json]) -> str | None:
    """The key by which the elements of two lists are told apart, if there is one."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for key in NAMES:
        if all(isinstance(item.get(key), str) for item in items):
            unique = all(len({item[key] for item in part}) == len(part) for part in (old, new))
            return key if unique else None
    return None


def _parameters(definition: dict[str, Json]) -> dict[str, Json]:
    """Parameters by name: the default, or all of it if the type or the allowed values count too."""
    found: dict[str, Json] = {}
    for parameter in definition.get("Parameters") or []:
        name = parameter["Name"]
        found[name] = parameter.get("DefaultValue")
        found |= {f"{name} ({key})": parameter[key] for key in ("Type", "EnumValues") if key in parameter}
    return found


def _is_function(value: dict[str, Json]) -> bool:
    return len(value) == 1 and next(iter(value)) in FUNCTIONS


def render(value: Json, width: int = 90) -> str:
    """A value for a reader: references as what they refer to, long S3 URIs by their end."""
    return _short(_text(value), width)


def _text(value: Json) -> str:
    if isinstance(value, dict) and set(value) == {"Get"}:
        return str(value["Get"])
    if isinstance(value, dict) and set(value) == {"Std:Join"}:
        body = value["Std:Join"]
        return str(body.get("On", "")).join(_text(part) for part in body["Values"])
    if isinstance(value, dict) and set(value) == {"Std:JsonGet"}:
        body = value["Std:JsonGet"]
        return f"{_text(body.get('PropertyFile', body.get('S3Uri', '')))}:{body.get('Path')}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str, width: int) -> str:
    if text.startswith("s3://") and len(text) > width:  # the end tells more than the bucket
        *parents, end = text.rstrip("/").split("/")
        while len(f"s3://…/{parents[-1]}/{end}") <= width:
            end = f"{parents.pop()}/{end}"
        return f"s3://…/{end}"
    return text if len(text) <= width else f"{text[: width - 1]}…"
