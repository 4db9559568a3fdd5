"""Which steps of the next execution will take their result from the cache, which will run, and why. Pure.

A step's result is taken over if the arguments that count (mlops/local/cache.py names them) are those of an earlier
success that has not expired ("Caching pipeline steps" in the SageMaker developer guide). References to other steps are
compared as they are written: they mean the same while the step that they name takes its own result over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any

from mlops.definitions.definition import Step, references
from mlops.definitions.difference import changes, render
from mlops.local.cache import ATTRIBUTES, duration

Json = Any
CACHED, RUNS = "cached", "runs"
SHOWN = 3


@dataclass(frozen=True)
class Success:
    """A step's earlier success: the arguments that count, with parameters filled in; where and when."""

    arguments: Json
    execution: str
    ended: datetime


@dataclass(frozen=True)
class Forecast:
    """What will become of a step: `cached`, `runs`, or for a step in a branch when it runs."""

    step: str
    verdict: str
    why: str
    is_certain: bool = False  # a step of a type that always runs


def counting(step: Step, parameters: dict[str, Json]) -> Json:
    """The arguments of a step that decide whether its cached result fits; None for a step that is never cached."""
    if step.type not in ATTRIBUTES:
        return None
    chosen = {name: step.arguments[name] for name in ATTRIBUTES[step.type] if name in step.arguments}
    return filled(chosen, parameters)


def filled(value: Json, parameters: dict[str, Json]) -> Json:
    """`value` with its pipeline parameters' values; references to steps and executions stay as they are."""
    if isinstance(value, list):
        return [filled(item, parameters) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Get"} and str(value["Get"]).startswith("Parameters."):
        return parameters.get(str(value["Get"]).removeprefix("Parameters."), value)
    if set(value) == {"Std:Join"}:
        parts = filled(value["Std:Join"]["Values"], parameters)
        if not any(isinstance(part, dict) for part in parts):
            return str(value["Std:Join"].get("On", "")).join(map(str, parts))
    return {key: filled(item, parameters) for key, item in value.items()}


def forecast(
    steps: dict[str, Step],
    parameters: dict[str, Json],
    successes: dict[str, list[Success]],
    now: datetime,
    has_result: Callable[[Step], bool] | None = None,
) -> Iterator[Forecast]:
    """Each step's, in an order in which they can run. `successes` are each step's, the latest first; `has_result` looks
    whether the cache of this machine, which compares contents too, holds the step's result."""
    running: set[str] = set()
    order = TopologicalSorter({name: step.depends_on & steps.keys() for name, step in steps.items()}).static_order()
    for step in (steps[name] for name in order):
        verdict, why = _of_step(step, parameters, successes.get(step.name, []), now, running, has_result)
        if verdict == RUNS:
            running.add(step.name)
        if step.branch:
            condition, holds = step.branch
            verdict = f"{verdict} if {condition} {'passes' if holds else 'does not pass'}"
        yield Forecast(step.name, verdict, why, step.type not in ATTRIBUTES)


def _of_step(
    step: Step,
    parameters: dict[str, Json],
    successes: list[Success],
    now: datetime,
    running: set[str],
    has_result: Callable[[Step], bool] | None,
) -> tuple[str, str]:
    arguments = counting(step, parameters)
    if arguments is None:
        return RUNS, f"steps of type {step.type} always do"
    config = step.body.get("CacheConfig") or {}
    if not config.get("Enabled"):
        return RUNS, "its cache is off (CacheConfig in pipeline/pipeline.py)"
    if not successes:
        return RUNS, "it has not succeeded before"
    same = next((success for success in successes if success.arguments == arguments), None)
    if same is None:
        return RUNS, _differences(successes[0].arguments, arguments)
    needed = sorted({r.step for r in references(arguments) if r.step} & running)
    if needed:
        unless = " (unless the outcome is the same to the byte)" if has_result else ""
        return RUNS, f"{' and '.join(needed)} {'run' if len(needed) > 1 else 'runs'}{unless}"
    expires = config.get("ExpireAfter")
    if expires and now - same.ended > duration(expires):
        return RUNS, f"its result of {same.ended:%Y-%m-%d} is older than {expires}"
    if has_result and not has_result(step):
        return RUNS, "the contents of its inputs or the libraries here changed, or its cached result is gone"
    return CACHED, f"result of execution {same.execution}, {same.ended:%Y-%m-%d %H:%M}"


def _differences(old: Json, new: Json) -> str:
    found = list(changes(old, new))
    shown = [
        f"{c.path}: {'' if c.old is None else render(c.old, 40)} → {'' if c.new is None else render(c.new, 40)}"
        for c in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join([*shown, *more])
