"""`sagegate invoke`: send a request to a served model, on this machine or behind an endpoint, and print its answer.
`sagegate invoke --env ENV --batch s3://IN`: the deployed model answers whole files, in a batch transform job.

Source: "Use Batch Transform to Get Inferences from Large Datasets" in the SageMaker developer guide.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from botocore.exceptions import ClientError

from sagegate import output
from sagegate.account import cloudformation as stacks
from sagegate.deployment.smoke_test import JSON
from sagegate.errors import USAGE, SagegateError
from sagegate.files import Json, split_uri
from sagegate.registry import champion, deployments
from sagegate.registry.evaluation import read_object
from sagegate.session import Session

INVOKE_TYPES = {".csv": "text/csv", ".json": "application/json"}


def invoke(session: Session, file: Path | None, url: str) -> None:
    """POST `file` (the champion's own sample request by default) to URL/invocations; prints the prediction."""
    body, kind = _request(file) if file else (_sample(session), INVOKE_TYPES[".json"])
    headers = {"Content-Type": kind, "Accept": "application/json"}
    if not url.startswith(("http://", "https://")):
        raise SagegateError(f"--url {url}: an address begins with http://, such as http://127.0.0.1:8080", USAGE)
    request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            output.console.print_json(answer.read().decode())
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip()
        raise SagegateError(f"the model refused the request ({error.code}): {_message(said)}") from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SagegateError(
            f"nothing answers at {url} ({reason}): start `sagegate serve` in another terminal"
        ) from None


def invoke_endpoint(session: Session, file: Path | None) -> None:
    """Ask the environment's endpoint; by default the sample request of the model that was deployed last."""
    from sagegate.deployment.smoke_test import endpoint_caller

    name = session.environment.name
    if session.environment.endpoint.mode == "batch":
        raise SagegateError(
            f"{name} has no endpoint (mode = batch): `sagegate invoke --env {name} --batch s3://BUCKET/PREFIX`"
        )
    body, kind = _request(file) if file else (_deployed_sample(session), INVOKE_TYPES[".json"])
    answer = endpoint_caller(session)(body, kind)
    said = answer.body.decode(errors="replace").strip()
    if answer.status != 200:
        raise SagegateError(f"the model refused the request ({answer.status}): {_message(said)}")
    output.console.print_json(said)


def _request(file: Path) -> tuple[bytes, str]:
    """A file's content and content type."""
    if not file.is_file():
        raise SagegateError(f"{file}: there is no such file", USAGE)
    kind = INVOKE_TYPES.get(file.suffix.lower())
    if kind is None:
        raise SagegateError(f"{file.name}: a request is a .csv or a .json file", USAGE)
    return file.read_bytes(), kind


def _deployed_sample(session: Session) -> bytes:
    """The sample request in the artifact of the model that serves."""
    from sagegate.deployment.smoke_test import sample_of

    record = deployments.last_healthy(session)
    if record is None:
        raise SagegateError(nothing_deployed(session.environment.name))
    package = session.sagemaker.describe_model_package(ModelPackageName=record.model_package_arn)
    uri = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    artifact = read_object(session, uri)
    if artifact is None:
        raise SagegateError(f"the deployed model's artifact {uri} does not exist any more: name a file with a request")
    return sample_of(artifact).request


def nothing_deployed(environment: str) -> str:
    """What to say of an environment without an endpoint."""
    if environment not in deployments.DEPLOYABLE:
        return f"{environment} has no endpoint: choose {' or '.join(deployments.DEPLOYABLE)}"
    return f"nothing is deployed to {environment}: `sagegate deploy {environment}`"


def _sample(session: Session) -> bytes:
    """The sample request that train.py put into the champion's artifact."""
    if champion.current_champion(session) is None:
        raise SagegateError(
            "no model is approved yet, so there is no sample request: name a file, `sagegate invoke rows.csv`"
        )
    bucket, key = split_uri(f"{session.names.artifacts}/champion/{champion.MODEL}")
    content = session.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = tar.extractfile("sample_request.json")
        assert member is not None
        return member.read()


def _message(said: str) -> str:
    try:
        return str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        return said[:500]


CSV = "text/csv"
POLL_SECONDS = 10.0
BATCH_TYPES = {".csv": CSV, ".json": JSON}


def batch(session: Session, source: str, destination: str | None) -> None:
    """Run a job over the objects at `source` and follow it; answers go below `destination`, or the bucket's `batch/ENV/`.

    Raises SagegateError if nothing is deployed, nothing is there to be answered, or the job fails.
    """
    for uri in filter(None, (source, destination)):
        if not uri.startswith("s3://"):
            raise SagegateError(f"{uri}: the files of a batch are objects, s3://BUCKET/PREFIX", USAGE)
    stack = stacks.describe_stack(session.client("cloudformation"), session.names.endpoint_stack)
    deployed = stacks.outputs_of(stack) if stack else {}
    if "ModelName" not in deployed:
        raise SagegateError(nothing_deployed(session.environment.name))
    name = f"{session.names.endpoint}-{deployed['ModelVersion']}-{uuid.uuid4().hex[:12]}"
    target = (destination or f"{session.names.artifacts}/batch/{session.environment.name}/{name}").rstrip("/")
    asked = request(session, name, deployed["ModelName"], source, content_type(session, source), target)
    try:
        session.sagemaker.create_transform_job(**asked)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceInUse":  # the first answer was lost: the name is this job's own
            raise
    output.line(f"transform job {name}: model {deployed['ModelVersion']} answers {source} (it goes on if this ends)")
    ended = follow(session, name)
    status = ended["TransformJobStatus"]
    if status != "Completed":
        raise SagegateError(
            f"transform job {name}: {status}: {ended.get('FailureReason', 'no reason was given')}; its log is in "
            f"CloudWatch Logs, /aws/sagemaker/TransformJobs, streams {name}/..."
        )
    output.verdict(True, f"transform job {name}: the answers are at {target}/", None)


def request(session: Session, name: str, model: str, source: str, kind: str, target: str) -> Json:
    """The CreateTransformJob request. A CSV file is answered line by line; a JSON file is one request."""
    environment = session.environment
    key = {"KmsKeyId": environment.encryption.kms_key_arn} if environment.encryption else {}
    volume = {"VolumeKmsKeyId": environment.encryption.kms_key_arn} if environment.encryption else {}
    lines = kind == CSV
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
            "ContentType": kind,
            "SplitType": "Line" if lines else "None",
        },
        # JSON cannot be put together line by line; the model answers CSV with CSV.
        "TransformOutput": {
            "S3OutputPath": target,
            "Accept": kind,
            "AssembleWith": "Line" if lines else "None",
            **key,
        },
        "BatchStrategy": "MultiRecord" if lines else "SingleRecord",
        "TransformResources": {
            "InstanceType": environment.endpoint.instance_type,
            "InstanceCount": environment.endpoint.min_instance_count,
            **volume,
        },
        "Tags": [
            {"Key": "project", "Value": session.names.project},
            {"Key": "environment", "Value": environment.name},
        ],
    }


def content_type(session: Session, source: str) -> str:
    """What the objects are, by the first one's name; raises SagegateError if there is none or it is neither."""
    bucket, prefix = split_uri(source)
    found = session.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=10).get("Contents", [])
    names = [item["Key"] for item in found if not item["Key"].endswith("/")]
    if not names:
        raise SagegateError(f"{source}: there is no object")
    kind = BATCH_TYPES.get(Path(names[0]).suffix.lower())
    if kind is None:
        raise SagegateError(f"s3://{bucket}/{names[0]}: a request is a .csv (without a header) or a .json file", USAGE)
    return kind


def follow(session: Session, name: str) -> Json:
    """Wait for a job's end; its description."""
    pause = float(os.environ.get("SAGEGATE_POLL_SECONDS") or POLL_SECONDS)
    while True:
        found: Json = session.sagemaker.describe_transform_job(TransformJobName=name)
        if found["TransformJobStatus"] in ("Completed", "Failed", "Stopped"):
            return found
        time.sleep(pause)
