"""Which steps of an execution run and which are taken from an earlier one. Pure.

Source: "Selective execution of pipeline steps" in the SageMaker developer guide.
"""

from __future__ import annotations

from typing import Any

from mlops.definitions.definition import Step
from mlops.errors import USAGE, MlopsError

Json = dict[str, Any]


def check_names(steps: dict[str, Step], names: list[str]) -> None:
    """Raises MlopsError for a step that the pipeline does not have."""
    for name in names:
        if name not in steps:
            raise MlopsError(f"the pipeline has no step {name!r}: it has {', '.join(steps)}", USAGE)


def downstream(steps: dict[str, Step], name: str) -> frozenset[str]:
    """A step and all that depend on it, directly or not."""
    check_names(steps, [name])
    found = {name}
    while True:
        more = {other.name for other in steps.values() if other.depends_on & found} - found
        if not more:
            return frozenset(found)
        found |= more


def needed(steps: dict[str, Step], selected: frozenset[str]) -> frozenset[str]:
    """The steps that selected ones depend on, directly or not, and that are not selected."""
    found: set[str] = set()
    todo = list(selected)
    while todo:
        for other in steps[todo.pop()].depends_on - found - selected:
            found.add(other)
            todo.append(other)
    return frozenset(found)


def taken(steps: dict[str, Step], selected: frozenset[str], known: dict[str, Json], source: str) -> dict[str, Json]:
    """The properties to take from `source`, whose steps' properties are `known`.

    Raises MlopsError if a step that is needed did not succeed there.
    """
    wanted = needed(steps, selected)
    missing = [name for name in steps if name in wanted and name not in known]
    if missing:
        raise MlopsError(
            f"step {missing[0]} is needed and did not succeed in execution {source.rpartition('/')[2]}: run it as well",
            USAGE,
        )
    return {name: known[name] for name in steps if name in wanted}
