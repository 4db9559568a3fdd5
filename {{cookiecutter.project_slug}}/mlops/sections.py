"""What was read from a file, held to a type: no unknown keys, no strings for numbers, no NaN; errors name the key.

By msgspec: these checks are on the way of every verb, and it starts in a quarter of pydantic's time. Its messages leave
out a mapping's key, the value and a Literal's choices, so they are completed here.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

Model = TypeVar("Model", bound="Section")

AccountId = Annotated[str, Meta(pattern=r"^[0-9]{12}\Z", examples=["123456789012"])]
Region = Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]\Z", examples=["us-east-1"])]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Version = Annotated[int, Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a file; it does not change after loading."""


def convert(model: type[Model], values: dict[str, Any], file: str) -> Model:
    """`values` as a `model`; raises ValueError with the file, the key, what is expected there and what was found."""
    for path, value in _leaves(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{file}: {'.'.join(path)}: expected a finite number, got {value}")
    try:
        return msgspec.convert(values, model)
    except msgspec.ValidationError as error:
        explained = _explained(str(error), model, values).replace("\n", "\\n")  # of a key, which may hold anything
        raise ValueError(f"{file}: {explained}") from None


def _leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, values


def _explained(said: str, model: type[Section], values: dict[str, Any]) -> str:
    """Such as ``endpoint.traffic: expected canary, linear or all-at-once, got 'slow'``."""
    what, _, place = said.partition(" - at `")
    parts = re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", place) + ([("", "...")] if place.startswith("key`") else [])
    path: list[str] = []
    for name, index in parts:
        path.append(name or (_culprit(said, model, values, path) if index == "..." else index))
    field = re.fullmatch(r"Object (missing required|contains unknown) field `(.+)`", what, re.DOTALL)
    expected = _type_at(model, path)
    if field and field[1] == "missing required":
        path, what = [*path, field[2]], "is missing"
    elif field:
        path, what = [*path, field[2]], "no such key" + _similar(field[2], expected)
    elif get_origin(expected) is Literal:
        *others, last = map(str, get_args(expected))
        what = f"expected {', '.join(others)} or {last}, got {_at(values, path)!r}"
    elif what.startswith("Expected"):
        is_key = place.startswith("key`")
        wanted = what[8:].partition(", got ")[0].replace("\\\\Z", "$")
        example = None if is_key or "matching regex" not in wanted else _example(_hint_at(model, path))
        wanted = f" text such as {example}" if example else wanted
        what = f"expected{wanted}, got {path[-1] if is_key else _at(values, path)!r}"
    return f"{'.'.join(path) or 'file'}: {what}"


def _culprit(said: str, model: type[Section], values: dict[str, Any], path: list[str]) -> str:
    """The key of the mapping at `path` that the message is about: the one that gives it alone."""
    for key in _at(values, path):
        alone = copy.deepcopy(values)
        mapping = _at(alone, path)
        for other in set(mapping) - {key}:
            del mapping[other]
        try:
            msgspec.convert(alone, model)
        except msgspec.ValidationError as error:
            if str(error) == said:
                return str(key)
    return "..."


def _at(values: Any, path: list[str]) -> Any:
    for part in path:
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _type_at(model: Any, path: list[str]) -> Any:
    """The type of the value at `path`: without what is annotated, and the None of what may be left out."""
    return _plain(_hint_at(model, path))


def _hint_at(model: Any, path: list[str]) -> Any:
    for part in path:
        model = _plain(model)
        if isinstance(model, type) and issubclass(model, Section):
            model = get_type_hints(model, include_extras=True)[part]
        else:  # a mapping's or a list's values
            model = get_args(model)[-1]
    return model


def _plain(hint: Any) -> Any:
    while get_origin(hint) in (Annotated, Union, UnionType):
        hint = get_args(hint)[0]
    return hint


def _example(hint: Any) -> str | None:
    """A right value, where the type gives one: a pattern says little to most readers."""
    while get_origin(hint) in (Union, UnionType):
        hint = get_args(hint)[0]
    found = [meta.examples[0] for meta in get_args(hint)[1:] if isinstance(meta, Meta) and meta.examples]
    return str(found[0]) if found else None


def _similar(name: str, section: type[Section]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, section.__struct_fields__, 1)
    return f": did you mean {found[0]}?" if found else f": there are {', '.join(section.__struct_fields__)}"
