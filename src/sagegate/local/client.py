"""boto3's SageMaker client for the local backend: the calls that `sagegate` uses, with boto3's requests and responses.

`start_pipeline_execution` returns at once; the engine runs in a thread of this process. State is in `.mlops/`, so
another process sees the same pipelines, executions and models.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sagegate.errors import SagegateError, warn
from sagegate.files import Json, write_json
from sagegate.local.cache import Cache
from sagegate.local.engine import Engine, reused_properties
from sagegate.local.jobs import Context, host_logs
from sagegate.local.processes import Launcher
from sagegate.local.references import Scope
from sagegate.local.s3_endpoint import S3Endpoint
from sagegate.local.state import Execution, Registry, locked, now, read_json, remove_orphaned_jobs, versions
from sagegate.local.steps import TYPES, StepRunner
from sagegate.local.storage import Paginator, Store
from sagegate.pipeline.definition import dependencies, parameter_values, steps_of
from sagegate.pipeline.document import check_document
from sagegate.pipeline.validate import reference_errors


class ResourceNotFound(SagegateError):
    """boto3's `client.exceptions.ResourceNotFound`."""


class LocalSageMaker:
    """The client. `modules` returns the libraries that a script imports, so that they can be imported beforehand."""

    exceptions = SimpleNamespace(ResourceNotFound=ResourceNotFound)

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
        self.s3 = S3Endpoint(store)
        self.context = Context(
            root,
            store,
            launcher or Launcher(root),
            self.state / "jobs",
            region,
            account_id,
            modules,
            s3_endpoint=self.s3.variables,
        )
        self.registry = Registry(self.state / "registry", self.context.arn("model-package"))
        self.engines: dict[str, Engine] = {}  # by execution ARN: the executions of this process
        self.threads: dict[str, threading.Thread] = {}

    def get_paginator(self, operation: str) -> Paginator:
        """Return a paginator for a call."""
        return Paginator(getattr(self, operation))

    # --- pipelines -------------------------------------------------------------------------------------------------
    def create_pipeline(self, *, PipelineName: str, PipelineDefinition: str, RoleArn: str, **_: Any) -> Json:
        """Store a version of a pipeline. Raises SagegateError, naming the step, if it cannot run locally."""
        _check_definition(PipelineDefinition)
        folder = self.state / "pipelines" / PipelineName
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "PipelineArn": self.context.arn(f"pipeline/{PipelineName}"),
            "PipelineName": PipelineName,
            "PipelineDefinition": PipelineDefinition,
            "RoleArn": RoleArn,
            "PipelineStatus": "Active",
            "CreationTime": now(),
            "LastModifiedTime": now(),
        }
        with locked(folder / "lock"):
            version = max(versions(folder), default=0) + 1
            write_json(folder / f"{version}.json", record)
        return {"PipelineArn": record["PipelineArn"], "PipelineVersionId": version}

    def update_pipeline(self, **request: Any) -> Json:
        """Add a version. Raises SagegateError as `create_pipeline` does."""
        return self.create_pipeline(**request)

    def describe_pipeline(self, *, PipelineName: str, PipelineVersionId: int = 0) -> Json:
        """Return a version of a pipeline, by default the newest, with its definition."""
        version = PipelineVersionId or self._versions(PipelineName)[-1]
        return _read(self.state / "pipelines" / PipelineName / f"{version}.json", f"pipeline {PipelineName}")

    def list_pipeline_versions(self, *, PipelineName: str) -> Json:
        """Return the versions of a pipeline."""
        return {"PipelineVersionSummaries": [{"PipelineVersionId": v} for v in self._versions(PipelineName)]}

    def add_tags(self, **_: Any) -> Json:
        """Do nothing: local pipelines have no tags."""
        return {}

    def _versions(self, name: str) -> list[int]:
        found = versions(self.state / "pipelines" / name)
        if not found:
            raise ResourceNotFound(f"pipeline {name} does not exist")
        return found

    # --- executions ------------------------------------------------------------------------------------------------
    def start_pipeline_execution(
        self,
        *,
        PipelineName: str,
        PipelineVersionId: int = 0,
        PipelineExecutionDescription: str = "",
        PipelineParameters: list[dict[str, str]] | None = None,
        SelectiveExecutionConfig: Json | None = None,
        **_: Any,
    ) -> Json:
        """Start the pipeline in a thread of this process."""
        pipeline = self.describe_pipeline(PipelineName=PipelineName, PipelineVersionId=PipelineVersionId)
        definition = json.loads(pipeline["PipelineDefinition"])
        steps = steps_of(definition)
        parameters = parameter_values(definition, {p["Name"]: p["Value"] for p in PipelineParameters or []})
        known: dict[str, Json] = {}
        selected, source = frozenset(steps), ""
        if SelectiveExecutionConfig:
            selected = frozenset(choice["StepName"] for choice in SelectiveExecutionConfig["SelectedSteps"])
            source = SelectiveExecutionConfig["SourcePipelineExecutionArn"]
            known = reused_properties(steps, selected, self._execution(source).properties(), source)
        execution = Execution.create(
            self.state / "executions", pipeline["PipelineArn"], parameters, definition, PipelineExecutionDescription
        )
        for name, properties in known.items():
            step = {"StepName": name, "StepStatus": "Succeeded", "StartTime": now(), "EndTime": now(), "Metadata": {}}
            step["SelectiveExecutionResult"] = {"SourcePipelineExecutionArn": source}
            execution.save_step(step, properties)
        self._run(execution, definition, parameters, known, selected)
        return {"PipelineExecutionArn": execution.record["PipelineExecutionArn"]}

    def retry_pipeline_execution(self, *, PipelineExecutionArn: str, **_: Any) -> Json:
        """Run the steps of an ended execution that did not succeed, with its own definition and parameters."""
        execution = self._execution(PipelineExecutionArn)
        if execution.status == "Executing":  # `reopen` would wait for its end
            raise SagegateError(f"execution {execution.id} is Executing: only a Failed or Stopped one can be retried")
        definition = json.loads(execution.definition())
        given = {p["Name"]: p["Value"] for p in execution.record["PipelineParameters"]}
        execution.reopen()
        known = execution.properties()
        selected = frozenset(steps_of(definition)) - set(known)
        self._run(execution, definition, parameter_values(definition, given), known, selected)
        return {"PipelineExecutionArn": PipelineExecutionArn}

    def _run(
        self,
        execution: Execution,
        definition: Json,
        parameters: Json,
        known: dict[str, Json],
        selected: frozenset[str],
    ) -> None:
        arn, pipeline = execution.record["PipelineExecutionArn"], execution.record["PipelineArn"]
        variables = {
            "PipelineName": pipeline.rpartition("/")[2],
            "PipelineArn": pipeline,
            "PipelineExecutionId": execution.id,
            "PipelineExecutionArn": arn,
            "StartDateTime": execution.record["CreationTime"].isoformat(),
            "CurrentDateTime": now().isoformat(),
        }
        remove_orphaned_jobs(self.context.folder, self.state / "executions")
        runner = self.step_runner(execution, replace(self.context, stopping=threading.Event()))
        scope = Scope(parameters, variables, steps_of(definition), known, self.context.store)
        engine = self.engines[arn] = Engine(execution, scope, runner, selected)
        self.threads[arn] = threading.Thread(target=engine.run, name=f"execution-{execution.id}")
        self.threads[arn].start()

    def step_runner(self, execution: Execution, context: Context) -> StepRunner:
        """Return the object that runs the steps of an execution."""
        return StepRunner(execution, context, Cache(self.state / "cache", context.store), self.registry)

    def stop_pipeline_execution(self, *, PipelineExecutionArn: str, **_: Any) -> Json:
        """Stop an execution of this or another process, with its jobs."""
        if PipelineExecutionArn in self.engines:
            self.engines[PipelineExecutionArn].stopping.set()
        else:
            self._execution(PipelineExecutionArn).request_stop()
        return {"PipelineExecutionArn": PipelineExecutionArn}

    def wait(self, arn: str, seconds: float) -> bool:
        """Wait up to `seconds` for an execution; return True if it has ended. boto3 has no such call."""
        engine = self.engines.get(arn)
        if engine is None:
            time.sleep(seconds)
            return self._execution(arn).status != "Executing"
        if engine.execution.is_stop_requested():
            engine.stopping.set()
        return engine.ended.wait(seconds)

    def close(self) -> None:
        """Stop the executions of this process and wait for their end."""
        for arn, engine in self.engines.items():
            engine.stopping.set()
            if arn in self.threads and self.threads[arn].ident:  # not if Ctrl-C came before its start
                engine.ended.wait()
        self.context.launcher.close()
        self.s3.close()

    def describe_pipeline_execution(self, *, PipelineExecutionArn: str) -> Json:
        """Return an execution's status, reason and times."""
        record = self._execution(PipelineExecutionArn).record
        return {key: value for key, value in record.items() if key != "PipelineParameters"}

    def describe_pipeline_definition_for_execution(self, *, PipelineExecutionArn: str) -> Json:
        """Return the definition that an execution runs."""
        return {"PipelineDefinition": self._execution(PipelineExecutionArn).definition()}

    def list_pipeline_parameters_for_execution(self, *, PipelineExecutionArn: str) -> Json:
        """Return the parameters that an execution runs with."""
        return {"PipelineParameters": self._execution(PipelineExecutionArn).record["PipelineParameters"]}

    def list_pipeline_executions(self, *, PipelineName: str, **_: Any) -> Json:
        """Return a pipeline's executions, newest first. Those whose record is damaged are named on standard error."""
        self._versions(PipelineName)
        arn = self.context.arn(f"pipeline/{PipelineName}")
        records = []
        for file in (self.state / "executions").glob("*/execution.json"):
            try:
                records.append(Execution.load(file.parent).record)
            except FileNotFoundError:  # it was removed just now
                pass
            except SagegateError as error:
                warn(error)
        records.sort(key=lambda record: record["CreationTime"], reverse=True)
        return {"PipelineExecutionSummaries": [_summary(record) for record in records if record["PipelineArn"] == arn]}

    def list_pipeline_execution_steps(self, *, PipelineExecutionArn: str, **_: Any) -> Json:
        """Return the steps of an execution that have started, in the order of their start."""
        return {"PipelineExecutionSteps": self._execution(PipelineExecutionArn).steps()}

    def log_lines(self, arn: str, step: str, count: int) -> list[str]:
        """Return the last lines of a step's output, of all hosts. With boto3 this is CloudWatch Logs."""
        files = host_logs(self._execution(arn).log(step))
        lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
        return lines[-count:]

    def _execution(self, arn: str) -> Execution:
        if arn in self.engines:
            return self.engines[arn].execution
        folder = self.state / "executions" / arn.rpartition("/")[2]
        if not (folder / "execution.json").is_file():
            raise ResourceNotFound(f"execution {arn} does not exist")
        return Execution.load(folder)

    # --- jobs and model packages -----------------------------------------------------------------------------------
    def describe_processing_job(self, *, ProcessingJobName: str) -> Json:
        """Return a processing job that has completed."""
        return _read(self.state / "descriptions" / f"{ProcessingJobName}.json", f"processing job {ProcessingJobName}")

    def describe_training_job(self, *, TrainingJobName: str) -> Json:
        """Return a training job that has completed."""
        return _read(self.state / "descriptions" / f"{TrainingJobName}.json", f"training job {TrainingJobName}")

    def describe_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str) -> Json:
        """Return a tuning job that has completed."""
        name = HyperParameterTuningJobName
        return _read(self.state / "descriptions" / f"{name}.json", f"tuning job {name}")

    def list_model_packages(self, *, ModelPackageGroupName: str, **_: Any) -> Json:
        """Return the versions of a group, newest first."""
        fields = (
            *("ModelPackageArn", "ModelPackageGroupName", "ModelPackageVersion", "CreationTime"),
            *("ModelPackageStatus", "ModelApprovalStatus"),
        )
        packages = self.registry.packages(ModelPackageGroupName)
        return {"ModelPackageSummaryList": [{field: package[field] for field in fields} for package in packages]}

    def describe_model_package(self, *, ModelPackageName: str) -> Json:
        """Return a version by its ARN."""
        return _read(self.registry.file(ModelPackageName), f"model package {ModelPackageName}")

    def update_model_package(self, *, ModelPackageArn: str, **changes: Any) -> Json:
        """Change a version's approval or metadata."""
        self.describe_model_package(ModelPackageName=ModelPackageArn)  # raises ResourceNotFound if there is none
        self.registry.update(ModelPackageArn, changes)
        return {"ModelPackageArn": ModelPackageArn}


def _read(file: Path, what: str) -> Json:
    try:
        return read_json(file)
    except FileNotFoundError:
        raise ResourceNotFound(f"{what} does not exist") from None


def _check_definition(text: str) -> None:
    definition = json.loads(text)
    try:
        check_document(definition)
    except ValueError as error:
        raise SagegateError(f"definition: {error}") from None
    problem = next(reference_errors(definition), None)
    if problem:
        raise SagegateError(f"definition: {problem}")
    for step in steps_of(definition).values():
        if step.type not in TYPES:
            raise SagegateError(
                f"step {step.name}: steps of type {step.type} do not run locally, only {', '.join(TYPES)} do"
            )
        for other, trigger in dependencies(step.body):
            if trigger != "Completed":
                raise SagegateError(f"step {step.name}: DependsOn: {other} {trigger}: only Completed runs locally")


def _summary(record: Json) -> Json:
    fields = ("PipelineExecutionArn", "PipelineExecutionStatus", "PipelineExecutionDisplayName")
    summary = {field: record[field] for field in fields} | {"StartTime": record["CreationTime"]}
    if "FailureReason" in record:
        summary["PipelineExecutionFailureReason"] = record["FailureReason"]
    return summary
