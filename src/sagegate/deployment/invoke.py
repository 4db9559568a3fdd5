"""`sagegate invoke`: send a request to a model that `sagegate serve` serves, or to an endpoint, and print the response.

`sagegate invoke --env ENV --batch s3://...` runs a batch transform job with the deployed model over whole files.
Source: "Use Batch Transform to Get Inferences from Large Datasets" in the SageMaker developer guide.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import uuid
from contextlib import suppress
from pathlib import Path

from botocore.exceptions import WaiterError

from sagegate import output
from sagegate.account import cloudformation
from sagegate.deployment.smoke_test import JSON, Response, endpoint_invoker, read_sample, url_invoker
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json, split_uri
from sagegate.registry import champion, deployments
from sagegate.registry.approval import artifact_uri
from sagegate.session import Session, read_object

CSV = "text/csv"
CONTENT_TYPES = {".csv": CSV, ".json": JSON}
POLL_SECONDS = 10.0
MAX_POLLS = 100_000  # SageMaker ends a job itself


def invoke_url(session: Session, file: Path | None, url: str) -> None:
    """Send `file`, by default the champion's sample request, to URL/invocations and print the response."""
    if not url.startswith(("http://", "https://")):
        raise SagegateError(f"--url {url}: an address begins with http://, such as http://127.0.0.1:8080", USAGE)
    body, content_type = _read_request(file) if file else (_champion_sample(session), JSON)
    try:
        _print(url_invoker(url)(body, content_type))
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SagegateError(
            f"nothing answers at {url} ({reason}): start `sagegate serve` in another terminal"
        ) from None


def invoke_endpoint(session: Session, file: Path | None) -> None:
    """Send `file`, by default the deployed model's sample request, to the endpoint and print the response."""
    name = session.environment.name
    if session.environment.endpoint.mode == "batch":
        raise SagegateError(
            f"{name} has no endpoint (mode = batch): `sagegate invoke --env {name} --batch s3://BUCKET/PREFIX`"
        )
    body, content_type = _read_request(file) if file else (_deployed_sample(session), JSON)
    _print(endpoint_invoker(session)(body, content_type))


def invoke_batch(session: Session, source: str, destination: str | None) -> None:
    """Run a transform job over the objects at `source` and wait for it; answers go to `destination` or `batch/ENV/`.

    Raises SagegateError if nothing is deployed, `source` has no objects, or the job fails.
    """
    for uri in filter(None, (source, destination)):
        if not uri.startswith("s3://"):
            raise SagegateError(f"{uri}: a batch reads and writes S3: s3://BUCKET/PREFIX", USAGE)
    stack = cloudformation.describe_stack(session.client("cloudformation"), session.names.endpoint_stack)
    deployed = cloudformation.outputs_of(stack) if stack else {}
    if "ModelName" not in deployed:
        raise _nothing_deployed(session.environment.name)
    name = f"{session.names.endpoint}-{deployed['ModelVersion']}-{uuid.uuid4().hex[:12]}"
    target = (destination or f"{session.names.artifacts}/batch/{session.environment.name}/{name}").rstrip("/")
    content_type = _content_type_of_objects(session, source)
    request = transform_job(session, name, deployed["ModelName"], source, content_type, target)
    with suppress(session.sagemaker.exceptions.ResourceInUse):  # a retry after a lost response: the job exists
        session.sagemaker.create_transform_job(**request)
    output.line(f"transform job {name}: model {deployed['ModelVersion']} answers {source} (Ctrl-C does not stop it)")
    with suppress(WaiterError):  # the description below has the status and its reason, or raises AWS's own error
        config = {"Delay": cloudformation.poll_seconds(POLL_SECONDS), "MaxAttempts": MAX_POLLS}
        waiter = session.sagemaker.get_waiter("transform_job_completed_or_stopped")
        waiter.wait(TransformJobName=name, WaiterConfig=config)
    job = session.sagemaker.describe_transform_job(TransformJobName=name)
    if job["TransformJobStatus"] != "Completed":
        raise SagegateError(
            f"transform job {name}: {job['TransformJobStatus']}: {job.get('FailureReason', 'no reason was given')}; "
            f"its log is in CloudWatch Logs, /aws/sagemaker/TransformJobs, streams {name}/..."
        )
    output.verdict(True, f"transform job {name}: the answers are at {target}/", None)


def transform_job(session: Session, name: str, model: str, source: str, content_type: str, target: str) -> Json:
    """Return the CreateTransformJob request. A CSV file is answered line by line, a JSON file is one request."""
    environment = session.environment
    key = environment.encryption.kms_key_arn if environment.encryption else None
    split = "Line" if content_type == CSV else "None"
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
            "ContentType": content_type,
            "SplitType": split,
        },
        "TransformOutput": {
            "S3OutputPath": target,
            "Accept": content_type,  # CSV for CSV: JSON responses cannot be joined line by line
            "AssembleWith": split,
            **({"KmsKeyId": key} if key else {}),
        },
        "BatchStrategy": "MultiRecord" if content_type == CSV else "SingleRecord",
        "TransformResources": {
            "InstanceType": environment.endpoint.instance_type,
            "InstanceCount": environment.endpoint.min_instance_count,
            **({"VolumeKmsKeyId": key} if key else {}),
        },
        "Tags": [
            {"Key": "project", "Value": session.names.project},
            {"Key": "environment", "Value": environment.name},
        ],
    }


def _content_type_of_objects(session: Session, source: str) -> str:
    """Return the content type of the objects at `source`, by the name of the first one."""
    bucket, prefix = split_uri(source)
    objects = session.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=10).get("Contents", [])
    keys = [item["Key"] for item in objects if not item["Key"].endswith("/")]
    if not keys:
        raise SagegateError(f"{source}: there is no object")
    return _content_type(keys[0])


def _read_request(file: Path) -> tuple[bytes, str]:
    if not file.is_file():
        raise SagegateError(f"{file}: there is no such file", USAGE)
    return file.read_bytes(), _content_type(file.name)


def _content_type(name: str) -> str:
    content_type = CONTENT_TYPES.get(Path(name).suffix.lower())
    if content_type is None:
        raise SagegateError(f"{name}: a request is a .csv (without a header) or a .json file", USAGE)
    return content_type


def _champion_sample(session: Session) -> bytes:
    if champion.current_champion(session) is None:
        raise SagegateError(
            "no model is approved yet, so there is no sample request: name a file, `sagegate invoke rows.csv`"
        )
    return read_sample(read_object(session, f"{session.names.artifacts}/champion/{champion.MODEL}") or b"").request


def _deployed_sample(session: Session) -> bytes:
    record = deployments.last_healthy(session)
    if record is None:
        raise _nothing_deployed(session.environment.name)
    package = session.sagemaker.describe_model_package(ModelPackageName=record.model_package_arn)
    uri = artifact_uri(package)
    artifact = read_object(session, uri)
    if artifact is None:
        raise SagegateError(f"the deployed model's artifact {uri} no longer exists: name a file with a request")
    return read_sample(artifact).request


def _nothing_deployed(environment: str) -> SagegateError:
    if environment not in deployments.DEPLOYABLE:
        return SagegateError(f"{environment} has no endpoint: choose {' or '.join(deployments.DEPLOYABLE)}")
    return SagegateError(f"nothing is deployed to {environment}: `sagegate deploy {environment}`")


def _print(response: Response) -> None:
    """Print a JSON response. Raises SagegateError with the model's own message for any other status than 200."""
    text = response.body.decode(errors="replace").strip()
    if response.status == 200:
        output.console.print_json(text)
        return
    try:
        text = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        text = text[:500]
    raise SagegateError(f"the model rejects the request ({response.status}): {text}")
