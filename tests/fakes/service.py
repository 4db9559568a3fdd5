"""SageMaker's pipelines in one account and region: the local engine on moto's S3, registry, roles and logs.

Each call takes a request as boto3 sends it and gives boto3's response. Raises ResourceNotFound, Conflict, or
SagegateError for what SageMaker answers with a ValidationException.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from moto.sagemaker.models import FakePipeline, SageMakerModelBackend, sagemaker_backends
from moto.utilities.utils import get_partition

from fakes import reasons
from fakes.cache import UriCache
from fakes.faults import Faults
from fakes.jobs import Jobs
from fakes.pages import between, page
from fakes.registry import MotoRegistry
from fakes.runner import FakeStepRunner
from fakes.store import MotoStore
from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.local import jobs as local_jobs
from sagegate.local.client import LocalSageMaker, ResourceNotFound
from sagegate.local.processes import Command, Launcher, Running
from sagegate.local.state import Execution
from sagegate.local.steps import StepRunner
from sagegate.pipeline.code import imported_libraries


class Conflict(Exception):
    """SageMaker's ConflictException."""


class JobLauncher(Launcher):
    """Starts jobs with the credentials of their account in the environment, as a container of SageMaker's has them."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        super().__init__(root)
        self._own = environment

    def start(self, command: Command) -> Running:
        """Start a command; returns at once."""
        return super().start(replace(command, environment=self._own | command.environment))


def libraries_of(script: Path) -> tuple[str, ...]:
    """What a script imports; nothing if it is not Python, which the job itself will say."""
    try:
        return imported_libraries(script)
    except SagegateError:
        return ()


class Service(LocalSageMaker):
    """Pipelines, executions and jobs; pipelines are moto's own records, so that its tags and searches see them."""

    def __init__(self, folder: Path, account_id: str, region: str, environment: dict[str, str], faults: Faults) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        store = MotoStore(folder / "objects", account_id, region)
        launcher = JobLauncher(folder, environment)
        super().__init__(folder, store, region, account_id, libraries_of, launcher)
        self.registry = MotoRegistry(self.state / "registry", account_id, region)
        self.cache = UriCache(self.state / "cache", store)
        self.faults = faults
        self.jobs = Jobs()
        self.check_roles = False
        self._more: dict[str, Json] = {}  # by execution ARN: what the engine does not keep
        self._stopping: set[str] = set()
        self.tokens: dict[tuple[str, str, str], str] = {}
        self._guard = threading.RLock()

    @property
    def backend(self) -> SageMakerModelBackend:
        """moto's SageMaker."""
        return sagemaker_backends[self.account_id][self.region]

    @property
    def arn_head(self) -> str:
        """What every ARN here starts with."""
        return f"arn:{get_partition(self.region)}:sagemaker:{self.region}:{self.account_id}"

    def role_of(self, execution: Execution) -> str:
        """The role of an execution's pipeline."""
        return str(self._more[execution.record["PipelineExecutionArn"]]["RoleArn"])

    def pipeline(self, name: str) -> FakePipeline:
        """A pipeline, known by its name or ARN; raises ResourceNotFound."""
        short = name.rpartition("/")[2]
        if short not in self.backend.pipelines:
            raise ResourceNotFound(f"Pipeline '{self.arn_head}:pipeline/{short}' does not exist.")
        return self.backend.pipelines[short]

    def describe_pipeline(self, *, PipelineName: str) -> Json:
        """A pipeline, its definition included."""
        pipeline = self.pipeline(PipelineName)
        answer = {
            "PipelineArn": pipeline.arn,
            "PipelineName": pipeline.pipeline_name,
            "PipelineDisplayName": pipeline.pipeline_display_name,
            "PipelineDefinition": pipeline.pipeline_definition,
            "PipelineDescription": pipeline.pipeline_description,
            "RoleArn": pipeline.role_arn,
            "PipelineStatus": pipeline.pipeline_status,
            "CreationTime": pipeline.creation_time,
            "LastModifiedTime": pipeline.last_modified_time,
            "LastRunTime": pipeline.last_execution_time,
            "ParallelismConfiguration": pipeline.parallelism_configuration,
        }
        return {key: value for key, value in answer.items() if value is not None}

    # --- executions ------------------------------------------------------------------------------------------------
    def start(self, request: Json) -> Json:
        """StartPipelineExecution; the same token gives the same execution."""
        with self._guard:
            pipeline = self.pipeline(request["PipelineName"])
            token = ("start", pipeline.pipeline_name, request["ClientRequestToken"])
            if token not in self.tokens:
                self._more["next"] = {"RoleArn": pipeline.role_arn}
                arn = self._started(pipeline.pipeline_name, request)
                self.tokens[token] = arn
            return {"PipelineExecutionArn": self.tokens[token]}

    def _started(self, name: str, request: Json) -> str:
        given = ("PipelineParameters", "SelectiveExecutionConfig")
        started = super().start_pipeline_execution(PipelineName=name, **{k: request[k] for k in given if k in request})
        arn = str(started["PipelineExecutionArn"])
        record = self.engines[arn].execution.record
        if request.get("PipelineExecutionDisplayName"):
            record["PipelineExecutionDisplayName"] = request["PipelineExecutionDisplayName"]
        kept = ("PipelineExecutionDescription", "ParallelismConfiguration", "SelectiveExecutionConfig")
        self._more[arn] |= {key: request[key] for key in kept if key in request}
        pipeline = self.pipeline(name)
        pipeline.last_execution_time = record["CreationTime"]
        return arn

    def step_runner(self, execution: Execution, context: local_jobs.Context) -> StepRunner:
        self._more.setdefault(execution.record["PipelineExecutionArn"], dict(self._more.get("next", {})))
        return FakeStepRunner(execution, context, self)

    def retry(self, request: Json) -> Json:
        """RetryPipelineExecution; the same token does nothing more."""
        arn = request["PipelineExecutionArn"]
        with self._guard:
            execution = self.execution(arn)
            token = ("retry", arn, request["ClientRequestToken"])
            if token not in self.tokens:
                if execution.status not in ("Failed", "Stopped"):
                    raise Conflict(f"Pipeline execution {arn} is {execution.status}: it must be Failed or Stopped.")
                self._stopping.discard(arn)
                super().retry_pipeline_execution(PipelineExecutionArn=arn)
                self.tokens[token] = arn
        return {"PipelineExecutionArn": arn}

    def stop(self, request: Json) -> Json:
        """StopPipelineExecution."""
        arn = request["PipelineExecutionArn"]
        with self._guard:
            execution = self.execution(arn)
            if arn not in self._stopping:
                if execution.status != "Executing":
                    raise Conflict(
                        f"Pipeline execution {arn} is {execution.status}: only one that runs can be stopped."
                    )
                self._stopping.add(arn)
                super().stop_pipeline_execution(PipelineExecutionArn=arn)
        return {"PipelineExecutionArn": arn}

    def execution(self, arn: str) -> Execution:
        """An execution; raises ResourceNotFound."""
        if arn not in self.engines:
            raise ResourceNotFound(f"Pipeline execution with ARN {arn} does not exist.")
        return self.engines[arn].execution

    def describe_execution(self, request: Json) -> Json:
        """DescribePipelineExecution."""
        arn = request["PipelineExecutionArn"]
        record = dict(self.execution(arn).record) | self._more[arn]
        record["PipelineExecutionStatus"] = self._status(arn)
        if "FailureReason" in record and not record["FailureReason"].startswith("the engine itself"):
            record["FailureReason"] = reasons.STEPS_FAILED
        return {key: value for key, value in record.items() if key not in ("PipelineParameters", "RoleArn")}

    def _status(self, arn: str) -> str:
        status = self.execution(arn).status
        return "Stopping" if status == "Executing" and arn in self._stopping else status

    def list_steps(self, request: Json) -> Json:
        """ListPipelineExecutionSteps; the latest first unless it is asked otherwise, as SageMaker does."""
        execution = self.execution(request["PipelineExecutionArn"])
        steps = execution.steps()
        for step in steps:
            step["Metadata"] = step["Metadata"] or self.jobs.of_step(execution.id, step["StepName"])
        ordered = steps if request.get("SortOrder") == "Ascending" else steps[::-1]
        return page("PipelineExecutionSteps", ordered, request)

    def list_executions(self, request: Json) -> Json:
        """ListPipelineExecutions, by their start; the latest first unless it is asked otherwise."""
        pipeline = self.pipeline(request["PipelineName"])
        records = [engine.execution.record for engine in list(self.engines.values())]
        mine = [r for r in records if r["PipelineArn"] == pipeline.arn]
        mine = [r for r in mine if between(r["CreationTime"], request, "CreatedAfter", "CreatedBefore")]
        by = "CreationTime" if request.get("SortBy") != "PipelineExecutionArn" else "PipelineExecutionArn"
        mine.sort(key=lambda r: r[by], reverse=request.get("SortOrder") != "Ascending")
        return page("PipelineExecutionSummaries", [self._summary(r) for r in mine], request)

    def _summary(self, record: Json) -> Json:
        arn = record["PipelineExecutionArn"]
        summary = {
            "PipelineExecutionArn": arn,
            "StartTime": record["CreationTime"],
            "PipelineExecutionStatus": self._status(arn),
            "PipelineExecutionDisplayName": record["PipelineExecutionDisplayName"],
        }
        described = self.describe_execution({"PipelineExecutionArn": arn})
        if "PipelineExecutionDescription" in described:
            summary["PipelineExecutionDescription"] = described["PipelineExecutionDescription"]
        if "FailureReason" in described:
            summary["PipelineExecutionFailureReason"] = described["FailureReason"]
        return summary

    def list_parameters(self, request: Json) -> Json:
        """ListPipelineParametersForExecution."""
        record = self.execution(request["PipelineExecutionArn"]).record
        return page("PipelineParameters", record["PipelineParameters"], request)

    def describe_definition(self, request: Json) -> Json:
        """DescribePipelineDefinitionForExecution."""
        execution = self.execution(request["PipelineExecutionArn"])
        text = (execution.folder / "definition.json").read_text()
        return {"PipelineDefinition": json.dumps(json.loads(text)), "CreationTime": execution.record["CreationTime"]}

    # --- the end ---------------------------------------------------------------------------------------------------
    def forget(self, name: str) -> str:
        """Stop a pipeline's executions and delete it with them; its ARN."""
        pipeline = self.pipeline(name)
        self.halt(arn for arn, engine in self.engines.items() if engine.execution.record["PipelineArn"] == pipeline.arn)
        with self._guard:
            for arn in [a for a, e in self.engines.items() if e.execution.record["PipelineArn"] == pipeline.arn]:
                del self.engines[arn]
        return str(self.backend.delete_pipeline(pipeline.pipeline_name))

    def is_running(self, name: str) -> bool:
        """Whether an execution of a pipeline has not ended."""
        arn = self.pipeline(name).arn
        mine = (e.execution for e in list(self.engines.values()) if e.execution.record["PipelineArn"] == arn)
        return any(execution.status == "Executing" for execution in mine)

    def halt(self, arns: Iterable[str]) -> None:
        """Stop executions and wait until they have ended."""
        engines = [self.engines[arn] for arn in list(arns)]
        for engine in engines:
            engine.stopping.set()
        for engine in engines:
            engine.ended.wait()
