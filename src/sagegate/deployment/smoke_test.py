"""The smoke test: a served model must answer its own sample request as it did after training, and fast enough.

model/train.py writes the request and the response into the artifact (`sample_request.json`, `sample_response.json`).
The artifact's digest is pinned, so the test compares with exactly the model that was evaluated and reviewed.
"""

from __future__ import annotations

import io
import json
import math
import statistics
import tarfile
import time
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sagegate.account.cloudformation import poll_seconds
from sagegate.aws_errors import explain_aws_error, is_expired
from sagegate.errors import SagegateError
from sagegate.files import split_uri
from sagegate.session import Session, read_object

JSON = "application/json"
REQUESTS = 20
ASYNCHRONOUS_REQUESTS = 3
ASYNCHRONOUS_LIMIT_SECONDS = 300
# Another processor's float32 arithmetic may change the last digits.
TOLERANCE = 1e-5


class SmokeTestFailed(SagegateError):
    """A served model that answers wrongly, too slowly or not at all."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"smoke test failed: {reason}")


@dataclass(frozen=True)
class Response:
    """A served model's response to one request."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Sample:
    """A request's body and the JSON response that the model gave to it after training."""

    request: bytes
    response: Any


@dataclass(frozen=True)
class SmokeResult:
    """A smoke test that passed; latencies in milliseconds, measured by the client."""

    requests: int
    rows: int
    median: float
    slowest: float

    def __str__(self) -> str:
        return (
            f"smoke test passed: {self.requests} requests, {self.rows} predictions as recorded, "
            f"latency median {self.median:.0f} ms, slowest {self.slowest:.0f} ms"
        )


Invoke = Callable[[bytes, str], Response]  # the request's body and content type


def read_sample(artifact: bytes) -> Sample:
    """Return the sample in a model artifact (.tar.gz). Raises SagegateError if it has none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(artifact)) as tar:
            request, response = (tar.extractfile(f"sample_{name}.json") for name in ("request", "response"))
            if request is None or response is None:
                raise KeyError("not a file")
            return Sample(request.read(), json.load(response))
    except (KeyError, ValueError, EOFError, OSError, zlib.error, tarfile.TarError) as error:
        raise SagegateError(
            f"the model artifact holds no sample request ({error}): model/train.py must write it"
        ) from None


def smoke_test_endpoint(session: Session, sample: Sample) -> SmokeResult:
    """Test the environment's endpoint. Raises SmokeTestFailed, also if the endpoint cannot be invoked.

    An error of expired credentials is raised unchanged, because nobody could roll back with them.
    """
    endpoint = session.environment.endpoint
    invoke = endpoint_invoker(session)
    try:
        if endpoint.mode == "asynchronous":  # the response comes through S3, so its latency says nothing
            return run_smoke_test(invoke, sample, math.inf, ASYNCHRONOUS_REQUESTS)
        return run_smoke_test(invoke, sample, float(endpoint.max_latency_in_milliseconds))
    except SmokeTestFailed:
        raise
    except (ClientError, BotoCoreError, SagegateError, OSError) as error:
        if is_expired(error):
            raise
        reason = " ".join(str(explain_aws_error(error) or error).split())
        raise SmokeTestFailed(reason) from error


def run_smoke_test(invoke: Invoke, sample: Sample, max_median: float, requests: int = REQUESTS) -> SmokeResult:
    """Send the sample request `requests` times; `max_median` is the highest median latency in milliseconds.

    Raises SmokeTestFailed at the first wrong response, or if the median is too high. Errors of `invoke` pass through.
    """
    latencies: list[float] = []
    for _ in range(requests):
        start = time.perf_counter()
        response = invoke(sample.request, JSON)
        latencies.append((time.perf_counter() - start) * 1000)
        check_response(response, sample.response)
    median = statistics.median(latencies)
    if median > max_median:
        raise SmokeTestFailed(f"the median latency is {median:.0f} ms, more than {max_median:.0f} ms")
    return SmokeResult(requests, len(sample.response.get("predictions", [])), median, max(latencies))


def check_response(response: Response, expected: Any) -> None:
    """Raise SmokeTestFailed if the status, content type or JSON of a response is not as expected."""
    if response.status != 200:
        body = response.body[:300].decode(errors="replace")
        raise SmokeTestFailed(f"the endpoint answered {response.status}: {body}")
    if response.content_type.partition(";")[0].strip() != JSON:
        raise SmokeTestFailed(f"the content type is {response.content_type!r}, not {JSON}")
    try:
        found = json.loads(response.body)
    except ValueError as error:
        raise SmokeTestFailed(f"the response is not JSON: {error}") from None
    compare(found, expected, "response")


def compare(found: Any, expected: Any, where: str) -> None:
    """Raise SmokeTestFailed at the first difference between two JSON values; numbers may differ by TOLERANCE."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            keys = sorted(found) if isinstance(found, dict) else type(found).__name__
            raise SmokeTestFailed(f"{where} has {keys}, where {sorted(expected)} was recorded")
        for key, value in expected.items():
            compare(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            count = len(found) if isinstance(found, list) else type(found).__name__
            raise SmokeTestFailed(f"{where} has {count} entries, where {len(expected)} were recorded")
        for index, value in enumerate(expected):
            compare(found[index], value, f"{where}[{index}]")
    elif not _is_close(found, expected):
        raise SmokeTestFailed(f"{where} is {found!r}, where {expected!r} was recorded")


def _is_close(found: Any, expected: Any) -> bool:
    if isinstance(found, bool) or isinstance(expected, bool) or not isinstance(expected, int | float):
        return bool(found == expected and type(found) is type(expected))
    return isinstance(found, int | float) and math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def endpoint_invoker(session: Session) -> Invoke:
    """Return a function that sends one request to the environment's endpoint, in the way of its mode."""
    if session.environment.endpoint.mode == "asynchronous":
        return lambda body, content_type: _invoke_asynchronously(session, body, content_type)
    return lambda body, content_type: _invoke(session, body, content_type)


def url_invoker(url: str) -> Invoke:
    """Return a function that sends one request to URL/invocations, where `sagegate serve` serves."""

    def invoke(body: bytes, content_type: str) -> Response:
        headers = {"Content-Type": content_type, "Accept": JSON}
        request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Response(answer.status, answer.headers.get("Content-Type", ""), answer.read())
        except urllib.error.HTTPError as error:
            return Response(error.code, error.headers.get("Content-Type", ""), error.read())

    return invoke


def _invoke(session: Session, body: bytes, content_type: str) -> Response:
    """Call InvokeEndpoint. An error of the model itself is a response, not an exception."""
    request = {"EndpointName": session.names.endpoint, "ContentType": content_type, "Accept": JSON, "Body": body}
    try:
        answer = session.client("sagemaker-runtime").invoke_endpoint(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ModelError":
            raise
        details: dict[str, Any] = dict(error.response)
        message = details.get("OriginalMessage") or error.response["Error"].get("Message", "")
        return Response(int(details.get("OriginalStatusCode", 500)), "text/plain", str(message).encode())
    return Response(answer["ResponseMetadata"]["HTTPStatusCode"], answer["ContentType"], answer["Body"].read())


def _invoke_asynchronously(session: Session, body: bytes, content_type: str) -> Response:
    """Call InvokeEndpointAsync, with request and response as S3 objects."""
    folder = f"{session.names.artifacts}/capture/{session.environment.name}/asynchronous/input"
    location = f"{folder}/{uuid.uuid4().hex}"
    bucket, key = split_uri(location)
    session.s3.put_object(Bucket=bucket, Key=key, Body=body)
    request = {"EndpointName": session.names.endpoint, "ContentType": content_type, "Accept": JSON}
    answer = session.client("sagemaker-runtime").invoke_endpoint_async(**request, InputLocation=location)
    end = time.monotonic() + ASYNCHRONOUS_LIMIT_SECONDS
    while time.monotonic() < end:
        if (output := read_object(session, answer["OutputLocation"])) is not None:
            return Response(200, JSON, output)
        failure = answer.get("FailureLocation")
        if failure and (error := read_object(session, failure)) is not None:
            return Response(500, "text/plain", error)
        time.sleep(poll_seconds(1))
    raise SagegateError(
        f"endpoint {session.names.endpoint} gave no answer in {ASYNCHRONOUS_LIMIT_SECONDS} s: see its log"
    )
