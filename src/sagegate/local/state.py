"""Executions and model packages on disk, in the shapes of boto3's responses.

`.mlops/executions/ID/` holds one execution: `execution.json`, `steps/NAME.json` and `logs/NAME.log`. The process that
runs an execution holds a lock on it; if the lock is free while the status is Executing, that process was killed.
`.mlops/registry/GROUP/VERSION.json` holds one model package.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import string
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from sagegate.errors import SagegateError, warn
from sagegate.files import Json, read_checked, write_json

VERSION = re.compile(r"([1-9][0-9]{0,8})\.json")


def now() -> datetime:
    """Return the current time in UTC, with its time zone, as boto3 does."""
    return datetime.now(UTC)


def read_json(file: Path) -> Json:
    """Read a record; its times become datetimes again.

    Raises SagegateError, which names the file, if it is not what sagegate wrote, and FileNotFoundError.
    """

    def parse_times(record: Json) -> Json:
        for key, value in record.items():
            if key.endswith("Time") and isinstance(value, str):
                with suppress(ValueError):  # a variable of a job may have such a name
                    record[key] = datetime.fromisoformat(value)
        return record

    return dict(json.loads(checked_text(file), object_hook=parse_times))


def checked_text(file: Path) -> bytes:
    """Return a record's JSON. Raises as `read_json` does."""
    try:
        return read_checked(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SagegateError(f"{file} is damaged ({why}): restore it from a backup, or delete it") from None


def versions(folder: Path) -> list[int]:
    """Return the numbers of the records `NUMBER.json` in a folder, in order; other files are not records."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(VERSION.fullmatch, names) if match)


class Execution:
    """One execution of a pipeline."""

    def __init__(self, folder: Path, record: Json) -> None:
        self.folder = folder
        self.record = record
        self._lock_stream: TextIO | None = None

    @classmethod
    def create(
        cls, parent: Path, pipeline_arn: str, parameters: Json, definition: Json, description: str = ""
    ) -> Execution:
        """Create an execution with status Executing, locked by this process."""
        name = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
        record: Json = {
            "PipelineArn": pipeline_arn,
            "PipelineExecutionArn": f"{pipeline_arn}/execution/{name}",
            "PipelineExecutionDisplayName": f"execution-{name}",
            "PipelineExecutionStatus": "Executing",
            "CreationTime": now(),
            "LastModifiedTime": now(),
            "PipelineParameters": [{"Name": key, "Value": str(value)} for key, value in parameters.items()],
        }
        if description:
            record["PipelineExecutionDescription"] = description
        execution = cls(parent / name, record)
        execution.folder.mkdir(parents=True)
        execution._hold_lock()
        for part in ("steps", "logs"):
            (execution.folder / part).mkdir()
        write_json(execution.folder / "definition.json", definition)
        execution._save()  # last: an execution exists once execution.json does
        return execution

    @classmethod
    def load(cls, folder: Path) -> Execution:
        """Read an execution. If its process was killed, it becomes Failed."""
        execution = cls(folder, read_json(folder / "execution.json"))
        if execution.status == "Executing":
            with lock_if_free(folder) as is_free:
                pass
            execution.record = read_json(folder / "execution.json")  # it may have ended before the lock was free
            if is_free and execution.status == "Executing":
                reason = "the process that ran this execution ended before it: run `sagegate run` again"
                execution.finish("Failed", reason)
        return execution

    @property
    def id(self) -> str:
        """The last part of the execution's ARN."""
        return self.folder.name

    @property
    def status(self) -> str:
        """Executing, Stopped, Failed or Succeeded."""
        return str(self.record["PipelineExecutionStatus"])

    def finish(self, status: str, reason: str | None = None) -> None:
        """Write the final status and release the lock.

        If it cannot be written, the next reader finds the lock free and says that the process ended.
        """
        self.record |= {"PipelineExecutionStatus": status, "LastModifiedTime": now()}
        if reason:
            self.record["FailureReason"] = reason[:1300]
        with suppress(OSError):
            self._save()
        if self._lock_stream:
            self._lock_stream.close()

    def reopen(self) -> None:
        """Make an ended execution Executing again, locked by this process; only steps that succeeded stay."""
        self._hold_lock()
        self.record = read_json(self.folder / "execution.json")  # another process may have done the same
        if self.status not in ("Failed", "Stopped"):
            raise SagegateError(f"execution {self.id} is {self.status}: only a Failed or Stopped one can be retried")
        (self.folder / "stop").unlink(missing_ok=True)
        for step in self.steps():
            if step["StepStatus"] != "Succeeded":
                (self.folder / "steps" / f"{step['StepName']}.json").unlink()
        self.record |= {"PipelineExecutionStatus": "Executing", "LastModifiedTime": now()}
        self.record.pop("FailureReason", None)
        self._save()

    def request_stop(self) -> None:
        """Ask the process that runs this execution to stop it."""
        (self.folder / "stop").touch()

    def is_stop_requested(self) -> bool:
        """Return True if a process asked to stop this execution."""
        return (self.folder / "stop").is_file()

    def save_step(self, step: Json, properties: Json | None = None) -> None:
        """Write the record of one step, with its properties if it succeeded."""
        write_json(self.folder / "steps" / f"{step['StepName']}.json", step | {"Properties": properties})

    def steps(self) -> list[Json]:
        """Return the records of the steps that have started, in the order of their start."""
        steps = [{key: saved[key] for key in saved if key != "Properties"} for saved in self._saved()]
        return sorted(steps, key=lambda step: (step["StartTime"], step["StepName"]))

    def properties(self) -> dict[str, Json]:
        """Return the properties of the steps that succeeded, by step."""
        return {saved["StepName"]: saved["Properties"] for saved in self._saved() if saved.get("Properties")}

    def _saved(self) -> Iterator[Json]:
        for file in (self.folder / "steps").glob("[!.]*.json"):
            with suppress(FileNotFoundError):  # a retry removes the records of failed steps
                yield read_json(file)

    def definition(self) -> str:
        """Return the definition that the execution runs, as JSON."""
        return checked_text(self.folder / "definition.json").decode()

    def log(self, step: str) -> Path:
        """Return the file for a step's output."""
        return self.folder / "logs" / f"{step}.log"

    def _save(self) -> None:
        write_json(self.folder / "execution.json", self.record)

    def _hold_lock(self) -> None:
        self._lock_stream = locked(self.folder / "lock")


def locked(file: Path) -> TextIO:
    """Wait for the lock on a file and return the stream that holds it; closing the stream releases it."""
    import fcntl  # not at the top: Windows has none, and commands for AWS import this module

    stream = file.open("w")
    fcntl.flock(stream, fcntl.LOCK_EX)
    return stream


@contextmanager
def lock_if_free(execution: Path) -> Iterator[bool]:
    """Lock the execution in a folder and yield True, or yield False if a process may be running it."""
    import fcntl

    if not (execution / "lock").is_file():
        yield False
        return
    with (execution / "lock").open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def remove_orphaned_jobs(jobs: Path, executions: Path) -> None:
    """Delete the folders of jobs, `pipelines-EXECUTION-...`, of killed processes."""
    for folder in jobs.glob("pipelines-*-*"):
        with lock_if_free(executions / folder.name.split("-")[1]) as is_free:
            if is_free:
                shutil.rmtree(folder, ignore_errors=True)


GROUP = re.compile("[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")  # EntityName in botocore


class Registry:
    """The Model Registry: model package groups and their versions."""

    def __init__(self, folder: Path, arn: str) -> None:
        self.folder = folder
        self.arn = arn  # the part before the group's name

    def register(self, request: Json) -> Json:
        """Store CreateModelPackage's request as the next version of its group; return the package."""
        name = request["ModelPackageGroupName"]
        if not GROUP.fullmatch(name):
            raise SagegateError(f"ModelPackageGroupName {name!r} must match {GROUP.pattern}")
        group = self.folder / name
        group.mkdir(parents=True, exist_ok=True)
        with locked(group / "lock"):  # another execution may register at the same time
            version = 1 + max(versions(group), default=0)
            package = request | {
                "ModelPackageName": group.name,
                "ModelPackageVersion": version,
                "ModelPackageArn": f"{self.arn}/{group.name}/{version}",
                "CreationTime": now(),
                "ModelPackageStatus": "Completed",
                "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            }
            write_json(group / f"{version}.json", package, sync=True)
        return package

    def packages(self, group: str) -> list[Json]:
        """Return the versions of a group, newest first. One whose record is damaged has that as its approval."""
        return [self._package(self.folder / group / f"{version}.json") for version in versions(self.folder / group)][
            ::-1
        ]

    def update(self, arn: str, changes: Json) -> None:
        """Change a version's record."""
        file = self.file(arn)
        with locked(file.parent / "lock"):
            write_json(file, read_json(file) | changes | {"LastModifiedTime": now()}, sync=True)

    def file(self, arn: str) -> Path:
        """Return the file of the version with an ARN."""
        return self.folder / f"{arn.rpartition(':model-package/')[2]}.json"

    def _package(self, file: Path) -> Json:
        try:
            return read_json(file)
        except SagegateError as error:
            warn(error)
        return {
            "ModelPackageArn": f"{self.arn}/{file.parent.name}/{file.stem}",
            "ModelPackageGroupName": file.parent.name,
            "ModelPackageVersion": int(file.stem),
            "CreationTime": datetime.fromtimestamp(file.stat().st_mtime, UTC),
            "ModelPackageStatus": "Failed",
            "ModelApprovalStatus": "Damaged",
        }
