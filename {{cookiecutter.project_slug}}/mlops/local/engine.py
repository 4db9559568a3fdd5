"""Runs a definition's DAG: order, parallel steps, conditions, the cache, failure and stopping.

A step starts when all it depends on has succeeded and its branch was taken. A failed step keeps what depends on it from
starting while the rest finishes; a Fail step stops the execution at once. Source: "Pipelines steps" in the SageMaker
developer guide.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from mlops.definition import Step, steps_of
from mlops.files import write_json
from mlops.local import jobs
from mlops.local.cache import Cache
from mlops.local.records import Execution, now
from mlops.local.registry import Registry
from mlops.local.values import ReferenceFault, Scope, holds, parse_json, resolve

Json = dict[str, Any]
PARALLEL = 8


class Rejected(Exception):
    """A Fail step was reached; the text is its ErrorMessage."""


@dataclass(frozen=True)
class Result:
    """What a step gave: its properties, for references, and what the step's record shows of it."""

    properties: Json
    metadata: Json
    record: Json


class Engine:
    """One execution, from its first step to its final status."""

    def __init__(
        self,
        definition: Json,
        execution: Execution,
        scope: Scope,
        context: jobs.Context,
        cache: Cache,
        registry: Registry,
    ) -> None:
        self.steps = steps_of(definition)
        self.execution = execution
        self.scope = replace(scope, property_file=self._property_file, s3_json=self._s3_json)
        self.context = context
        self.cache = cache
        self.registry = registry
        self.stopping = threading.Event()
        # Not the thread's join: in Python 3.11 an interrupted join takes a running thread for an ended one.
        self.ended = threading.Event()
        self.outcomes: dict[str, bool] = {}
        self.failures: list[str] = []

    def run(self) -> None:
        """Run every step that can run, then note the execution's final status."""
        try:
            self._run_steps()
            if self.failures:
                self.execution.finish("Failed", self.failures[0])
            else:
                self.execution.finish("Stopped" if self.stopping.is_set() else "Succeeded")
            self.context.store.remember()
        except BaseException as error:
            self.execution.finish("Failed", f"the engine itself failed: {type(error).__name__}: {error}")
            raise
        finally:
            self.ended.set()

    def _run_steps(self) -> None:
        waiting = dict(self.steps)
        running: dict[Future[None], Step] = {}
        with ThreadPoolExecutor(PARALLEL) as pool:
            while True:
                for step in [s for s in waiting.values() if self._is_ready(s)]:
                    del waiting[step.name]
                    if not self.stopping.is_set():
                        running[pool.submit(self._run_step, step)] = step
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    del running[future]
                    future.result()

    def _is_ready(self, step: Step) -> bool:
        if not all(name in self.scope.steps for name in step.depends_on):
            return False
        return step.branch is None or self.outcomes[step.branch[0]] is step.branch[1]

    def _run_step(self, step: Step) -> None:
        record: Json = {"StepName": step.name, "StepStatus": "Executing", "StartTime": now(), "Metadata": {}}
        record["AttemptCount"] = 1
        self.execution.save_step(record)
        try:
            handler = self._handlers().get(step.type)
            if handler is None:
                raise ReferenceFault(f"step type {step.type} does not run on this machine")
            result = handler(step, resolve(step.arguments, self.scope) if step.type != "Condition" else {})
        except (jobs.JobFailed, ReferenceFault, Rejected, ValueError) as error:
            record |= {"StepStatus": "Failed", "FailureReason": str(error)[:1024]}
            if isinstance(error, Rejected):
                record["Metadata"] = {"Fail": {"ErrorMessage": str(error)}}
                self.failures.insert(0, str(error))
                self.stopping.set()
            else:
                self.failures.append(f"Step {step.name} failed: {error}")
        except jobs.JobStopped:
            record["StepStatus"] = "Stopped"
        else:
            record |= {"StepStatus": "Succeeded", "Metadata": result.metadata, **result.record}
            self.scope.steps[step.name] = result.properties
        self.execution.save_step(record | {"EndTime": now()})

    def _handlers(self) -> dict[str, Callable[[Step, Json], Result]]:
        return {
            "Processing": self._job,
            "Training": self._job,
            "Condition": self._condition,
            "RegisterModel": self._register,
            "Fail": self._fail,
        }

    def _job(self, step: Step, arguments: Json) -> Result:
        kind = step.type
        cached = step.body.get("CacheConfig") or {}
        key = self.cache.key(self._pipeline(), step.name, kind, arguments) if cached.get("Enabled") else None
        entry = self.cache.find(key, cached.get("ExpireAfter")) if key else None
        if entry:
            self.execution.log(step.name).write_text(f"cached: the result of {entry['Arn']}\n")
            hit = {"CacheHitResult": {"SourcePipelineExecutionArn": entry["Arn"]}}
            return Result(entry["Properties"], _job_metadata(kind, entry["Properties"]), hit)
        suffix = hashlib.sha256(f"{self.execution.id}/{step.name}".encode()).hexdigest()[:10]
        name = f"pipelines-{self.execution.id}-{step.name}-{suffix}"
        folder = self.context.folder / name
        context = replace(self.context, folder=folder, log=self.execution.log(step.name), stopped=self.stopping.is_set)
        try:
            run = jobs.process if kind == "Processing" else jobs.train
            description = run(name, arguments, context)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        write_json(self.context.folder.parent / "descriptions" / f"{name}.json", description)
        if key:
            self.cache.put(key, self.execution.record["PipelineExecutionArn"], description, _outputs(description))
        return Result(description, _job_metadata(kind, description), {})

    def _condition(self, step: Step, _: Json) -> Result:
        outcome = all([holds(condition, self.scope) for condition in step.arguments["Conditions"]])
        self.outcomes[step.name] = outcome
        text = str(outcome)
        return Result({"Outcome": text}, {"Condition": {"Outcome": text}}, {})

    def _register(self, step: Step, arguments: Json) -> Result:
        package = self.registry.register(arguments)
        return Result(package, {"RegisterModel": {"Arn": package["ModelPackageArn"]}}, {})

    def _fail(self, step: Step, arguments: Json) -> Result:
        raise Rejected(arguments.get("ErrorMessage") or f"step {step.name} was reached")

    def _pipeline(self) -> str:
        return str(self.execution.record["PipelineArn"])

    def _property_file(self, step: str, name: str) -> Any:
        declared = self.steps[step].body.get("PropertyFiles") or []
        file = next(f for f in declared if f["PropertyFileName"] == name)
        outputs = self.scope.steps[step]["ProcessingOutputConfig"]["Outputs"]
        output = next(o for o in outputs if o["OutputName"] == file["OutputName"])
        uri = f"{output['S3Output']['S3Uri'].rstrip('/')}/{file['FilePath']}"
        return self._s3_json(uri, f"property file {name} of step {step} ({file['FilePath']})")

    def _s3_json(self, uri: str, shown: str = "") -> Any:
        try:
            content = self.context.store.read(uri)
        except self.context.store.exceptions.NoSuchKey:
            raise ReferenceFault(f"{shown or uri} does not exist: the step that should write it did not") from None
        return parse_json(content, shown or uri)


def _job_metadata(kind: str, description: Json) -> Json:
    return {f"{kind}Job": {"Arn": description[f"{kind}JobArn"]}}


def _outputs(description: Json) -> list[str]:
    """The S3 URIs that a finished job wrote."""
    if "ModelArtifacts" in description:
        return [description["ModelArtifacts"]["S3ModelArtifacts"]]
    outputs = (description.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    return [output["S3Output"]["S3Uri"] for output in outputs]
