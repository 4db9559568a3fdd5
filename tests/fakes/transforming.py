"""CreateTransformJob outside a pipeline: the model's own inference code answers every object, as steps do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from moto.sagemaker.exceptions import SagemakerClientError

from fakes import logs, reasons
from fakes.operations import image
from fakes.store import NoSuchBucket
from sagegate.files import Json
from sagegate.local.jobs import Context, JobFailed
from sagegate.local.state import now
from sagegate.local.transform import run_transform_job

if TYPE_CHECKING:
    from fakes.service import Service

KIND = "Transform"


class InUse(SagemakerClientError):
    """The name is taken."""

    code = "ResourceInUse"


def create(service: Service, request: Json) -> Json:
    """CreateTransformJob: InProgress, then Completed or Failed. Raises as SageMaker does for a name or model."""
    name = str(request["TransformJobName"])
    arn = f"{service.arn_head}:transform-job/{name}"
    if service.jobs.describe(KIND, name):
        raise InUse(f"Job name must be unique within an AWS account and region, and {arn} exists.")
    model = image(service.backend, request["ModelName"])
    started = now()
    record = request | {
        "TransformJobArn": arn,
        "TransformJobStatus": "InProgress",
        "CreationTime": started,
        "TransformStartTime": started,
    }
    service.jobs.begin("", name, KIND, record)
    folder = service.state / "transform" / name
    context = Context(
        root=service.state.parent,
        store=service.store,
        launcher=service.launcher,
        folder=folder,
        log=folder / "Transform.log",
        region=service.region,
        account_id=service.account_id,
        modules=service.modules,
        stopped=lambda: False,
    )
    container = {"PrimaryContainer": {"ModelDataUrl": model.model_data_url}}

    def work() -> None:
        folder.mkdir(parents=True)
        try:
            done = run_transform_job(name, request, container, context)
        except (JobFailed, NoSuchBucket) as error:
            said = reasons.no_bucket(error.uri) if isinstance(error, NoSuchBucket) else reasons.of_job(KIND, str(error))
            service.jobs.end(KIND, record, "Failed", said)
        else:
            service.jobs.complete(KIND, name, done)
        finally:
            logs.publish(service.account_id, service.region, KIND, name, started, "algo-1", _lines(context.log))

    threading.Thread(target=work, name=f"transform job {name}", daemon=True).start()
    return {"TransformJobArn": arn}


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines() if file.is_file() else []
