"""What each type of step does on this machine: a resolved request in, a result in its Describe* call's shape out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sagegate.files import write_json
from sagegate.local.cache import ATTRIBUTES, Cache
from sagegate.local.jobs import INTERNAL_ERROR, Context, JobFailed, process, train
from sagegate.local.references import InvalidReference, Scope, holds
from sagegate.local.state import Execution, Registry, now
from sagegate.pipeline.definition import Step

Json = dict[str, Any]
JOBS = {"Processing": "Processing", "Training": "Training", "Tuning": "HyperParameterTuning", "Transform": "Transform"}
TYPES = (*JOBS, "Model", "RegisterModel", "Condition", "Lambda", "Fail")


class Rejected(Exception):
    """A Fail step was reached; the text is its ErrorMessage."""


@dataclass(frozen=True)
class Result:
    """What a step gave: its properties, for references; what its record shows of it; the cache entry it came from."""

    properties: Json
    metadata: Json
    record: Json


class StepRunner:
    """Runs single steps of one execution."""

    def __init__(self, execution: Execution, context: Context, cache: Cache, registry: Registry) -> None:
        self.execution = execution
        self.context = context
        self.cache = cache
        self.registry = registry

    def run(self, step: Step, arguments: Json, scope: Scope, stopped: Callable[[], bool]) -> Result:
        """Run one step. Raises JobFailed, JobStopped, Rejected or InvalidReference."""
        if step.type in JOBS:
            return self._job(step, arguments, stopped)
        if step.type == "Condition":
            # All are looked at, so that a number that is missing is never hidden by another condition.
            outcome = str(all([holds(condition, scope) for condition in step.arguments["Conditions"]]))
            return Result({"Outcome": outcome}, {"Condition": {"Outcome": outcome}}, {})
        if step.type == "RegisterModel":
            package = self.registry.register(arguments)
            return Result(package, {"RegisterModel": {"Arn": package["ModelPackageArn"]}}, {})
        if step.type == "Model":
            return self.create_model(step, arguments)
        if step.type == "Lambda":
            return self.run_lambda(step, arguments, scope, stopped)
        raise Rejected(arguments.get("ErrorMessage") or f"step {step.name} was reached")

    def _job(self, step: Step, arguments: Json, stopped: Callable[[], bool]) -> Result:
        pipeline, kind = str(self.execution.record["PipelineArn"]), JOBS[step.type]
        asked = step.body.get("CacheConfig") or {}
        cached = asked.get("Enabled") and step.type in ATTRIBUTES
        key = self.cache.key(pipeline, step.name, step.type, arguments) if cached else None
        entry = self.cache.find(key, asked.get("ExpireAfter")) if key else None
        if entry:
            self.execution.log(step.name).write_text(f"cached: the result of {entry['Arn']}\n")
            hit = {"CacheHitResult": {"SourcePipelineExecutionArn": entry["Arn"]}}
            return Result(entry["Properties"], _metadata(kind, entry["Properties"]), hit)
        name = f"pipelines-{self.execution.id}-{step.name}-{self.job_suffix(step)}"
        with _Folder(self.context, name) as folder:
            context = replace(self.context, folder=folder, log=self.execution.log(step.name), stopped=stopped)
            description = self.job_runner(step.type)(name, arguments, context)
        write_json(self.context.folder.parent / "descriptions" / f"{name}.json", description)
        if key:
            self.cache.put(key, self.execution.record["PipelineExecutionArn"], description, _outputs(description))
        return Result(description, _metadata(kind, description), {})

    def job_runner(self, kind: str) -> Callable[[str, Json, Context], Json]:
        if kind == "Tuning":
            from sagegate.local.tuning import tune

            return tune
        if kind == "Transform":
            from sagegate.local.transform import run_transform_job

            return lambda name, request, context: run_transform_job(name, request, context, self.read_model)
        return process if kind == "Processing" else train

    def create_model(self, step: Step, arguments: Json) -> Result:
        """CreateModel: remembered by name, for Transform steps."""
        name = f"pipelines-{self.execution.id}-{step.name}-{self.job_suffix(step)}"
        arn = f"arn:aws:sagemaker:{self.context.region}:{self.context.account_id}:model/{name}"
        model = arguments | {"ModelName": name, "ModelArn": arn, "CreationTime": now()}
        write_json(self.context.folder.parent / "models" / f"{name}.json", model)
        return Result(model, {"Model": {"Arn": arn}}, {})

    def read_model(self, name: str) -> Json:
        """A model that a Model step created."""
        from sagegate.local.state import read_json

        file = self.context.folder.parent / "models" / f"{name}.json"
        if not file.is_file():
            raise JobFailed(f"model {name} does not exist: a Model step must create it")
        return read_json(file)

    def run_lambda(self, step: Step, arguments: Json, scope: Scope, stopped: Callable[[], bool]) -> Result:
        from sagegate.local.functions import invoke

        name = f"pipelines-{self.execution.id}-{step.name}-{self.job_suffix(step)}"
        with _Folder(self.context, name) as folder:
            context = replace(self.context, folder=folder, log=self.execution.log(step.name), stopped=stopped)
            arn, outputs = invoke(step, arguments, scope, context)
        shown = [{"Name": key, "Value": str(value)} for key, value in outputs.items()]
        return Result({"OutputParameters": outputs}, {"Lambda": {"Arn": arn, "OutputParameters": shown}}, {})

    def job_suffix(self, step: Step) -> str:
        """SageMaker ends job names with a random part; here it follows from the execution and the step."""
        return hashlib.sha256(f"{self.execution.id}/{step.name}".encode()).hexdigest()[:10]


class _Folder:
    """A job's folder, gone when the job is."""

    def __init__(self, context: Context, name: str) -> None:
        self.path = context.folder / name

    def __enter__(self) -> Any:
        shutil.rmtree(self.path, ignore_errors=True)
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:  # going on in it would pass what an earlier attempt wrote off as this one's
            raise JobFailed(
                f"{self.path}: what is left of an earlier attempt cannot be removed", INTERNAL_ERROR
            ) from None
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def property_file(steps: dict[str, Step], properties: dict[str, Json], step: str, name: str) -> tuple[str, str]:
    """The S3 URI of a property file, and how to name it to a reader."""
    declared = steps[step].body.get("PropertyFiles") or []
    file = next((f for f in declared if f["PropertyFileName"] == name), None)
    if file is None or step not in properties:
        raise InvalidReference(f"property file {name} of step {step}: the step does not declare it or has not run")
    outputs = properties[step]["ProcessingOutputConfig"]["Outputs"]
    output = next(o for o in outputs if o["OutputName"] == file["OutputName"])
    uri = f"{output['S3Output']['S3Uri'].rstrip('/')}/{file['FilePath']}"
    return uri, f"property file {name} of step {step} ({file['FilePath']})"


def _metadata(kind: str, description: Json) -> Json:
    key = {"HyperParameterTuning": "TuningJob"}.get(kind, f"{kind}Job")
    return {key: {"Arn": description[f"{kind}JobArn"]}}


def _outputs(description: Json) -> list[str]:
    """The S3 URIs that a finished job wrote."""
    if "TrainingJobSummaries" in description:
        prefix = description["TrainingJobDefinition"]["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        return [f"{prefix}/{job['TrainingJobName']}" for job in description["TrainingJobSummaries"]]
    if "ModelArtifacts" in description:
        return [description["ModelArtifacts"]["S3ModelArtifacts"]]
    if "TransformOutput" in description:
        return [description["TransformOutput"]["S3OutputPath"]]
    outputs = (description.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    return [output["S3Output"]["S3Uri"] for output in outputs]
