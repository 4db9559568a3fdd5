"""Ways to ask a served model: an endpoint of SageMaker's, real-time, serverless or asynchronous, or a URL."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from mlops.aws import Door
from mlops.deployment.smoke import JSON, Answer
from mlops.errors import MlopsError
from mlops.evidence import object_bytes
from mlops.files import split_uri

Ask = Callable[[bytes, str], Answer]
ASYNCHRONOUS_LIMIT_SECONDS = 300


def endpoint_caller(door: Door) -> Ask:
    """Asks the environment's endpoint, in the way that its mode needs."""
    if door.environment.endpoint.mode == "asynchronous":
        return lambda body, kind: _ask_asynchronously(door, body, kind)
    return lambda body, kind: _ask_endpoint(door, body, kind)


def _ask_endpoint(door: Door, body: bytes, content_type: str) -> Answer:
    """InvokeEndpoint; an error that the model itself answered is an answer, not an exception."""
    request = {"EndpointName": door.names.endpoint, "ContentType": content_type, "Accept": JSON, "Body": body}
    try:
        found = door.client("sagemaker-runtime").invoke_endpoint(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ModelError":
            raise
        answered: dict[str, Any] = dict(error.response)
        status = int(answered.get("OriginalStatusCode", 500))
        said = answered.get("OriginalMessage") or error.response["Error"].get("Message", "")
        return Answer(status, "text/plain", str(said).encode())
    return Answer(found["ResponseMetadata"]["HTTPStatusCode"], found["ContentType"], found["Body"].read())


def _ask_asynchronously(door: Door, body: bytes, content_type: str) -> Answer:
    """InvokeEndpointAsync: the request goes through S3, and so does the answer."""
    place = f"{door.names.artifacts}/capture/{door.environment.name}/asynchronous/input/{uuid.uuid4().hex}"
    bucket, key = split_uri(place)
    door.s3.put_object(Bucket=bucket, Key=key, Body=body)
    runtime = door.client("sagemaker-runtime")
    request = {"EndpointName": door.names.endpoint, "ContentType": content_type, "Accept": JSON}
    sent = runtime.invoke_endpoint_async(**request, InputLocation=place)
    end = time.monotonic() + ASYNCHRONOUS_LIMIT_SECONDS
    while time.monotonic() < end:
        for location, status in ((sent["OutputLocation"], 200), (sent.get("FailureLocation"), 500)):
            found = object_bytes(door, location) if location else None
            if found is not None:
                return Answer(status, JSON if status == 200 else "text/plain", found)
        time.sleep(float(os.environ.get("MLOPS_POLL_SECONDS") or 1))
    raise MlopsError(f"endpoint {door.names.endpoint} gave no answer in {ASYNCHRONOUS_LIMIT_SECONDS} s: see its log")


def url_caller(url: str) -> Ask:
    """Asks a model at `URL/invocations`, as `mlops serve` serves it."""

    def ask(body: bytes, content_type: str) -> Answer:
        headers = {"Content-Type": content_type, "Accept": JSON}
        request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as found:
                return Answer(found.status, found.headers.get("Content-Type", ""), found.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers.get("Content-Type", ""), error.read())

    return ask
