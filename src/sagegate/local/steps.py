"""Run one step of a pipeline: a resolved request in, a result in the shape of its Describe* response out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sagegate.files import Json, write_json
from sagegate.local.cache import Cache
from sagegate.local.jobs import INTERNAL_ERROR, Context, JobFailed, run_processing_job
from sagegate.local.references import InvalidReference, Scope, resolve
from sagegate.local.state import Execution, Registry, now, read_json
from sagegate.local.training import run_training_job
from sagegate.pipeline.definition import Step, negated

JOBS = {"Processing": "Processing", "Training": "Training", "Tuning": "HyperParameterTuning", "Transform": "Transform"}
TYPES = (*JOBS, "Model", "RegisterModel", "Condition", "Lambda", "Fail")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": lambda left, right: left > right,
    "GreaterThanOrEqualTo": lambda left, right: left >= right,
    "LessThan": lambda left, right: left < right,
    "LessThanOrEqualTo": lambda left, right: left <= right,
}


class FailStepReached(Exception):
    """The execution came to a Fail step; the message is the step's ErrorMessage."""


@dataclass(frozen=True)
class Result:
    """A finished step: its properties (for references), its Metadata, and further fields of its record."""

    properties: Json
    metadata: Json
    fields: Json


class StepRunner:
    """Runs the steps of one execution."""

    def __init__(self, execution: Execution, context: Context, cache: Cache, registry: Registry) -> None:
        self.execution = execution
        self.context = context
        self.cache = cache
        self.registry = registry

    def run(self, step: Step, arguments: Json, scope: Scope, stopped: Callable[[], bool]) -> Result:
        """Run one step. Raises JobFailed, JobStopped, FailStepReached or InvalidReference."""
        if step.type in JOBS:
            return self.run_job(step, arguments, stopped)
        if step.type == "Condition":
            # A list, not a generator: a missing number in a later condition must fail the step, too.
            outcome = str(all([evaluate_condition(condition, scope) for condition in step.arguments["Conditions"]]))
            return Result({"Outcome": outcome}, {"Condition": {"Outcome": outcome}}, {})
        if step.type == "RegisterModel":
            package = self.registry.register(arguments)
            return Result(package, {"RegisterModel": {"Arn": package["ModelPackageArn"]}}, {})
        if step.type == "Model":
            return self.create_model(step, arguments)
        if step.type == "Lambda":
            return self.run_lambda(step, arguments, scope, stopped)
        raise FailStepReached(arguments.get("ErrorMessage") or f"step {step.name} was reached")

    def run_job(self, step: Step, arguments: Json, stopped: Callable[[], bool]) -> Result:
        """Run a job, or return the result of an earlier job from the cache."""
        kind = JOBS[step.type]
        caching = step.body.get("CacheConfig") or {}
        key = None
        if caching.get("Enabled"):
            key = self.cache.key(self.execution.record["PipelineArn"], step.name, step.type, arguments)
            entry = self.cache.find(key, caching.get("ExpireAfter"))
            if entry:
                self.execution.log(step.name).write_text(f"cached: the result of {entry['Arn']}\n")
                hit = {"CacheHitResult": {"SourcePipelineExecutionArn": entry["Arn"]}}
                return Result(entry["Properties"], _job_metadata(kind, entry["Properties"]), hit)
        with self.job_context(step, stopped) as context:
            description = self.job_function(step.type)(context.folder.name, arguments, context)
        write_json(self.context.folder.parent / "descriptions" / f"{context.folder.name}.json", description)
        if key:
            self.cache.put(key, self.execution.record["PipelineExecutionArn"], description, _output_uris(description))
        return Result(description, _job_metadata(kind, description), {})

    def job_function(self, step_type: str) -> Callable[[str, Json, Context], Json]:
        """Return the function that runs the jobs of a type of step."""
        if step_type == "Tuning":
            from sagegate.local.tuning import run_tuning_job

            return run_tuning_job
        if step_type == "Transform":
            from sagegate.local.transform import run_transform_job

            return lambda name, request, context: run_transform_job(
                name, request, self.read_model(request["ModelName"]), context
            )
        return run_processing_job if step_type == "Processing" else run_training_job

    def create_model(self, step: Step, arguments: Json) -> Result:
        """Store a model under its name, for Transform steps."""
        name = self.job_name(step)
        arn = f"arn:aws:sagemaker:{self.context.region}:{self.context.account_id}:model/{name}"
        model = arguments | {"ModelName": name, "ModelArn": arn, "CreationTime": now()}
        write_json(self.context.folder.parent / "models" / f"{name}.json", model)
        return Result(model, {"Model": {"Arn": arn}}, {})

    def read_model(self, name: str) -> Json:
        """Return a model that a Model step created. Raises JobFailed if there is none."""
        file = self.context.folder.parent / "models" / f"{name}.json"
        if not file.is_file():
            raise JobFailed(f"model {name} does not exist: a Model step must create it")
        return read_json(file)

    def run_lambda(self, step: Step, arguments: Json, scope: Scope, stopped: Callable[[], bool]) -> Result:
        """Call the function of a Lambda step."""
        from sagegate.local.functions import invoke

        arn = str(resolve(step.body.get("FunctionArn", ""), scope))
        with self.job_context(step, stopped) as context:
            outputs = invoke(arn, arguments, step.body.get("OutputParameters") or [], context)
        shown = [{"Name": key, "Value": str(value)} for key, value in outputs.items()]
        return Result({"OutputParameters": outputs}, {"Lambda": {"Arn": arn, "OutputParameters": shown}}, {})

    def job_name(self, step: Step) -> str:
        """Return the name of a step's job. SageMaker's random end is here a digest of execution and step."""
        end = hashlib.sha256(f"{self.execution.id}/{step.name}".encode()).hexdigest()[:10]
        return f"pipelines-{self.execution.id}-{step.name}-{end}"

    @contextmanager
    def job_context(self, step: Step, stopped: Callable[[], bool]) -> Iterator[Context]:
        """Give a step's job an empty folder of its own, and delete the folder afterwards."""
        folder = self.context.folder / self.job_name(step)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # files of an earlier attempt would pass as outputs of this one
            raise JobFailed(f"{folder}: the files of an earlier attempt cannot be deleted", INTERNAL_ERROR) from None
        try:
            yield replace(self.context, folder=folder, log=self.execution.log(step.name), stopped=stopped)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def evaluate_condition(condition: Json, scope: Scope) -> bool:
    """Evaluate one condition of a Condition step, such as those of the gate.

    Raises InvalidReference for a missing value and for values of different types: text never compares with a number.
    Source: "Condition step" in the SageMaker developer guide.
    """
    kind = condition["Type"]
    if kind == "Not":
        return not evaluate_condition(negated(condition), scope)
    if kind == "Or":
        return any(evaluate_condition(inner, scope) for inner in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], scope) in resolve(condition["Values"], scope)
    left, right = resolve(condition["LeftValue"], scope), resolve(condition["RightValue"], scope)
    if _value_type(left) != _value_type(right):
        raise InvalidReference(f"{kind}: cannot compare {json.dumps(left)} with {json.dumps(right)}")
    if kind == "Equals":
        return bool(left == right)
    if kind not in COMPARISONS:
        raise InvalidReference(f"condition type {kind!r} is not one of SageMaker's")
    if _value_type(left) != "number":
        raise InvalidReference(f"{kind}: {json.dumps(left)} is not a number")
    return COMPARISONS[kind](left, right)


def _value_type(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__


def property_file_uri(steps: dict[str, Step], properties: dict[str, Json], step: str, name: str) -> tuple[str, str]:
    """Return the S3 URI of a step's property file, and a label for messages. Raises InvalidReference."""
    declared = steps[step].body.get("PropertyFiles") or []
    file = next((f for f in declared if f["PropertyFileName"] == name), None)
    if file is None or step not in properties:
        raise InvalidReference(f"property file {name} of step {step}: the step does not declare it or has not run")
    outputs = properties[step]["ProcessingOutputConfig"]["Outputs"]
    output = next(o for o in outputs if o["OutputName"] == file["OutputName"])
    uri = f"{output['S3Output']['S3Uri'].rstrip('/')}/{file['FilePath']}"
    return uri, f"property file {name} of step {step} ({file['FilePath']})"


def _job_metadata(kind: str, description: Json) -> Json:
    key = "TuningJob" if kind == "HyperParameterTuning" else f"{kind}Job"
    return {key: {"Arn": description[f"{kind}JobArn"]}}


def _output_uris(description: Json) -> list[str]:
    if "TrainingJobSummaries" in description:
        prefix = description["TrainingJobDefinition"]["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        return [f"{prefix}/{job['TrainingJobName']}" for job in description["TrainingJobSummaries"]]
    if "ModelArtifacts" in description:
        return [description["ModelArtifacts"]["S3ModelArtifacts"]]
    if "TransformOutput" in description:
        return [description["TransformOutput"]["S3OutputPath"]]
    outputs = (description.get("ProcessingOutputConfig") or {}).get("Outputs") or []
    return [output["S3Output"]["S3Uri"] for output in outputs]
