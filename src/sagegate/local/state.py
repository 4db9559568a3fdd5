"""What is known of an execution, on disk and in boto3's shapes: `.mlops/executions/ID/`.

`execution.json` is the execution, `steps/NAME.json` one step each, `logs/NAME.log` their output. The process that runs
an execution holds a lock; if the lock is free while the status says Executing, that process is gone.
The Model Registry on this machine: `.mlops/registry/GROUP/VERSION.json`, in the shape of DescribeModelPackage.

A version's number is taken by creating its file, which only one process can do; the file appears whole.
Jobs that have completed, in the shapes of boto3's Describe* calls: `.mlops/descriptions/NAME.json`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagegate.files import write_json

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
                execution.finish(
                    "Failed", "the process that ran this execution ended before it: run `sagegate run` again"
                )
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


class Registry:
    """Model package groups and their versions."""

    def __init__(self, folder: Path, arn_prefix: str) -> None:
        self.folder = folder
        self.arn_prefix = arn_prefix

    def register(self, request: Json) -> Json:
        """Add a model package as the next version of its group (made if new); its description."""
        group = self.folder / request["ModelPackageGroupName"]
        group.mkdir(parents=True, exist_ok=True)
        version = max(self.versions(group.name), default=0)
        while True:
            version += 1
            package = self._described(request, group.name, version)
            handle, temporary = tempfile.mkstemp(dir=group, prefix=".")
            with os.fdopen(handle, "w") as stream:
                json.dump(package, stream, indent=1, default=lambda v: v.isoformat())
            try:
                os.link(temporary, group / f"{version}.json")
                return package
            except FileExistsError:
                continue
            finally:
                os.unlink(temporary)

    def versions(self, group: str) -> list[int]:
        """The version numbers of a group."""
        return sorted(int(f.stem) for f in (self.folder / group).glob("[0-9]*.json"))

    def read(self, arn: str) -> Json | None:
        """The package with that ARN."""
        group, _, version = arn.rpartition(":model-package/")[2].rpartition("/")
        file = self.folder / group / f"{version}.json"
        return read_json(file) if group and file.is_file() else None

    def update(self, arn: str, changes: Json) -> None:
        """Change fields of a package."""
        package = self.read(arn)
        assert package is not None
        package |= changes | {"LastModifiedTime": now()}
        file = self.folder / package["ModelPackageGroupName"] / f"{package['ModelPackageVersion']}.json"
        write_json(file, package)

    def _described(self, request: Json, group: str, version: int) -> Json:
        return request | {
            "ModelPackageName": group,
            "ModelPackageVersion": version,
            "ModelPackageArn": f"{self.arn_prefix}:model-package/{group}/{version}",
            "CreationTime": now(),
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        }


class RegistryCalls:
    """The calls of boto3's SageMaker client about model packages."""

    registry: Registry

    def list_model_packages(self, *, ModelPackageGroupName: str, **filters: Any) -> Json:
        """The versions of a group, the newest first."""
        arns = [
            f"{self.registry.arn_prefix}:model-package/{ModelPackageGroupName}/{version}"
            for version in reversed(self.registry.versions(ModelPackageGroupName))
        ]
        found = [self.describe_model_package(ModelPackageName=arn) for arn in arns]
        wanted = filters.get("ModelApprovalStatus")
        summaries = [_package_summary(p) for p in found if wanted in (None, p["ModelApprovalStatus"])]
        return {"ModelPackageSummaryList": summaries}

    def describe_model_package(self, *, ModelPackageName: str) -> Json:
        """A version of a model."""
        package = self.registry.read(ModelPackageName)
        if package is None:
            raise ResourceNotFound(f"model package {ModelPackageName} does not exist")
        return package

    def update_model_package(self, *, ModelPackageArn: str, **changes: Any) -> Json:
        """Change a version's approval or metadata."""
        self.describe_model_package(ModelPackageName=ModelPackageArn)
        self.registry.update(ModelPackageArn, changes)
        return {"ModelPackageArn": ModelPackageArn}


def _package_summary(package: Json) -> Json:
    fields = ("ModelPackageArn", "ModelPackageGroupName", "ModelPackageVersion", "CreationTime")
    more = ("ModelPackageStatus", "ModelApprovalStatus")
    return {field: package[field] for field in (*fields, *more)}


class JobCalls:
    """The calls of boto3's SageMaker client about jobs."""

    state: Path

    def describe_processing_job(self, *, ProcessingJobName: str) -> Json:
        """A processing job that has completed."""
        return self._job("processing-job", ProcessingJobName)

    def describe_training_job(self, *, TrainingJobName: str) -> Json:
        """A training job that has completed."""
        return self._job("training-job", TrainingJobName)

    def describe_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str) -> Json:
        """A tuning job that has completed."""
        found = self._job("hyper-parameter-tuning-job", HyperParameterTuningJobName)
        return {key: value for key, value in found.items() if key != "TrainingJobSummaries"}

    def list_training_jobs_for_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str, **_: Any) -> Json:
        """The training jobs of a tuning job that succeeded, the best first."""
        found = self._job("hyper-parameter-tuning-job", HyperParameterTuningJobName)
        return {"TrainingJobSummaries": found["TrainingJobSummaries"]}

    def _job(self, resource: str, name: str) -> Json:
        file = self.state / "descriptions" / f"{name}.json"
        if not file.is_file():
            raise ResourceNotFound(f"{resource} {name} does not exist")
        return read_json(file)
