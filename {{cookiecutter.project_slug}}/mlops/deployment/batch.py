"""`mlops invoke --env ENV --batch s3://IN`: the deployed model answers whole files, in a batch transform job.

Source: "Use Batch Transform to Get Inferences from Large Datasets" in the SageMaker developer guide.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from mlops import show
from mlops.accounts import stacks
from mlops.aws import Door
from mlops.deployment.invoke import nothing_deployed
from mlops.deployment.smoke import JSON
from mlops.errors import USAGE, MlopsError
from mlops.files import split_uri

Json = dict[str, Any]
CSV = "text/csv"
POLL_SECONDS = 10.0
TYPES = {".csv": CSV, ".json": JSON}


def batch(door: Door, source: str, output: str | None) -> None:
    """Run a job over the objects at `source` and follow it; answers go below `output`, or the bucket's `batch/ENV/`.

    Raises MlopsError if nothing is deployed, nothing is there to be answered, or the job fails.
    """
    for uri in filter(None, (source, output)):
        if not uri.startswith("s3://"):
            raise MlopsError(f"{uri}: the files of a batch are objects, s3://BUCKET/PREFIX", USAGE)
    stack = stacks.describe(door.client("cloudformation"), door.names.endpoint_stack)
    deployed = stacks.outputs_of(stack) if stack else {}
    if "ModelName" not in deployed:
        raise MlopsError(nothing_deployed(door.environment.name))
    name = f"{door.names.endpoint}-{deployed['ModelVersion']}-{uuid.uuid4().hex[:12]}"
    target = (output or f"{door.names.artifacts}/batch/{door.environment.name}/{name}").rstrip("/")
    asked = request(door, name, deployed["ModelName"], source, content_type(door, source), target)
    try:
        door.sagemaker.create_transform_job(**asked)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceInUse":  # the first answer was lost: the name is this job's own
            raise
    show.line(f"transform job {name}: model {deployed['ModelVersion']} answers {source} (it goes on if this ends)")
    ended = follow(door, name)
    status = ended["TransformJobStatus"]
    if status != "Completed":
        raise MlopsError(
            f"transform job {name}: {status}: {ended.get('FailureReason', 'no reason was given')}; its log is in "
            f"CloudWatch Logs, /aws/sagemaker/TransformJobs, streams {name}/..."
        )
    show.verdict(True, f"transform job {name}: the answers are at {target}/", None)


def request(door: Door, name: str, model: str, source: str, kind: str, target: str) -> Json:
    """The CreateTransformJob request. A CSV file is answered line by line; a JSON file is one request."""
    environment = door.environment
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
            {"Key": "project", "Value": door.names.project},
            {"Key": "environment", "Value": environment.name},
        ],
    }


def content_type(door: Door, source: str) -> str:
    """What the objects are, by the first one's name; raises MlopsError if there is none or it is neither."""
    bucket, prefix = split_uri(source)
    found = door.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=10).get("Contents", [])
    names = [item["Key"] for item in found if not item["Key"].endswith("/")]
    if not names:
        raise MlopsError(f"{source}: there is no object")
    kind = TYPES.get(Path(names[0]).suffix.lower())
    if kind is None:
        raise MlopsError(f"s3://{bucket}/{names[0]}: a request is a .csv (without a header) or a .json file", USAGE)
    return kind


def follow(door: Door, name: str) -> Json:
    """Wait for a job's end; its description."""
    pause = float(os.environ.get("MLOPS_POLL_SECONDS") or POLL_SECONDS)
    while True:
        found: Json = door.sagemaker.describe_transform_job(TransformJobName=name)
        if found["TransformJobStatus"] in ("Completed", "Failed", "Stopped"):
            return found
        time.sleep(pause)
