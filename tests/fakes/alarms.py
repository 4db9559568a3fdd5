"""CloudWatch that watches: an endpoint's metrics, and alarms that are evaluated.

moto keeps alarms as they were put. Here each metric alarm is evaluated every few milliseconds over sliding periods
that are scaled as all waits are (scale.py). SetAlarmState is a manual switch: what it sets stays until the state that
the data give changes. Source: "Using Amazon CloudWatch alarms" in the CloudWatch user guide.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from moto.cloudwatch.models import (
    Alarm,
    CloudWatchBackend,
    MetricAggregatedDatum,
    MetricDatum,
    MetricDatumBase,
    cloudwatch_backends,
)
from moto.core.utils import utcnow
from moto.sns.models import sns_backends

from .scale import scaled

EVERY = 0.05  # seconds between evaluations
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, limit: value >= limit,
    "GreaterThanThreshold": lambda value, limit: value > limit,
    "LessThanThreshold": lambda value, limit: value < limit,
    "LessThanOrEqualToThreshold": lambda value, limit: value <= limit,
}


def record(account: str, region: str, endpoint: str, variant: str, status: int, microseconds: float) -> None:
    """One request's metrics, as SageMaker publishes them (errors are counted as 0 or 1 for each request)."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    now = utcnow()
    values = {
        "Invocations": (1.0, "None"),
        "InvocationsPerInstance": (1.0, "None"),
        "Invocation4XXErrors": (float(400 <= status < 500), "None"),
        "Invocation5XXErrors": (float(status >= 500), "None"),
        "ModelLatency": (microseconds, "Microseconds"),
    }
    data = [MetricDatum("AWS/SageMaker", name, v, dimensions, now, unit) for name, (v, unit) in values.items()]
    # Appended, not put: moto's put_metric_data walks through everything it has, at each call.
    cloudwatch_backends[account][region].metric_data.extend(data)


def in_alarm(account: str, region: str, names: Iterable[str]) -> list[str]:
    """Those of the named alarms that are in ALARM."""
    alarms = cloudwatch_backends[account][region].alarms
    return [name for name in names if name in alarms and alarms[name].state_value == "ALARM"]


def absent(account: str, region: str, names: Iterable[str]) -> list[str]:
    """Those of the named alarms that do not exist."""
    return [name for name in names if name not in cloudwatch_backends[account][region].alarms]


def statistic(values: list[float], name: str) -> float:
    """A statistic ("Sum", "Average", "p99"...) of at least one value; percentiles are interpolated."""
    if name.startswith("p"):
        ordered = sorted(values)
        at = (len(ordered) - 1) * float(name[1:]) / 100
        low, high = ordered[math.floor(at)], ordered[math.ceil(at)]
        return low + (high - low) * (at - math.floor(at))
    simple: dict[str, Callable[[list[float]], float]] = {
        "Sum": sum,
        "Average": lambda v: sum(v) / len(v),
        "Minimum": min,
        "Maximum": max,
        "SampleCount": len,
    }
    return float(simple[name](values))


def verdict(points: list[float | None], alarm: dict[str, Any]) -> str | None:
    """One statistic per period, newest first, None where there are no data -> the state; None: stays as it is.

    `alarm` has PutMetricAlarm's keys.
    """
    missing = alarm.get("TreatMissingData") or "missing"
    breaks = COMPARISONS[alarm["ComparisonOperator"]]
    if all(point is None for point in points) and missing in ("missing", "ignore"):
        return "INSUFFICIENT_DATA" if missing == "missing" else None
    needed = alarm.get("DatapointsToAlarm") or alarm["EvaluationPeriods"]
    breaching = sum((missing == "breaching") if p is None else breaks(p, alarm["Threshold"]) for p in points)
    if missing in ("missing", "ignore"):  # missing points do not count: those that are there decide
        needed = min(needed, sum(point is not None for point in points))
    return "ALARM" if breaching >= needed else "OK"


Key = tuple[str, str, frozenset[tuple[str, str]]]  # namespace, metric, dimensions
Samples = dict[Key, list[tuple[datetime, float]]]


def key_of(item: Any, metric: str) -> Key:
    """What tells a metric from others; `item` is an alarm or a datum."""
    return item.namespace, metric, frozenset((d.name, d.value) for d in item.dimensions)


def recent(data: list[MetricDatumBase], oldest: datetime, names: set[str]) -> Samples:
    """The samples of the named metrics since `oldest`."""
    found: Samples = {}
    for datum in reversed(data):
        stamp = datum.timestamp.replace(tzinfo=None)
        if stamp < oldest - timedelta(seconds=1):
            break  # they are nearly in order of time: what is older comes no more
        if stamp < oldest or datum.name not in names:
            continue
        if isinstance(datum, MetricDatum):
            values = [float(datum.value)]
        elif isinstance(datum, MetricAggregatedDatum):
            values = [float(datum.sum) / max(int(datum.sample_count), 1)] * int(datum.sample_count)
        found.setdefault(key_of(datum, datum.name), []).extend((stamp, value) for value in values)
    return found


def points(alarm: Alarm, samples: Samples, now: datetime) -> list[float | None]:
    """The alarm's statistic for each of its periods, newest first."""
    period, periods = scaled(float(alarm.period)), int(alarm.evaluation_periods)
    slots: list[list[float]] = [[] for _ in range(periods)]
    for stamp, value in samples.get(key_of(alarm, alarm.metric_name), []):
        age = int((now - stamp).total_seconds() / period)
        if 0 <= age < periods:
            slots[age].append(value)
    name = alarm.extended_statistic or alarm.statistic
    return [statistic(values, name) if values else None for values in slots]


def evaluate_all(backend: CloudWatchBackend) -> None:
    """Evaluate the alarms of an account and region. Metric math and composite alarms are set by hand only."""
    alarms = [a for a in list(backend.alarms.values()) if a.metric_name and a.period and a.evaluation_periods]
    if not alarms:
        return
    now = utcnow().replace(tzinfo=None)
    longest = max(scaled(float(a.period)) * int(a.evaluation_periods) for a in alarms)
    names = {a.metric_name for a in alarms}
    samples = recent(backend.metric_data[:], now - timedelta(seconds=longest), names)
    for alarm in alarms:
        evaluate(alarm, backend, points(alarm, samples, now))


def evaluate(alarm: Alarm, backend: CloudWatchBackend, seen: list[float | None]) -> None:
    """Bring the alarm's state up to date with its statistics; publishes to its topics when it changes."""
    request = {
        "TreatMissingData": alarm.treat_missing_data,
        "ComparisonOperator": alarm.comparison_operator,
        "DatapointsToAlarm": alarm.datapoints_to_alarm and int(alarm.datapoints_to_alarm),
        "EvaluationPeriods": int(alarm.evaluation_periods),
        "Threshold": float(alarm.threshold),
    }
    state = verdict(seen, request)
    if state is None or state == getattr(alarm, "computed", None):
        return
    alarm.computed = state  # type: ignore[attr-defined]
    if state == alarm.state_value:
        return
    values = ", ".join(str(value) for value in seen if value is not None)
    reason = f"Threshold Crossed: {len(seen)} datapoint(s) [{values}] against the threshold ({alarm.threshold})."
    alarm.update_state(reason, "{}", state)
    actions = {"ALARM": alarm.alarm_actions, "OK": alarm.ok_actions}.get(state, alarm.insufficient_data_actions)
    for arn in actions if alarm.actions_enabled else []:
        if ":sns:" in arn:
            sns_backends[backend.account_id][backend.region_name].publish(f"{alarm.name}: {reason}", arn=arn)


class Watch:
    """Evaluates every alarm of every account, in a thread, until closed."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._put = CloudWatchBackend.put_metric_alarm
        CloudWatchBackend.put_metric_alarm = _keep_state(self._put)  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(EVERY):
            for account in list(cloudwatch_backends.values()):
                for backend in list(account.values()):
                    evaluate_all(backend)

    def close(self) -> None:
        """End the thread; moto's own put is back."""
        self._end.set()
        self._thread.join()
        CloudWatchBackend.put_metric_alarm = self._put  # type: ignore[method-assign]


def _keep_state(put: Callable[..., Alarm]) -> Callable[..., Alarm]:
    """A new alarm has INSUFFICIENT_DATA (moto: OK); one that is put again keeps its state."""

    def put_metric_alarm(self: CloudWatchBackend, **request: Any) -> Alarm:
        old = self.alarms.get(request["name"])
        alarm = put(self, **request)
        alarm.state_value = old.state_value if old else "INSUFFICIENT_DATA"
        return alarm

    return put_metric_alarm
