"""boto3's SageMaker client for this machine: the calls that the verbs use, with boto3's request and response shapes.

`start_pipeline_execution` returns at once; the engine runs in a thread of this process. State is in `.mlops/`, so
another process sees the same pipelines, executions and models.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops import definition as definitions
from mlops.files import write_json
from mlops.local import jobs
from mlops.local.cache import Cache
from mlops.local.engine import Engine
from mlops.local.launcher import Launcher
from mlops.local.records import Execution, now, read_json
from mlops.local.registry import Registry
from mlops.local.store import Store
from mlops.local.values import Scope

Json = dict[str, Any]


class ResourceNotFound(Exception):
    """What a call names does not exist; boto3's `client.exceptions.ResourceNotFound`."""


class Exceptions:
    """What `client.exceptions` holds."""

    ResourceNotFound = ResourceNotFound


class LocalSageMaker:
    """The client. `modules` tells which libraries a script imports, so that they can be imported beforehand."""

    exceptions = Exceptions

    def __init__(
        self,
        root: Path,
        store: Store,
        region: str,
        account_id: str,
        modules: Callable[[Path], tuple[str, ...]],
        launcher: Launcher | None = None,
    ) -> None:
        self.state = root / ".mlops"
        self.store = store
        self.region = region
        self.account_id = account_id
        self.launcher = launcher or Launcher(root)
        self.modules = modules
        self.registry = Registry(self.state / "registry", self._arn())
        self._engines: dict[str, Engine] = {}

    # --- pipelines -------------------------------------------------------------------------------------------------
    def create_pipeline(self, *, PipelineName: str, PipelineDefinition: str, RoleArn: str, **more: Any) -> Json:
        """Store a pipeline."""
        arn = self._arn("pipeline", PipelineName)
        record = {
            "PipelineArn": arn,
            "PipelineName": PipelineName,
            "PipelineDisplayName": more.get("PipelineDisplayName", PipelineName),
            "PipelineDefinition": PipelineDefinition,
            "RoleArn": RoleArn,
            "PipelineStatus": "Active",
            "CreationTime": now(),
            "LastModifiedTime": now(),
        }
        write_json(self._pipeline_file(PipelineName), record)
        return {"PipelineArn": arn}

    def update_pipeline(self, *, PipelineName: str, PipelineDefinition: str, RoleArn: str, **_: Any) -> Json:
        """Replace a pipeline's definition."""
        record = self.describe_pipeline(PipelineName=PipelineName)
        record |= {"PipelineDefinition": PipelineDefinition, "RoleArn": RoleArn, "LastModifiedTime": now()}
        write_json(self._pipeline_file(PipelineName), record)
        return {"PipelineArn": record["PipelineArn"]}

    def describe_pipeline(self, *, PipelineName: str) -> Json:
        """A pipeline, its definition included."""
        file = self._pipeline_file(PipelineName)
        if not file.is_file():
            raise ResourceNotFound(f"pipeline {PipelineName} does not exist")
        return read_json(file)

    # --- executions ------------------------------------------------------------------------------------------------
    def start_pipeline_execution(
        self, *, PipelineName: str, PipelineParameters: list[dict[str, str]] | None = None, **_: Any
    ) -> Json:
        """Start the pipeline in a thread of this process; its execution's ARN."""
        pipeline = self.describe_pipeline(PipelineName=PipelineName)
        definition = json.loads(pipeline["PipelineDefinition"])
        overrides = {p["Name"]: p["Value"] for p in PipelineParameters or []}
        parameters = definitions.parameter_values(definition, overrides)
        execution = Execution.create(self.state / "executions", pipeline["PipelineArn"], parameters, definition)
        arn = execution.record["PipelineExecutionArn"]
        scope = Scope(
            parameters=parameters,
            execution={
                "PipelineName": PipelineName,
                "PipelineArn": pipeline["PipelineArn"],
                "PipelineExecutionId": execution.id,
                "PipelineExecutionArn": arn,
                "StartDateTime": execution.record["CreationTime"].isoformat(),
                "CurrentDateTime": now().isoformat(),
            },
        )
        context = jobs.Context(
            store=self.store,
            launcher=self.launcher,
            folder=self.state / "jobs",
            log=Path(),
            region=self.region,
            account_id=self.account_id,
            modules=self.modules,
            stopped=lambda: False,
        )
        engine = Engine(definition, execution, scope, context, Cache(self.state / "cache", self.store), self.registry)
        self._engines[arn] = engine
        threading.Thread(target=engine.run, name=f"execution-{execution.id}").start()
        return {"PipelineExecutionArn": arn}

    def stop_pipeline_execution(self, *, PipelineExecutionArn: str, **_: Any) -> Json:
        """Stop an execution that this process runs; its jobs are ended."""
        if PipelineExecutionArn not in self._engines:
            raise ResourceNotFound(f"{PipelineExecutionArn} is not run by this process")
        self._engines[PipelineExecutionArn].stopping.set()
        return {"PipelineExecutionArn": PipelineExecutionArn}

    def wait(self, arn: str, seconds: float) -> bool:
        """Wait for an execution of this process; whether it has ended. Not a call of boto3's."""
        return arn not in self._engines or self._engines[arn].ended.wait(seconds)

    def describe_pipeline_execution(self, *, PipelineExecutionArn: str) -> Json:
        """An execution's status, reason and times."""
        record = dict(self._execution(PipelineExecutionArn).record)
        record.pop("PipelineParameters", None)
        return record

    def list_pipeline_parameters_for_execution(self, *, PipelineExecutionArn: str, **_: Any) -> Json:
        """The parameters that an execution ran with."""
        return {"PipelineParameters": self._execution(PipelineExecutionArn).record["PipelineParameters"]}

    def list_pipeline_executions(self, *, PipelineName: str, MaxResults: int = 100, **_: Any) -> Json:
        """A pipeline's executions, the newest first."""
        arn = self.describe_pipeline(PipelineName=PipelineName)["PipelineArn"]
        folders = [f.parent for f in (self.state / "executions").glob("*/execution.json")]
        records = [Execution.load(folder).record for folder in folders]
        mine = sorted((r for r in records if r["PipelineArn"] == arn), key=lambda r: r["CreationTime"], reverse=True)
        return {"PipelineExecutionSummaries": [_summary(record) for record in mine[:MaxResults]]}

    def list_pipeline_execution_steps(
        self, *, PipelineExecutionArn: str, SortOrder: str = "Ascending", **_: Any
    ) -> Json:
        """The steps of an execution that have started."""
        steps = self._execution(PipelineExecutionArn).steps()
        return {"PipelineExecutionSteps": steps if SortOrder == "Ascending" else steps[::-1]}

    def describe_pipeline_definition_for_execution(self, *, PipelineExecutionArn: str) -> Json:
        """The definition that an execution runs."""
        execution = self._execution(PipelineExecutionArn)
        text = (execution.folder / "definition.json").read_text()
        return {"PipelineDefinition": text, "CreationTime": execution.record["CreationTime"]}

    def log_lines(self, arn: str, step: str, count: int) -> list[str]:
        """The last lines of a step's output, of all its hosts. Not a call of boto3's: there it is CloudWatch Logs."""
        folder = self._execution(arn).folder / "logs"
        files = [folder / f"{step}.log", *sorted(folder.glob(f"{step}.algo-*.log"))]
        lines = [line for file in files if file.is_file() for line in file.read_text(errors="replace").splitlines()]
        return lines[-count:]

    # --- models ----------------------------------------------------------------------------------------------------
    def list_model_packages(self, *, ModelPackageGroupName: str, **filters: Any) -> Json:
        """The versions of a group, the newest first."""
        arns = [
            self._arn("model-package", f"{ModelPackageGroupName}/{version}")
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

    # --- jobs ------------------------------------------------------------------------------------------------------
    def describe_processing_job(self, *, ProcessingJobName: str) -> Json:
        """A processing job that has completed."""
        return self._job("processing-job", ProcessingJobName)

    def describe_training_job(self, *, TrainingJobName: str) -> Json:
        """A training job that has completed."""
        return self._job("training-job", TrainingJobName)

    def close(self) -> None:
        """Stop what this process runs."""
        for engine in self._engines.values():
            engine.stopping.set()
            engine.ended.wait()
        self.launcher.close()

    def _job(self, resource: str, name: str) -> Json:
        file = self.state / "descriptions" / f"{name}.json"
        if not file.is_file():
            raise ResourceNotFound(f"{resource} {name} does not exist")
        return read_json(file)

    def _execution(self, arn: str) -> Execution:
        if arn in self._engines:
            return self._engines[arn].execution
        folder = self.state / "executions" / arn.rpartition("/")[2]
        if not (folder / "execution.json").is_file():
            raise ResourceNotFound(f"execution {arn} does not exist")
        return Execution.load(folder)

    def _pipeline_file(self, name: str) -> Path:
        return self.state / "pipelines" / f"{name}.json"

    def _arn(self, *parts: str) -> str:
        head = f"arn:aws:sagemaker:{self.region}:{self.account_id}"
        return ":".join([head, "/".join(parts)]) if parts else head


def _summary(record: Json) -> Json:
    fields = ("PipelineExecutionArn", "PipelineExecutionStatus", "PipelineExecutionDisplayName")
    summary = {field: record[field] for field in fields} | {"StartTime": record["CreationTime"]}
    if "FailureReason" in record:
        summary["PipelineExecutionFailureReason"] = record["FailureReason"]
    return summary


def _package_summary(package: Json) -> Json:
    fields = ("ModelPackageArn", "ModelPackageGroupName", "ModelPackageVersion", "CreationTime")
    more = ("ModelPackageStatus", "ModelApprovalStatus")
    return {field: package[field] for field in (*fields, *more)}
