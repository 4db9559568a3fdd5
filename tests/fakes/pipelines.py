"""SageMaker Pipelines of one account and region: the local engine on moto's S3, registry, roles and logs.

Methods take a request as boto3 sends it and return boto3's response. They raise ResourceNotFound, FileExistsError (a
ConflictException), or SagegateError (a ValidationException).
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from moto.sagemaker.models import FakePipeline, SageMakerModelBackend, sagemaker_backends

from fakes.endpoints import container_of
from fakes.jobs import (
    FakeStepRunner,
    Faults,
    Jobs,
    UriCache,
    failure_reason,
    publish_log,
    read_lines,
    upload_failed,
)
from fakes.registry import MotoRegistry, page
from fakes.storage import MotoStore, NoSuchBucket
from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.local.client import LocalSageMaker, ResourceNotFound
from sagegate.local.jobs import Context, JobFailed, run_transform_job
from sagegate.local.processes import Command, Launcher, Running
from sagegate.local.state import Execution, now
from sagegate.local.steps import StepRunner
from sagegate.pipeline.code import imported_libraries

STEPS_FAILED = "Step failure: One or multiple steps failed."


class JobLauncher(Launcher):
    """Starts jobs with their account's credentials in the environment."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        super().__init__(root)
        self._credentials = environment

    def start(self, command: Command) -> Running:
        """Start a command, and return at once."""
        return super().start(replace(command, environment=self._credentials | command.environment))


class Service(LocalSageMaker):
    """Pipelines, executions and transform jobs. Pipelines are moto's records, so that its tags and searches work."""

    def __init__(self, folder: Path, account_id: str, region: str, environment: dict[str, str], faults: Faults) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        store, launcher = MotoStore(folder / "objects", account_id, region), JobLauncher(folder, environment)
        super().__init__(folder, store, region, account_id, imported_libraries, launcher)
        self.registry = MotoRegistry(self.state / "registry", account_id, region)
        self.cache = UriCache(self.state / "cache", store)
        self.faults = faults
        self.jobs = Jobs()
        self._more: dict[str, Json] = {}  # by execution ARN: fields that the engine does not keep
        self._starting: FakePipeline | None = None
        self._stopping: set[str] = set()
        self._definitions: dict[str, list[tuple[str, str]]] = {}  # definition and role of each version, by pipeline
        self._tokens: dict[tuple[str, ...], str] = {}  # the ARN that an operation returned for a client token
        self._lock = threading.RLock()

    @property
    def backend(self) -> SageMakerModelBackend:
        """moto's SageMaker."""
        return sagemaker_backends[self.context.account_id][self.context.region]

    # --- pipelines -------------------------------------------------------------------------------------------------
    def pipeline(self, name: str) -> FakePipeline:
        """Return a pipeline by its name or ARN; raises ResourceNotFound."""
        name = name.rpartition("/")[2]
        if name not in self.backend.pipelines:
            raise ResourceNotFound(f"Pipeline '{self.context.arn(f'pipeline/{name}')}' does not exist.")
        return self.backend.pipelines[name]

    def create(self, request: Json) -> Json:
        """CreatePipeline; the same token returns the same pipeline."""
        name, token = request["PipelineName"], ("create", request["PipelineName"], request["ClientRequestToken"])
        with self._lock:
            if name in self.backend.pipelines and token not in self._tokens:
                text = f"account and region. Pipeline with name ({name}) already exists."
                raise SagegateError(f"Pipeline names must be unique within an AWS {text}")
            if token not in self._tokens:
                pipeline = self.backend.create_pipeline(
                    pipeline_name=name,
                    pipeline_display_name=request.get("PipelineDisplayName") or name,
                    pipeline_definition=request["PipelineDefinition"],
                    pipeline_definition_s3_location={},
                    pipeline_description=request.get("PipelineDescription"),  # type: ignore[arg-type]
                    role_arn=request["RoleArn"],
                    tags=request.get("Tags") or [],
                    parallelism_configuration=request.get("ParallelismConfiguration"),  # type: ignore[arg-type]
                )
                self._tokens[token] = pipeline.arn
                self._definitions[name] = [(request["PipelineDefinition"], request["RoleArn"])]
            return {"PipelineArn": self._tokens[token]}

    def update(self, request: Json) -> Json:
        """UpdatePipeline: change the given fields only."""
        pipeline = self.pipeline(request["PipelineName"])
        if "PipelineDefinition" in request:
            pipeline.pipeline_definition = request["PipelineDefinition"]
        pipeline.pipeline_display_name = request.get("PipelineDisplayName", pipeline.pipeline_display_name)
        pipeline.pipeline_description = request.get("PipelineDescription", pipeline.pipeline_description)
        pipeline.role_arn = request.get("RoleArn", pipeline.role_arn)
        pipeline.last_modified_time = now()
        versions = self._definitions[pipeline.pipeline_name]
        versions.append((pipeline.pipeline_definition, pipeline.role_arn))
        return {"PipelineArn": pipeline.arn, "PipelineVersionId": len(versions)}

    def list_versions(self, request: Json) -> Json:
        """ListPipelineVersions, the newest first."""
        pipeline = self.pipeline(request["PipelineName"])
        count = len(self._definitions[pipeline.pipeline_name])
        ids = [{"PipelineArn": pipeline.arn, "PipelineVersionId": number} for number in range(count, 0, -1)]
        return {"PipelineVersionSummaries": ids}

    def forget(self, name: str) -> str:
        """Stop a pipeline's executions, delete it with them, and return its ARN."""
        pipeline = self.pipeline(name)
        arns = self._executions(pipeline.arn)
        for arn in arns:
            self.engines[arn].stopping.set()
        for arn in arns:
            self.engines[arn].ended.wait()
            del self.engines[arn]
        return str(self.backend.delete_pipeline(pipeline.pipeline_name))

    def describe_pipeline(self, *, PipelineName: str, PipelineVersionId: int = 0) -> Json:
        """DescribePipeline."""
        pipeline = self.pipeline(PipelineName)
        definition, role = self._definitions[pipeline.pipeline_name][PipelineVersionId - 1]
        answer = {
            "PipelineArn": pipeline.arn,
            "PipelineName": pipeline.pipeline_name,
            "PipelineDisplayName": pipeline.pipeline_display_name,
            "PipelineDefinition": definition,
            "PipelineDescription": pipeline.pipeline_description,
            "RoleArn": role,
            "PipelineStatus": pipeline.pipeline_status,
            "CreationTime": pipeline.creation_time,
            "LastModifiedTime": pipeline.last_modified_time,
            "LastRunTime": pipeline.last_execution_time,
        }
        return {key: value for key, value in answer.items() if value is not None}

    # --- executions ------------------------------------------------------------------------------------------------
    def execution(self, arn: str) -> Execution:
        """Return an execution; raises ResourceNotFound."""
        if arn not in self.engines:
            raise ResourceNotFound(f"Pipeline execution with ARN {arn} does not exist.")
        return self.engines[arn].execution

    def role_of(self, execution: Execution) -> str:
        """Return the role of an execution's pipeline."""
        return str(self._more[execution.record["PipelineExecutionArn"]]["RoleArn"])

    def _executions(self, pipeline: str) -> list[str]:
        return [arn for arn, e in list(self.engines.items()) if e.execution.record["PipelineArn"] == pipeline]

    def start(self, request: Json) -> Json:
        """StartPipelineExecution; the same token returns the same execution."""
        with self._lock:
            pipeline = self._starting = self.pipeline(request["PipelineName"])
            token = ("start", pipeline.pipeline_name, request["ClientRequestToken"])
            if token not in self._tokens:
                given = ("PipelineParameters", "SelectiveExecutionConfig", "PipelineVersionId")
                arn = super().start_pipeline_execution(
                    PipelineName=pipeline.pipeline_name, **{key: request[key] for key in given if key in request}
                )["PipelineExecutionArn"]
                kept = ("PipelineExecutionDescription", "SelectiveExecutionConfig")
                self._more[arn] |= {key: request[key] for key in kept if key in request}
                pipeline.last_execution_time = self.execution(arn).record["CreationTime"]
                self._tokens[token] = arn
            return {"PipelineExecutionArn": self._tokens[token]}

    def step_runner(self, execution: Execution, context: Context) -> StepRunner:
        """Return the runner of an execution that starts or is retried."""
        assert self._starting
        self._more.setdefault(execution.record["PipelineExecutionArn"], {"RoleArn": self._starting.role_arn})
        return FakeStepRunner(execution, context, self)

    def retry(self, request: Json) -> Json:
        """RetryPipelineExecution; the same token does nothing."""
        arn = request["PipelineExecutionArn"]
        with self._lock:
            status, token = self.execution(arn).status, ("retry", arn, request["ClientRequestToken"])
            if token not in self._tokens:
                if status not in ("Failed", "Stopped"):
                    raise FileExistsError(f"Pipeline execution {arn} is {status}: it must be Failed or Stopped.")
                self._stopping.discard(arn)
                super().retry_pipeline_execution(PipelineExecutionArn=arn)
                self._tokens[token] = arn
        return {"PipelineExecutionArn": arn}

    def stop(self, request: Json) -> Json:
        """StopPipelineExecution."""
        arn = request["PipelineExecutionArn"]
        with self._lock:
            status = self.execution(arn).status
            if arn not in self._stopping:
                if status != "Executing":
                    raise FileExistsError(f"Pipeline execution {arn} is {status}: only a running one can be stopped.")
                self._stopping.add(arn)
                super().stop_pipeline_execution(PipelineExecutionArn=arn)
        return {"PipelineExecutionArn": arn}

    def describe_execution(self, request: Json) -> Json:
        """DescribePipelineExecution."""
        arn = request["PipelineExecutionArn"]
        record = dict(self.execution(arn).record) | self._more[arn]
        if record["PipelineExecutionStatus"] == "Executing" and arn in self._stopping:
            record["PipelineExecutionStatus"] = "Stopping"
        if "FailureReason" in record and not record["FailureReason"].startswith("the engine itself"):
            record["FailureReason"] = STEPS_FAILED
        return {key: value for key, value in record.items() if key not in ("PipelineParameters", "RoleArn")}

    def list_executions(self, request: Json) -> Json:
        """ListPipelineExecutions, newest first by default as SageMaker does."""
        names = {"CreationTime": "StartTime", "FailureReason": "PipelineExecutionFailureReason"}
        keys = ("Arn", "Status", "DisplayName", "Description")
        shown = {f"PipelineExecution{key}": f"PipelineExecution{key}" for key in keys} | names
        arns = self._executions(self.pipeline(request["PipelineName"]).arn)
        records = [self.describe_execution({"PipelineExecutionArn": arn}) for arn in arns]
        records.sort(key=lambda r: r["CreationTime"], reverse=request.get("SortOrder") != "Ascending")
        summaries = [{new: record[old] for old, new in shown.items() if old in record} for record in records]
        return page("PipelineExecutionSummaries", summaries, request)

    def list_steps(self, request: Json) -> Json:
        """ListPipelineExecutionSteps, latest first by default as SageMaker does."""
        execution = self.execution(request["PipelineExecutionArn"])
        steps = execution.steps()
        for step in steps:
            step["Metadata"] = step["Metadata"] or self.jobs.metadata(execution.id, step["StepName"])
        return page(
            "PipelineExecutionSteps", steps if request.get("SortOrder") == "Ascending" else steps[::-1], request
        )

    def list_parameters(self, request: Json) -> Json:
        """ListPipelineParametersForExecution."""
        return page(
            "PipelineParameters", self.execution(request["PipelineExecutionArn"]).record["PipelineParameters"], request
        )

    def describe_definition(self, request: Json) -> Json:
        """DescribePipelineDefinitionForExecution."""
        execution = self.execution(request["PipelineExecutionArn"])
        return {
            "PipelineDefinition": json.dumps(json.loads(execution.definition())),
            "CreationTime": execution.record["CreationTime"],
        }

    # --- jobs ------------------------------------------------------------------------------------------------------
    def job_record(self, kind: str, name: str, started: datetime) -> Json:
        """Return the fields that Describe adds to the request of a job that runs."""
        resource = {"HyperParameterTuning": "hyper-parameter-tuning"}.get(kind, kind.lower())
        names = {f"{kind}JobName": name, f"{kind}JobArn": self.context.arn(f"{resource}-job/{name}")}
        times = {"CreationTime": started, "LastModifiedTime": started, f"{kind}StartTime": started}
        secondary = {"SecondaryStatus": "Training"} if kind == "Training" else {}
        return names | times | secondary | {f"{kind}JobStatus": "InProgress"}

    def publish_log(self, kind: str, job: str, started: datetime, host: str, lines: list[str]) -> None:
        """Write a host's output to CloudWatch Logs."""
        stream = f"{job}/{host}-{int(started.timestamp())}"
        publish_log(self.context.account_id, self.context.region, f"/aws/sagemaker/{kind}Jobs", stream, lines)

    def create_transform_job(self, request: Json) -> Json:
        """CreateTransformJob outside a pipeline: InProgress, then Completed or Failed."""
        name, kind = str(request["TransformJobName"]), "Transform"
        if self.jobs.describe(kind, name):
            raise FileExistsError(f"Job name must be unique within an AWS account and region, and {name} exists.")
        model = {"PrimaryContainer": {"ModelDataUrl": container_of(self.backend, request["ModelName"]).model_data_url}}
        started, folder = now(), self.state / "transform" / name
        record = request | self.job_record(kind, name, started)
        self.jobs.begin("", name, kind, record)
        context = replace(self.context, folder=folder, log=folder / "Transform.log")

        def run() -> None:
            folder.mkdir(parents=True)
            try:
                self.jobs.complete(kind, name, run_transform_job(name, request, model, context))
            except NoSuchBucket as error:
                self.jobs.end(kind, record, "Failed", upload_failed(error))
            except JobFailed as error:
                self.jobs.end(kind, record, "Failed", failure_reason(kind, str(error), request))
            finally:
                self.publish_log(kind, name, started, "algo-1", read_lines(context.log))

        threading.Thread(target=run, name=f"transform job {name}", daemon=True).start()
        return {"TransformJobArn": record["TransformJobArn"]}
