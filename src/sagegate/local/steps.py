"""Run one step of a pipeline: a resolved request in, a result in the shape of its Describe* response out.

The function NAME of a Lambda step is `infra/NAME/handler.py`; the project's name may come before NAME. Sources:
"Condition step" and "Lambda step" in the SageMaker developer guide.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sagegate.files import Json, write_json
from sagegate.local.cache import Cache
from sagegate.local.jobs import (
    INTERNAL_ERROR,
    Context,
    JobFailed,
    make_hosts,
    run_hosts,
    run_processing_job,
    run_transform_job,
)
from sagegate.local.references import InvalidReference, Scope, resolve
from sagegate.local.state import Execution, Registry, now, read_json
from sagegate.local.training import run_training_job
from sagegate.local.tuning import run_tuning_job
from sagegate.pipeline.definition import Step, negated

JOBS = {"Processing": "Processing", "Training": "Training", "Tuning": "HyperParameterTuning", "Transform": "Transform"}
TYPES = (*JOBS, "Model", "RegisterModel", "Condition", "Lambda", "Fail")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": lambda left, right: left > right,
    "GreaterThanOrEqualTo": lambda left, right: left >= right,
    "LessThan": lambda left, right: left < right,
    "LessThanOrEqualTo": lambda left, right: left <= right,
}
FUNCTION_PROCESS = Path(__file__).with_name("function_process.py")
FUNCTION_SECONDS = 600  # SageMaker ends a Lambda step after ten minutes
OUTPUT_TYPES: dict[str, Any] = {"String": str, "Integer": int, "Float": (int, float), "Boolean": bool}


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
        self.state = context.folder.parent

    def run(self, step: Step, arguments: Json, scope: Scope) -> Result:
        """Run one step. Raises JobFailed, JobStopped, FailStepReached or InvalidReference."""
        if step.type in JOBS:
            return self.run_job(step, arguments)
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
            return self.run_lambda(step, arguments, scope)
        raise FailStepReached(arguments.get("ErrorMessage") or f"step {step.name} was reached")

    def run_job(self, step: Step, arguments: Json) -> Result:
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
        with self.job_context(step) as context:
            description = self.job_function(step.type)(context.folder.name, arguments, context)
        write_json(self.state / "descriptions" / f"{context.folder.name}.json", description)
        # If an input changed while the job ran, such as the champion, the result is not that of `key`.
        if key and key == self.cache.key(self.execution.record["PipelineArn"], step.name, step.type, arguments):
            self.cache.put(key, self.execution.record["PipelineExecutionArn"], description, _output_uris(description))
        return Result(description, _job_metadata(kind, description), {})

    def job_function(self, step_type: str) -> Callable[[str, Json, Context], Json]:
        """Return the function that runs the jobs of a type of step."""
        if step_type == "Transform":
            return lambda name, request, context: run_transform_job(
                name, request, self.read_model(request["ModelName"]), context
            )
        return {"Processing": run_processing_job, "Training": run_training_job, "Tuning": run_tuning_job}[step_type]

    def create_model(self, step: Step, arguments: Json) -> Result:
        """Store a model under its name, for Transform steps."""
        name = self.job_name(step)
        arn = self.context.arn(f"model/{name}")
        model = arguments | {"ModelName": name, "ModelArn": arn, "CreationTime": now()}
        write_json(self.state / "models" / f"{name}.json", model)
        return Result(model, {"Model": {"Arn": arn}}, {})

    def read_model(self, name: str) -> Json:
        """Return a model that a Model step created. Raises JobFailed if there is none."""
        file = self.state / "models" / f"{name}.json"
        if not file.is_file():
            raise JobFailed(f"model {name} does not exist: a Model step must create it")
        return read_json(file)

    def run_lambda(self, step: Step, arguments: Json, scope: Scope) -> Result:
        """Run the handler file of a Lambda step's function in a process of its own."""
        arn = str(resolve(step.body.get("FunctionArn", ""), scope))
        name = arn.rpartition(":")[2]
        file = _handler_file(self.context.root, name)
        environment = {"AWS_REGION": self.context.region, "AWS_LAMBDA_FUNCTION_NAME": name}
        command = [sys.executable, str(FUNCTION_PROCESS), str(file), "/opt/ml/event.json", "/opt/ml/answer.json"]
        with self.job_context(step) as context:
            hosts = make_hosts(1, context)
            (hosts[0].opt_ml / "event.json").write_text(json.dumps(arguments, default=str))
            run_hosts(hosts, command, lambda _: environment, context, FUNCTION_SECONDS, "failure")
            answer = json.loads((hosts[0].opt_ml / "answer.json").read_text())
        outputs = {}
        for output in step.body.get("OutputParameters") or []:
            key, kind = output["OutputName"], output["OutputType"]
            if not isinstance(answer, dict) or key not in answer:
                raise JobFailed(f"handler.py: its answer has no {key!r}, which the step declares as an output")
            if not isinstance(answer[key], OUTPUT_TYPES[kind]):
                raise JobFailed(f"handler.py: output {key!r} is {answer[key]!r}, and the step declares {kind}")
            outputs[key] = answer[key]
        shown = [{"Name": key, "Value": str(value)} for key, value in outputs.items()]
        return Result({"OutputParameters": outputs}, {"Lambda": {"Arn": arn, "OutputParameters": shown}}, {})

    def job_name(self, step: Step) -> str:
        """Return the name of a step's job; it ends in a digest, where SageMaker has random characters."""
        end = hashlib.sha256(f"{self.execution.id}/{step.name}".encode()).hexdigest()[:10]
        return f"pipelines-{self.execution.id}-{step.name}-{end}"

    @contextmanager
    def job_context(self, step: Step) -> Iterator[Context]:
        """Give a step's job an empty folder of its own, and delete the folder afterwards."""
        folder = self.context.folder / self.job_name(step)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # files of an earlier attempt would pass as outputs of this one
            raise JobFailed(f"{folder}: the files of an earlier attempt cannot be deleted", INTERNAL_ERROR) from None
        try:
            yield replace(self.context, folder=folder, log=self.execution.log(step.name))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def evaluate_condition(condition: Json, scope: Scope) -> bool:
    """Evaluate one condition of a Condition step, such as those of the gate.

    Raises InvalidReference for a missing value and for values of different types: text never compares with a number.
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


def _handler_file(root: Path, function: str) -> Path:
    for file in (root / "infra").glob("*/handler.py"):
        if function == file.parent.name or function.endswith(f"-{file.parent.name}"):
            return file
    raise JobFailed(f"function {function!r} has no local handler: add infra/{function}/handler.py")


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
