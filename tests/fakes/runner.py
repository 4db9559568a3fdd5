"""Runs the steps of one execution as SageMaker would: records of jobs, their logs, roles, and SageMaker's words."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from moto.iam.models import iam_backends
from moto.utilities.utils import get_partition

from fakes import functions, logs, reasons
from fakes.faults import Fault
from fakes.store import MotoStore, NoSuchBucket
from sagegate.files import Json, split_uri
from sagegate.local.jobs import ALGORITHM_ERROR, Context, JobFailed, JobStopped
from sagegate.local.references import Scope
from sagegate.local.state import Execution, now
from sagegate.local.steps import JOBS, Result, StepRunner
from sagegate.local.tuning import training_job_name
from sagegate.pipeline.definition import Step

if TYPE_CHECKING:
    from fakes.service import Service

Run = Callable[[str, Json, Context], Json]
LETTERS = string.ascii_letters + string.digits


class FakeStepRunner(StepRunner):
    """The steps of an execution in an account of the fake."""

    def __init__(self, execution: Execution, context: Context, service: Service) -> None:
        super().__init__(execution, context, service.cache, service.registry)
        self.service = service

    def run(self, step: Step, arguments: Json, scope: Scope, stopped: Callable[[], bool]) -> Result:
        """Run one step; a fault that is asked for comes first where the step has no job."""
        if step.type not in JOBS:
            fault = self._fault(step.name)
            if fault:
                raise JobFailed(fault.reason, fault.kind)
        return super().run(step, arguments, scope, stopped)

    def _fault(self, step: str) -> Fault | None:
        return self.service.faults.take(step, str(self.execution.record["PipelineExecutionArn"]))

    def job_name(self, step: Step) -> str:
        end = "".join(secrets.choice(LETTERS) for _ in range(10))
        return f"pipelines-{self.execution.id}-{step.name}-{end}"

    def job_function(self, kind: str) -> Run:
        inner, job = super().job_function(kind), JOBS[kind]

        def run(name: str, request: Json, context: Context) -> Json:
            return self._supervised(job, name, request, context, inner)

        return run

    def create_model(self, step: Step, arguments: Json) -> Result:
        """CreateModel, in moto's SageMaker."""
        result = super().create_model(step, arguments)
        model = result.properties
        self.service.backend.create_model(
            model_name=model["ModelName"],
            execution_role_arn=arguments.get("ExecutionRoleArn") or "",
            primary_container=arguments.get("PrimaryContainer"),
            vpc_config=arguments.get("VpcConfig"),
            containers=arguments.get("Containers"),
            tags=arguments.get("Tags"),
        )
        return result

    def run_lambda(self, step: Step, arguments: Json, scope: Scope, stopped: Callable[[], bool]) -> Result:
        """Invoke: the code that moto's Lambda holds, laid out as the engine expects it."""
        with functions.unpacked(step, scope, self.context) as root:
            steps = FakeStepRunner(self.execution, replace(self.context, root=root), self.service)
            return StepRunner.run_lambda(steps, step, arguments, scope, stopped)

    def _supervised(self, kind: str, name: str, request: Json, context: Context, inner: Run) -> Json:
        """Create a job, run it, keep its record and its log. Raises JobFailed in SageMaker's words, or JobStopped."""
        step = context.log.stem
        fault = self._fault(step)
        if fault and fault.when == "create":
            raise JobFailed(fault.reason, fault.kind)
        self._check(kind, request)
        for file in [context.log, *context.log.parent.glob(f"{step}.*.log")]:
            file.unlink(missing_ok=True)  # of an attempt before this one
        started = now()
        record = self._record(kind, name, request, started)
        self.service.jobs.begin(self.execution.id, step, kind, record)
        try:
            description = self._attempt(kind, name, request, context, inner, fault)
        except JobStopped:
            self.service.jobs.end(kind, record, "Stopped")
            raise
        except (JobFailed, ValueError, OSError) as error:
            failed = reasons.no_bucket(error.uri) if isinstance(error, NoSuchBucket) else str(error)
            self.service.jobs.end(kind, record, "Failed", failed)
            raise JobFailed(failed, getattr(error, "kind", ALGORITHM_ERROR)) from None
        finally:
            self._publish(kind, name, context.log, started, fault)
        self.service.jobs.complete(kind, name, description)
        return description

    def _attempt(self, kind: str, name: str, request: Json, context: Context, inner: Run, fault: Fault | None) -> Json:
        if fault and fault.when == "before":
            raise JobFailed(fault.reason, fault.kind)
        try:
            description = inner(name, request, context)
        except JobFailed as error:
            raise JobFailed(reasons.of_job(kind, str(error), _program(request)), error.kind) from None
        if fault:
            raise JobFailed(fault.reason, fault.kind)
        return description

    def _record(self, kind: str, name: str, request: Json, started: datetime) -> Json:
        resource = {"HyperParameterTuning": "hyper-parameter-tuning"}.get(kind, kind.lower())
        arn = f"{self.service.arn_head}:{resource}-job/{name}"
        times = {"CreationTime": started, "LastModifiedTime": started, f"{kind}StartTime": started}
        named = {f"{kind}JobName": name, f"{kind}JobArn": arn, f"{kind}JobStatus": "InProgress"}
        secondary = {"SecondaryStatus": "Training"} if kind == "Training" else {}
        return request | named | times | secondary

    def _check(self, kind: str, request: Json) -> None:
        """What SageMaker looks at before it makes a job: the role, and whether the inputs exist."""
        role = str(request.get("RoleArn") or self.service.role_of(self.execution))
        if self.service.check_roles and not assumable(role):
            raise JobFailed(reasons.refused(kind, reasons.role_unusable(role)), "SageMaker.JOB_CREATION_ERROR")
        store = self.context.store
        assert isinstance(store, MotoStore)
        for uri in inputs(request):
            bucket, _ = split_uri(uri)
            try:
                found, exists = bool(store.objects(uri)), True
            except NoSuchBucket:
                found = exists = False
            if not found:
                text = reasons.no_objects(uri, self.context.region, role, bucket, exists)
                raise JobFailed(reasons.refused(kind, text))

    def _publish(self, kind: str, name: str, log: Path, started: datetime, fault: Fault | None) -> None:
        """Put the output of every host into CloudWatch Logs, the lines that a fault asks for behind it."""
        where = (self.context.account_id, self.context.region)
        if kind == "HyperParameterTuning":
            for file in sorted(log.parent.glob(f"{log.stem}.[0-9][0-9][0-9].log")):
                job = training_job_name(name, int(file.name.split(".")[-2]))
                logs.publish(*where, "Training", job, started, "algo-1", _lines(file))
            return
        files = logs.host_files(log) or [("algo-1", log)]
        asked = list(fault.log) if fault else []
        for host, file in files:
            logs.publish(*where, kind, name, started, host, _lines(file) + (asked if host == "algo-1" else []))


def inputs(request: Json) -> list[str]:
    """The S3 URIs that a job reads."""
    sources = [entry["S3Input"] for entry in request.get("ProcessingInputs") or [] if "S3Input" in entry]
    channels = [
        *(request.get("InputDataConfig") or []),
        *([request["TransformInput"]] if "TransformInput" in request else []),
    ]
    sources += [c["DataSource"]["S3DataSource"] for c in channels]
    return [str(source["S3Uri"]) for source in sources]


def assumable(role: str) -> bool:
    """Whether a role exists in moto's IAM and SageMaker may assume it."""
    parts = role.split(":")
    backend = iam_backends[parts[4]][get_partition("us-east-1")] if len(parts) == 6 else None
    found = [r for r in backend.roles.values() if r.arn == role] if backend else []
    return bool(found) and "sagemaker.amazonaws.com" in str(found[0].assume_role_policy_document)


def _program(request: Json) -> str:
    parameters = request.get("HyperParameters") or {}
    own = " ".join(f"--{k} {v}" for k, v in sorted(parameters.items()) if not k.startswith("sagemaker_"))
    return f"/miniconda3/bin/python3 {parameters.get('sagemaker_program', 'train.py')} {own}".strip()


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines() if file.is_file() else []
