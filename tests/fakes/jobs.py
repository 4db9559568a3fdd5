"""The jobs that executions ran, in the shape of their Describe* calls, and which step made which job."""

from __future__ import annotations

import threading

from sagegate.files import Json
from sagegate.local.state import now

METADATA = {"HyperParameterTuning": "TuningJob"}


class Jobs:
    """All jobs of the pipelines of an account and region."""

    def __init__(self) -> None:
        self._described: dict[tuple[str, str], Json] = {}
        self._of_step: dict[tuple[str, str], Json] = {}
        self._lock = threading.Lock()

    def begin(self, execution: str, step: str, kind: str, record: Json) -> None:
        """Note a job that starts, and the step whose it is."""
        with self._lock:
            self._described[kind, record[f"{kind}JobName"]] = record
            metadata = {METADATA.get(kind, f"{kind}Job"): {"Arn": record[f"{kind}JobArn"]}}
            self._of_step[execution, step] = metadata

    def end(self, kind: str, record: Json, status: str, reason: str = "") -> None:
        """Note how a job that did not complete ended."""
        ended = {f"{kind}JobStatus": status, f"{kind}EndTime": now(), "LastModifiedTime": now()}
        if kind == "Training":
            ended["SecondaryStatus"] = status
            ended["BillableTimeInSeconds"] = max(1, round((now() - record["CreationTime"]).total_seconds()))
        if reason:
            ended["FailureReason"] = reason[:1024]
        with self._lock:
            self._described[kind, record[f"{kind}JobName"]] = record | ended

    def complete(self, kind: str, name: str, description: Json) -> None:
        """Note the description of a job that completed."""
        more = {"TrainingTimeInSeconds": description["BillableTimeInSeconds"]} if kind == "Training" else {}
        with self._lock:
            self._described[kind, name] = description | more | {"LastModifiedTime": now()}

    def describe(self, kind: str, name: str) -> Json | None:
        """A job; None if no pipeline ran it."""
        with self._lock:
            return self._described.get((kind, name))

    def of_step(self, execution: str, step: str) -> Json:
        """A step's Metadata, as far as it has a job."""
        with self._lock:
            return self._of_step.get((execution, step), {})
