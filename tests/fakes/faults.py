"""Failures that a test asks for: which step, when, and what SageMaker would say."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from sagegate.files import Json

MOMENTS = ("create", "before", "after")


@dataclass(frozen=True)
class Fault:
    """A rule: the next `times` attempts of `step` fail with `reason`.

    `when`: `create` - the job is refused, so there is none; `before` - it exists and fails without running; `after` -
    it runs, then fails. `log` are lines that the job writes before it fails. `kind` is the exception type that a retry
    policy may name, such as `SageMaker.RESOURCE_LIMIT`. `execution` limits the rule to one execution's ARN.
    """

    step: str
    reason: str
    when: str = "before"
    log: tuple[str, ...] = ()
    kind: str = "AlgorithmError"
    times: int = 1
    execution: str | None = None

    @classmethod
    def of(cls, asked: Json) -> Fault:
        """A rule from JSON; raises ValueError if it is none."""
        unknown = asked.keys() - cls.__dataclass_fields__.keys()
        if unknown or "step" not in asked or "reason" not in asked:
            raise ValueError(f"a fault has {', '.join(cls.__dataclass_fields__)}: {asked}")
        fault = cls(**{**asked, "log": tuple(asked.get("log", ()))})
        if fault.when not in MOMENTS or fault.times < 1:
            raise ValueError(f"`when` is one of {', '.join(MOMENTS)} and `times` at least 1: {asked}")
        return fault


class Faults:
    """The rules that have not been used up."""

    def __init__(self) -> None:
        self._left: list[list[Any]] = []  # [rule, how often it still applies]
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Add a rule."""
        with self._lock:
            self._left.append([fault, fault.times])

    def take(self, step: str, execution: str) -> Fault | None:
        """The first rule for an attempt of a step, which uses it once."""
        with self._lock:
            for entry in self._left:
                rule: Fault = entry[0]
                if entry[1] and rule.step == step and rule.execution in (None, execution):
                    entry[1] -= 1
                    return rule
        return None

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._left.clear()
