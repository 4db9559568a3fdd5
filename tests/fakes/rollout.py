"""How traffic moves from an old fleet to a new one: a deployment configuration as a list of steps.

Source: "Blue/Green Deployments" and "Rolling Deployments" in the SageMaker developer guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class BadConfig(ValueError):
    """A deployment configuration that SageMaker refuses."""


@dataclass(frozen=True)
class Step:
    """The new fleet takes `share` (0 to 1) of the requests for `wait` seconds (AWS's, not scaled)."""

    share: float
    wait: float


@dataclass(frozen=True)
class Rollout:
    """The steps, the seconds that the old fleet is kept after the last, and the alarms that undo it all."""

    steps: tuple[Step, ...]
    keep: float
    alarms: tuple[str, ...]


def plan(config: dict[str, Any] | None, instances: int) -> Rollout:
    """UpdateEndpoint's DeploymentConfig -> what happens. `instances`: of the variant. Raises BadConfig."""
    config = config or {}
    alarms = tuple(a["AlarmName"] for a in config.get("AutoRollbackConfiguration", {}).get("Alarms", []))
    if "RollingUpdatePolicy" in config:
        rolling = config["RollingUpdatePolicy"]
        size = _share(rolling["MaximumBatchSize"], instances)
        if not 0.05 <= size <= 0.5:
            raise BadConfig("MaximumBatchSize must be between 5% and 50% of the variant's total instance count.")
        return Rollout(_linear(size, rolling["WaitIntervalInSeconds"]), 0, alarms)
    policy = config.get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0})
    wait, keep = routing["WaitIntervalInSeconds"], policy.get("TerminationWaitInSeconds", 0)
    longest = policy.get("MaximumExecutionTimeoutInSeconds")
    if routing["Type"] == "CANARY":
        if "CanarySize" not in routing or (size := _share(routing["CanarySize"], instances)) > 0.5:
            raise BadConfig("CanarySize must be less than or equal to 50% of the variant's total instance count.")
        steps: tuple[Step, ...] = (Step(size, wait), Step(1.0, wait))
    elif routing["Type"] == "LINEAR":
        if "LinearStepSize" not in routing or not 0.1 <= (size := _share(routing["LinearStepSize"], instances)) <= 0.5:
            raise BadConfig("LinearStepSize must be 10-50% of the variant's total instance count.")
        steps = _linear(size, wait)
    else:
        steps = (Step(1.0, wait),)
    if longest is not None and longest <= keep + sum(step.wait for step in steps):
        raise BadConfig("MaximumExecutionTimeoutInSeconds must be larger than the total waiting time.")
    return Rollout(steps, keep, alarms)


def _share(size: dict[str, Any], instances: int) -> float:
    """A CapacitySize as a share of the fleet."""
    return float(size["Value"]) / (100 if size["Type"] == "CAPACITY_PERCENT" else max(instances, 1))


def _linear(size: float, wait: float) -> tuple[Step, ...]:
    count = max(1, -int(-1.0 // size) if size else 1)
    return tuple(Step(min(1.0, round(size * (number + 1), 6)), wait) for number in range(count))
