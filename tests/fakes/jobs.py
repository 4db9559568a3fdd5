"""Steps and jobs of executions: run by the local engine, described, logged and explained as SageMaker does.

Sources: "Caching pipeline steps" and the failure reasons in "Troubleshoot errors" in the SageMaker developer guide. A
job's output is in CloudWatch Logs: group `/aws/sagemaker/ProcessingJobs` (TrainingJobs, TransformJobs), stream
`JOB/algo-N-SECONDS` for each host.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import string
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from moto.awslambda.models import lambda_backends
from moto.iam.models import iam_backends
from moto.logs.models import logs_backends
from moto.utilities.utils import get_partition

from fakes.storage import NoSuchBucket
from sagegate.files import Json
from sagegate.local.cache import Cache, parse_duration, relevant
from sagegate.local.jobs import ALGORITHM_ERROR, Context, JobFailed, JobStopped
from sagegate.local.references import Scope, resolve
from sagegate.local.state import Execution, now, read_json
from sagegate.local.steps import JOBS, Result, StepRunner
from sagegate.local.tuning import training_job_name
from sagegate.pipeline.definition import Step, hyperparameters_of, training_requests
from sagegate.pipeline.shapes import STEPS, request_errors

if TYPE_CHECKING:
    from fakes.pipelines import Service

Run = Callable[[str, Json, Context], Json]
LETTERS = string.ascii_letters + string.digits
EXIT = re.compile(r"(?s)(.*) \(exit code (-?\d+)(?: on \S+)?\)")
MEMORY = (
    "ClientError: Please use an instance type with more memory, "
    "or reduce the size of job data processed on an instance."
)


@dataclass
class Fault:
    """A failure that a test asks for: the next attempt of the job of `step` fails with `reason`.

    `when` is `create` (the job is rejected) or `before` (it fails without running). `log` are lines that the job writes
    before it fails.
    """

    step: str
    reason: str
    when: str = "before"
    log: tuple[str, ...] = ()


class Faults:
    """The faults that have not been used up."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        self._faults.append(fault)

    def take(self, step: str) -> Fault | None:
        """Return the first fault for a step, and remove it."""
        with self._lock:
            fault = next((f for f in self._faults if f.step == step), None)
            if fault:
                self._faults.remove(fault)
            return fault


class Jobs:
    """The jobs of an account and region in the shapes of Describe*, and which step started which job."""

    def __init__(self) -> None:
        self._described: dict[tuple[str, str], Json] = {}
        self._of_step: dict[tuple[str, str], Json] = {}

    def begin(self, execution: str, step: str, kind: str, record: Json) -> None:
        """Add a job that starts."""
        self._described[kind, record[f"{kind}JobName"]] = record
        member = "TuningJob" if kind == "HyperParameterTuning" else f"{kind}Job"
        self._of_step[execution, step] = {member: {"Arn": record[f"{kind}JobArn"]}}

    def end(self, kind: str, record: Json, status: str, reason: str = "") -> None:
        """Save how a job ended that did not complete."""
        ended = {f"{kind}JobStatus": status, f"{kind}EndTime": now(), "LastModifiedTime": now()}
        if kind == "Training":
            ended["SecondaryStatus"] = status
            ended["BillableTimeInSeconds"] = max(1, round((now() - record["CreationTime"]).total_seconds()))
        if reason:
            ended["FailureReason"] = reason[:1024]
        self._described[kind, record[f"{kind}JobName"]] = record | ended

    def complete(self, kind: str, name: str, description: Json) -> None:
        """Save the description of a job that completed."""
        more = {"TrainingTimeInSeconds": description["BillableTimeInSeconds"]} if kind == "Training" else {}
        self._described[kind, name] = description | more | {"LastModifiedTime": now()}

    def describe(self, kind: str, name: str) -> Json | None:
        """Return a job's description, or None."""
        return self._described.get((kind, name))

    def trials(self, tuning_job: str) -> list[Json]:
        """Return the summaries of a tuning job's training jobs, the best first and those that failed last."""
        found = self._described.get(("HyperParameterTuning", tuning_job)) or {}
        return [*found.get("TrainingJobSummaries", []), *found.get("Failed", [])]

    def metadata(self, execution: str, step: str) -> Json:
        """Return the Metadata of a step that has a job, else {}."""
        return self._of_step.get((execution, step), {})


class UriCache(Cache):
    """SageMaker's step cache: it compares arguments, S3 URIs among them, never the content behind a URI."""

    def key(self, pipeline: str, step: str, kind: str, arguments: Json) -> str:
        """Return the digest of the arguments that SageMaker compares."""
        return hashlib.sha256(
            json.dumps([pipeline, step, relevant(kind, arguments)], sort_keys=True).encode()
        ).hexdigest()

    def find(self, key: str, expire_after: str | None) -> Json | None:
        """Return the entry of `key` unless it is too old. SageMaker does not look whether its outputs still exist."""
        file = self.folder / f"{key}.json"
        if not file.is_file():
            return None
        entry = read_json(file)
        return None if expire_after and now() - entry["CreationTime"] > parse_duration(expire_after) else entry


class FakeStepRunner(StepRunner):
    """Runs the steps of an execution in an account of the fake."""

    def __init__(self, execution: Execution, context: Context, service: Service) -> None:
        super().__init__(execution, context, service.cache, service.registry)
        self.service = service

    def run(self, step: Step, arguments: Json, scope: Scope) -> Result:
        """Run a step. Raises JobFailed if SageMaker's model refuses the step's request, as StepRunner.run does."""
        operation, name, _ = STEPS.get(step.type, ("", "", []))
        if operation and (errors := request_errors(operation, {name: "x"} | arguments)):
            details = f"{len(errors)} validation error detected: {'; '.join(errors)}"
            raise JobFailed(f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: {details}")
        return super().run(step, arguments, scope)

    def job_name(self, step: Step) -> str:
        """Return a name with SageMaker's random end; that of a tuning job has at most 32 characters, and no prefix."""
        end = "".join(secrets.choice(LETTERS) for _ in range(10))
        if step.type == "Tuning":
            return f"{self.execution.id}-{step.name[:7]}-{end}"
        return f"pipelines-{self.execution.id}-{step.name}-{end}"

    def job_function(self, step_type: str) -> Run:
        """Return a function that runs a job as `_run_job` does."""
        inner, kind = super().job_function(step_type), JOBS[step_type]
        return lambda name, request, context: self._run_job(kind, name, request, context, inner)

    def run_lambda(self, step: Step, arguments: Json, scope: Scope) -> Result:
        """Run the code that moto's Lambda has, unpacked to `infra/FUNCTION/handler.py`, where the engine expects it."""
        arn = str(resolve(step.body.get("FunctionArn", ""), scope))
        name = arn.rpartition(":")[2]
        functions = lambda_backends[self.context.account_id][self.context.region].list_functions()
        function = next((f for f in functions if f.function_name == name), None)
        if function is None:
            raise JobFailed(f"ClientError: Failed to invoke lambda: Function not found: {arn}")
        with tempfile.TemporaryDirectory(dir=self.context.folder.parent) as root:
            code = Path(root) / "infra" / name
            code.mkdir(parents=True)
            with zipfile.ZipFile(io.BytesIO(function.code_bytes or b"")) as packed:
                packed.extractall(code)
            module, _, entry = str(function.handler).rpartition(".")
            if module != "handler":  # CloudFormation's inline code is index.handler
                (code / "handler.py").write_text(f"from {module} import {entry} as handler\n", encoding="utf-8")
            runner = FakeStepRunner(self.execution, replace(self.context, root=Path(root)), self.service)
            return StepRunner.run_lambda(runner, step, arguments, scope)

    def _run_job(self, kind: str, name: str, request: Json, context: Context, inner: Run) -> Json:
        """Run a job; keep its record and log. Raises JobFailed with SageMaker's words, or JobStopped."""
        step = context.log.stem
        fault = self.service.faults.take(step)
        if fault and fault.when == "create":
            raise JobFailed(fault.reason)
        for definition in training_requests("Tuning", request) or [request]:
            self._check_role_and_inputs(kind, definition)
        for file in [context.log, *context.log.parent.glob(f"{step}.*.log")]:
            file.unlink(missing_ok=True)  # of an earlier attempt
        started = now()
        record = request | self.service.job_record(kind, name, started)
        self.service.jobs.begin(self.execution.id, step, kind, record)
        try:
            if fault:
                raise JobFailed(fault.reason)
            try:
                description = inner(name, request, context)
            except JobFailed as error:
                raise JobFailed(failure_reason(kind, str(error), request), error.kind) from None
        except JobStopped:
            self.service.jobs.end(kind, record, "Stopped")
            raise
        except (JobFailed, ValueError, OSError) as error:
            reason = upload_failed(error) if isinstance(error, NoSuchBucket) else str(error)
            if kind == "HyperParameterTuning" and not fault:
                record |= {"Failed": self._failed_trials(name, context.log, reason, started)}
                reason = ALL_FAILED
            self.service.jobs.end(kind, record, "Failed", reason)
            raise JobFailed(reason, getattr(error, "kind", ALGORITHM_ERROR)) from None
        finally:
            self._publish_logs(kind, name, context.log, started, fault.log if fault else ())
        self.service.jobs.complete(kind, name, description)
        return description

    def _failed_trials(self, name: str, log: Path, reason: str, started: datetime) -> list[Json]:
        """Return the summaries of the training jobs of a tuning job of which none succeeded."""
        count = len(list(log.parent.glob(f"{log.stem}.???.log")))
        return [
            {
                "TrainingJobName": training_job_name(name, number),
                "TrainingJobArn": self.context.arn(f"training-job/{training_job_name(name, number)}"),
                "TrainingJobStatus": "Failed",
                **{key: started for key in ("CreationTime", "TrainingStartTime")},
                "TrainingEndTime": now(),
                "TunedHyperParameters": {},
                "FailureReason": reason,
            }
            for number in range(1, count + 1)
        ]

    def _check_role_and_inputs(self, kind: str, request: Json) -> None:
        """Raise JobFailed if SageMaker would not create the job."""
        failed = f"ClientError: Failed to invoke sagemaker:Create{kind}Job. Error Details: "
        role = str(request.get("RoleArn") or self.service.role_of(self.execution))
        if not trusts_sagemaker(role):
            text = f"Could not assume role {role}. Please ensure that the role exists and allows principal "
            raise JobFailed(f"{failed}{text}'sagemaker.amazonaws.com' to assume the role.", JOB_CREATION_ERROR)
        for uri in inputs(request):
            try:
                missing = "" if self.context.store.objects(uri) else " "
            except NoSuchBucket:
                missing = " Error message from S3: The specified bucket does not exist"
            if missing:
                text = f'No S3 objects found under S3 URL "{uri}" given in input data source.'
                raise JobFailed(f"{failed}{text}{missing}".rstrip())

    def _publish_logs(self, kind: str, name: str, log: Path, started: datetime, more: tuple[str, ...]) -> None:
        if kind == "HyperParameterTuning":
            for file in log.parent.glob(f"{log.stem}.???.log"):
                job = training_job_name(name, int(file.name.split(".")[-2]))
                self.service.publish_log("Training", job, started, "algo-1", read_lines(file))
            return
        hosts = {file.name.split(".")[-2]: file for file in sorted(log.parent.glob(f"{log.stem}.algo-*.log"))}
        for host, file in (hosts or {"algo-1": log}).items():
            lines = read_lines(file) + (list(more) if host == "algo-1" else [])
            self.service.publish_log(kind, name, started, host, lines)


ALL_FAILED = (
    "All training jobs failed. Please take a look at the training job failures to get more details."  # of a tuning job
)
JOB_CREATION_ERROR = "SageMaker.JOB_CREATION_ERROR"


def failure_reason(kind: str, local: str, request: Json) -> str:
    """Return a job's FailureReason for the local engine's one.

    SageMaker quotes only a training job that wrote `/opt/ml/output/failure`; the others' words are in their logs.
    """
    if kind == "HyperParameterTuning":
        kind, local = "Training", local.removeprefix("no training job of the tuning job succeeded: ")
    match = EXIT.fullmatch(local)
    if match is None:
        return local if local.startswith("ClientError") else f"ClientError: {local}"
    message, code = match[1], int(match[2])
    if code == -9:
        return MEMORY
    if kind != "Training":
        return f"{'AlgorithmError' if kind == 'Processing' else 'ClientError'}: See job logs for more information"
    (definition,) = training_requests("Tuning", request) or [request]
    parameters = hyperparameters_of(definition)
    own = " ".join(f"--{k} {v}" for k, v in sorted(parameters.items()) if not k.startswith("sagemaker_"))
    command = f"/miniconda3/bin/python3 {parameters.get('sagemaker_program', 'train.py')} {own}".strip()
    code = 128 - code if code < 0 else code
    script = f'ExecuteUserScriptError:\nExitCode {code}\nErrorMessage "{message}"\nCommand "{command}"'
    return f"AlgorithmError: {script}, exit code: {code}"


def upload_failed(error: NoSuchBucket) -> str:
    """Return the FailureReason of a job whose output bucket does not exist."""
    return f"ClientError: Artifact upload failed: {error}"


def inputs(request: Json) -> list[str]:
    """Return the S3 URIs that a job reads."""
    sources = [entry["S3Input"] for entry in request.get("ProcessingInputs") or [] if "S3Input" in entry]
    channels = list(request.get("InputDataConfig") or [])
    channels += [request["TransformInput"]] if "TransformInput" in request else []
    sources += [channel["DataSource"]["S3DataSource"] for channel in channels]
    return [str(source["S3Uri"]) for source in sources]


def trusts_sagemaker(role: str) -> bool:
    """Return True if a role exists in moto's IAM and SageMaker may assume it."""
    parts = role.split(":")
    roles = iam_backends[parts[4]][get_partition("us-east-1")].roles.values() if len(parts) == 6 else ()
    return any(r.arn == role and "sagemaker.amazonaws.com" in str(r.assume_role_policy_document) for r in roles)


def read_lines(file: Path) -> list[str]:
    """Return a file's lines; none if it does not exist."""
    return file.read_text(errors="replace").splitlines() if file.is_file() else []


def publish_log(account_id: str, region: str, group: str, stream: str, lines: list[str]) -> None:
    """Write lines to a log stream in moto's CloudWatch Logs."""
    if not lines:
        return
    backend = logs_backends[account_id][region]
    if group not in backend.groups:
        backend.create_log_group(group, {})
    backend.ensure_log_stream(group, stream)
    # One millisecond apart and none in the future: CloudWatch sorts events by time. An event has at most 256 KiB.
    first = int(datetime.now(UTC).timestamp() * 1000) - len(lines)
    events = [{"timestamp": first + i, "message": line[: 256 * 1024] or " "} for i, line in enumerate(lines)]
    backend.put_log_events(group, stream, events)
