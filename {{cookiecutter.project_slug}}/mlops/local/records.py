"""What is known of an execution, on disk and in boto3's shapes: `.mlops/executions/ID/`.

`execution.json` is the execution, `steps/NAME.json` one step each, `logs/NAME.log` their output. The process that runs
an execution holds a lock; if the lock is free while the status says Executing, that process is gone.
"""

from __future__ import annotations

import json
import secrets
import shutil
import string
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.files import write_json

try:
    import fcntl
except ImportError:  # Windows has no flock: there an interrupted execution stays Executing until it is retried
    fcntl = None  # type: ignore[assignment]

Json = dict[str, Any]
FINAL = ("Succeeded", "Failed", "Stopped")


class ResourceNotFound(Exception):
    """What a call names does not exist; boto3's `client.exceptions.ResourceNotFound`."""


def now() -> datetime:
    """The time, as boto3 gives it: aware, in UTC."""
    return datetime.now(UTC)


def read_json(file: Path) -> Json:
    """A record; its times are datetimes again."""

    def times(record: Json) -> Json:
        for key, value in record.items():
            if key.endswith("Time") and isinstance(value, str):
                record[key] = datetime.fromisoformat(value)
        return record

    loaded: Json = json.loads(file.read_bytes(), object_hook=times)
    return loaded


class Execution:
    """One execution of a pipeline."""

    def __init__(self, folder: Path, record: Json) -> None:
        self.folder = folder
        self.record = record
        self._lock_stream: Any = None

    @classmethod
    def create(
        cls, parent: Path, pipeline_arn: str, parameters: dict[str, Any], definition: Json, why: str = ""
    ) -> Execution:
        """A new execution, Executing and locked by this process. Raises nothing that leaves it half made."""
        alphabet = string.ascii_lowercase + string.digits
        name = "".join(secrets.choice(alphabet) for _ in range(12))
        record: Json = {
            "PipelineArn": pipeline_arn,
            "PipelineExecutionArn": f"{pipeline_arn}/execution/{name}",
            "PipelineExecutionDisplayName": f"execution-{name}",
            "PipelineExecutionStatus": "Executing",
            "CreationTime": now(),
            "LastModifiedTime": now(),
            "PipelineParameters": [{"Name": k, "Value": str(v)} for k, v in parameters.items()],
        }
        if why:
            record["PipelineExecutionDescription"] = why
        execution = cls(parent / name, record)
        (execution.folder / "steps").mkdir(parents=True)
        (execution.folder / "properties").mkdir()
        (execution.folder / "logs").mkdir()
        execution._hold_lock()
        write_json(execution.folder / "definition.json", definition)
        execution.save()
        return execution

    @classmethod
    def load(cls, folder: Path) -> Execution:
        """The execution in `folder`; one whose process is gone is Failed from now on."""
        execution = cls(folder, read_json(folder / "execution.json"))
        if execution.status == "Executing" and execution._is_orphan():
            execution.record = read_json(folder / "execution.json")  # it may have ended between the two looks
            if execution.status == "Executing":
                execution.finish("Failed", "the process that ran this execution ended before it: run `mlops run` again")
        return execution

    @property
    def id(self) -> str:
        """The last part of its ARN."""
        return self.folder.name

    @property
    def status(self) -> str:
        """Executing, Stopping, Stopped, Failed or Succeeded."""
        return str(self.record["PipelineExecutionStatus"])

    def finish(self, status: str, reason: str | None = None) -> None:
        """Note the final status."""
        self.record |= {"PipelineExecutionStatus": status, "LastModifiedTime": now()}
        if reason:
            self.record["FailureReason"] = reason[:1300]
        self.save()
        if self._lock_stream:
            self._lock_stream.close()
            self._lock_stream = None

    def ask_to_stop(self) -> None:
        """Ask the process that runs this execution to stop it."""
        write_json(self.folder / "stop.json", {"AskedTime": now()})

    def is_asked_to_stop(self) -> bool:
        """Whether another process asked."""
        return (self.folder / "stop.json").is_file()

    def save(self) -> None:
        """Write `execution.json`."""
        write_json(self.folder / "execution.json", self.record)

    def save_step(self, step: Json) -> None:
        """Write one step's record."""
        write_json(self.folder / "steps" / f"{step['StepName']}.json", step)

    def save_properties(self, step: str, properties: Json) -> None:
        """Keep a finished step's properties, for executions that take its result."""
        write_json(self.folder / "properties" / f"{step}.json", properties)

    def properties(self) -> dict[str, Json]:
        """The properties of the steps that succeeded."""
        return {file.stem: read_json(file) for file in (self.folder / "properties").glob("[!.]*.json")}

    def reopen(self) -> None:
        """Make an ended execution Executing again, held by this process; steps that did not succeed are forgotten."""
        self._hold_lock()
        (self.folder / "stop.json").unlink(missing_ok=True)
        for step in self.steps():
            if step["StepStatus"] != "Succeeded":
                (self.folder / "steps" / f"{step['StepName']}.json").unlink()
        self.record |= {"PipelineExecutionStatus": "Executing", "LastModifiedTime": now()}
        self.record.pop("FailureReason", None)
        self.save()

    def steps(self) -> list[Json]:
        """The steps that have started, in the order they did."""
        found = [read_json(file) for file in (self.folder / "steps").glob("[!.]*.json")]
        return sorted(found, key=lambda s: (s["StartTime"], s["StepName"]))

    def log(self, step: str) -> Path:
        """Where a step's output goes."""
        return self.folder / "logs" / f"{step}.log"

    def _hold_lock(self) -> None:
        self._lock_stream = (self.folder / "lock").open("w")
        if fcntl:
            fcntl.flock(self._lock_stream, fcntl.LOCK_EX)

    def _is_orphan(self) -> bool:
        with unused(self.folder) as free:
            return free


@contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Whether no process runs the execution in `folder`, as far as that can be told; if so, none begins to inside."""
    if not fcntl or not (folder / "lock").is_file():
        yield False
        return
    with (folder / "lock").open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def remove_leftovers(jobs: Path, executions: Path) -> None:
    """Remove the folders of jobs, `pipelines-EXECUTION-...`, whose process was killed before it could."""
    for folder in jobs.glob("pipelines-*-*"):
        with unused(executions / folder.name.split("-")[1]) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)
