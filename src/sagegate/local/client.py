"""boto3's SageMaker client for this machine: the calls that the verbs use, with boto3's request and response shapes.

`start_pipeline_execution` returns at once; the engine runs in a thread of this process. State is in `.mlops/`, so
another process sees the same pipelines, executions and models.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sagegate.errors import SagegateError
from sagegate.files import write_json
from sagegate.local import engine as selection
from sagegate.local import jobs
from sagegate.local.cache import Cache
from sagegate.local.engine import Engine
from sagegate.local.launcher import Launcher
from sagegate.local.references import Scope
from sagegate.local.state import (
    FINAL,
    Execution,
    JobCalls,
    Registry,
    RegistryCalls,
    ResourceNotFound,
    now,
    read_json,
    remove_leftovers,
)
from sagegate.local.steps import TYPES, StepRunner
from sagegate.local.storage import Store
from sagegate.pipeline import definition as definitions
from sagegate.pipeline.definition import Step
from sagegate.pipeline.validate import reference_errors

Json = dict[str, Any]


class Exceptions:
    """What `client.exceptions` holds."""

    ResourceNotFound = ResourceNotFound


class LocalSageMaker(RegistryCalls, JobCalls):
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
        self.engines: dict[str, Engine] = {}

    # --- pipelines -------------------------------------------------------------------------------------------------
    def create_pipeline(self, *, PipelineName: str, PipelineDefinition: str, RoleArn: str, **more: Any) -> Json:
        """Store a pipeline. Raises SagegateError for a definition that could not run here, naming the step."""
        _check(PipelineDefinition)
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
        """Replace a pipeline's definition; checked as when it is created."""
        _check(PipelineDefinition)
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

    def add_tags(self, *, ResourceArn: str, Tags: list[dict[str, str]]) -> Json:
        """Add to a pipeline's tags, or replace those of the same key."""
        name = ResourceArn.rpartition("/")[2]
        record = self.describe_pipeline(PipelineName=name)
        tags = {tag["Key"]: tag["Value"] for tag in [*record.get("Tags", []), *Tags]}
        record["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
        write_json(self._pipeline_file(name), record)
        return {"Tags": record["Tags"]}

    # --- executions ------------------------------------------------------------------------------------------------
    def start_pipeline_execution(
        self,
        *,
        PipelineName: str,
        PipelineExecutionDescription: str = "",
        PipelineParameters: list[dict[str, str]] | None = None,
        SelectiveExecutionConfig: Json | None = None,
        **_: Any,
    ) -> Json:
        """Start the pipeline in a thread of this process; its execution's ARN."""
        pipeline = self.describe_pipeline(PipelineName=PipelineName)
        definition = json.loads(pipeline["PipelineDefinition"])
        steps = definitions.steps_of(definition)
        parameters = definitions.parameter_values(definition, {p["Name"]: p["Value"] for p in PipelineParameters or []})
        known: dict[str, Json] = {}
        selected, source = frozenset(steps), None
        if SelectiveExecutionConfig:
            selected = frozenset(chosen["StepName"] for chosen in SelectiveExecutionConfig["SelectedSteps"])
            selection.check_names(steps, sorted(selected))
            source = SelectiveExecutionConfig.get("SourcePipelineExecutionArn") or self._latest(PipelineName)
            known = selection.taken(steps, selected, self._execution(source).properties(), source)
        arn, why = pipeline["PipelineArn"], PipelineExecutionDescription
        execution = Execution.create(self.state / "executions", arn, parameters, definition, why)
        for name in known:
            step = {"StepName": name, "StepStatus": "Succeeded", "StartTime": now(), "EndTime": now(), "Metadata": {}}
            execution.save_step(step | {"SelectiveExecutionResult": {"SourcePipelineExecutionArn": source}})
            execution.save_properties(name, known[name])
        self._run(execution, steps, parameters, known, selected)
        return {"PipelineExecutionArn": execution.record["PipelineExecutionArn"]}

    def retry_pipeline_execution(self, *, PipelineExecutionArn: str, **_: Any) -> Json:
        """Run an ended execution's failed and missing steps again, with its own definition and parameters."""
        execution = self._execution(PipelineExecutionArn)
        if execution.status not in ("Failed", "Stopped"):
            raise SagegateError(
                f"execution {execution.id} is {execution.status}: only a Failed or Stopped one is retried"
            )
        definition = json.loads((execution.folder / "definition.json").read_bytes())
        given = {p["Name"]: p["Value"] for p in execution.record["PipelineParameters"]}
        execution.reopen()
        known = execution.properties()
        steps = definitions.steps_of(definition)
        parameters = definitions.parameter_values(definition, given)
        self._run(execution, steps, parameters, known, frozenset(steps) - set(known))
        return {"PipelineExecutionArn": PipelineExecutionArn}

    def _latest(self, pipeline: str) -> str:
        found = self.list_pipeline_executions(PipelineName=pipeline, MaxResults=1)["PipelineExecutionSummaries"]
        if not found:
            raise SagegateError("there is no earlier execution to take results from: run the whole pipeline first")
        return str(found[0]["PipelineExecutionArn"])

    def _run(
        self, execution: Execution, steps: dict[str, Step], parameters: Json, known: Json, selected: frozenset[str]
    ) -> None:
        arn, pipeline = execution.record["PipelineExecutionArn"], execution.record["PipelineArn"]
        scope = Scope(
            parameters=parameters,
            execution={
                "PipelineName": pipeline.rpartition("/")[2],
                "PipelineArn": pipeline,
                "PipelineExecutionId": execution.id,
                "PipelineExecutionArn": arn,
                "StartDateTime": execution.record["CreationTime"].isoformat(),
                "CurrentDateTime": now().isoformat(),
            },
        )
        context = jobs.Context(
            root=self.state.parent,
            store=self.store,
            launcher=self.launcher,
            folder=self.state / "jobs",
            log=Path(),
            region=self.region,
            account_id=self.account_id,
            modules=self.modules,
            stopped=lambda: False,
        )
        remove_leftovers(context.folder, self.state / "executions")
        self.engines[arn] = Engine(steps, execution, scope, self.step_runner(execution, context), known, selected)
        threading.Thread(target=self.engines[arn].run, name=f"execution-{execution.id}").start()

    def step_runner(self, execution: Execution, context: jobs.Context) -> StepRunner:
        """What runs the steps of an execution."""
        return StepRunner(execution, context, Cache(self.state / "cache", self.store), self.registry)

    def stop_pipeline_execution(self, *, PipelineExecutionArn: str, **_: Any) -> Json:
        """Stop an execution, whichever process runs it; its jobs are ended."""
        if PipelineExecutionArn in self.engines:
            self.engines[PipelineExecutionArn].stopping.set()
        else:
            self._execution(PipelineExecutionArn).ask_to_stop()
        return {"PipelineExecutionArn": PipelineExecutionArn}

    def wait(self, arn: str, seconds: float) -> bool:
        """Wait for an execution; whether it has ended. Not a call of boto3's."""
        engine = self.engines.get(arn)
        if engine is None:
            time.sleep(seconds)
            return self._execution(arn).status in FINAL
        if engine.execution.is_asked_to_stop():
            engine.stopping.set()
        return engine.ended.wait(seconds)

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

    def close(self) -> None:
        """Stop what this process runs."""
        for engine in self.engines.values():
            engine.stopping.set()
            engine.ended.wait()
        self.launcher.close()

    def _execution(self, arn: str) -> Execution:
        if arn in self.engines:
            return self.engines[arn].execution
        folder = self.state / "executions" / arn.rpartition("/")[2]
        if not (folder / "execution.json").is_file():
            raise ResourceNotFound(f"execution {arn} does not exist")
        return Execution.load(folder)

    def _pipeline_file(self, name: str) -> Path:
        return self.state / "pipelines" / f"{name}.json"

    def _arn(self, *parts: str) -> str:
        head = f"arn:aws:sagemaker:{self.region}:{self.account_id}"
        return ":".join([head, "/".join(parts)]) if parts else head


def _check(text: str) -> None:
    definition = json.loads(text)
    fault = next(reference_errors(definition), None)
    if fault:
        raise SagegateError(f"definition: {fault}")
    for step in definitions.steps_of(definition).values():
        if step.type not in TYPES:
            raise SagegateError(
                f"step {step.name}: steps of type {step.type} do not run on this machine, only {', '.join(TYPES)} do"
            )
        for other, trigger in definitions.dependencies(step.body):
            if trigger != "Completed":
                raise SagegateError(
                    f"step {step.name}: DependsOn: {other} {trigger}: only Completed runs on this machine"
                )


def _summary(record: Json) -> Json:
    fields = ("PipelineExecutionArn", "PipelineExecutionStatus", "PipelineExecutionDisplayName")
    summary = {field: record[field] for field in fields} | {"StartTime": record["CreationTime"]}
    if "FailureReason" in record:
        summary["PipelineExecutionFailureReason"] = record["FailureReason"]
    return summary
