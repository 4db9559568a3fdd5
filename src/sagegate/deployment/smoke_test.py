"""Ways to ask a served model: an endpoint of SageMaker's, real-time, serverless or asynchronous, or a URL.
The smoke test: a served model must answer its own sample request as it did when it was trained, and fast enough.

The request and the answer are in the artifact (`sample_request.json`, `sample_response.json`, written by train.py). Its
digest is pinned: so what is compared is exactly the model that was evaluated and reviewed.
"""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
import time
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from sagegate.errors import SagegateError
from sagegate.files import split_uri
from sagegate.registry.evaluation import read_object
from sagegate.session import Session

Ask = Callable[[bytes, str], "Answer"]
ASYNCHRONOUS_LIMIT_SECONDS = 300


def endpoint_caller(session: Session) -> Ask:
    """Asks the environment's endpoint, in the way that its mode needs."""
    if session.environment.endpoint.mode == "asynchronous":
        return lambda body, kind: _ask_asynchronously(session, body, kind)
    return lambda body, kind: _ask_endpoint(session, body, kind)


def _ask_endpoint(session: Session, body: bytes, content_type: str) -> Answer:
    """InvokeEndpoint; an error that the model itself answered is an answer, not an exception."""
    request = {"EndpointName": session.names.endpoint, "ContentType": content_type, "Accept": JSON, "Body": body}
    try:
        found = session.client("sagemaker-runtime").invoke_endpoint(**request)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ModelError":
            raise
        answered: dict[str, Any] = dict(error.response)
        status = int(answered.get("OriginalStatusCode", 500))
        said = answered.get("OriginalMessage") or error.response["Error"].get("Message", "")
        return Answer(status, "text/plain", str(said).encode())
    return Answer(found["ResponseMetadata"]["HTTPStatusCode"], found["ContentType"], found["Body"].read())


def _ask_asynchronously(session: Session, body: bytes, content_type: str) -> Answer:
    """InvokeEndpointAsync: the request goes through S3, and so does the answer."""
    place = f"{session.names.artifacts}/capture/{session.environment.name}/asynchronous/input/{uuid.uuid4().hex}"
    bucket, key = split_uri(place)
    session.s3.put_object(Bucket=bucket, Key=key, Body=body)
    runtime = session.client("sagemaker-runtime")
    request = {"EndpointName": session.names.endpoint, "ContentType": content_type, "Accept": JSON}
    sent = runtime.invoke_endpoint_async(**request, InputLocation=place)
    end = time.monotonic() + ASYNCHRONOUS_LIMIT_SECONDS
    while time.monotonic() < end:
        for location, status in ((sent["OutputLocation"], 200), (sent.get("FailureLocation"), 500)):
            found = read_object(session, location) if location else None
            if found is not None:
                return Answer(status, JSON if status == 200 else "text/plain", found)
        time.sleep(float(os.environ.get("SAGEGATE_POLL_SECONDS") or 1))
    raise SagegateError(
        f"endpoint {session.names.endpoint} gave no answer in {ASYNCHRONOUS_LIMIT_SECONDS} s: see its log"
    )


def url_caller(url: str) -> Ask:
    """Asks a model at `URL/invocations`, as `sagegate serve` serves it."""

    def ask(body: bytes, content_type: str) -> Answer:
        headers = {"Content-Type": content_type, "Accept": JSON}
        request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as found:
                return Answer(found.status, found.headers.get("Content-Type", ""), found.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers.get("Content-Type", ""), error.read())

    return ask


Json = Any
JSON = "application/json"
REQUESTS = 20
# float32 arithmetic of another processor may differ in the last digits, and in nothing more.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Sample:
    """A request and the answer that is expected."""

    request: bytes
    response: Json


@dataclass(frozen=True)
class Smoke:
    """How the smoke test went; latencies in milliseconds, as this machine saw them. `fault` is None if all is well."""

    fault: str | None
    requests: int = 0
    rows: int = 0
    p50: float | None = None
    p99: float | None = None

    @property
    def line(self) -> str:
        """For people."""
        if self.fault:
            return f"smoke test failed: {self.fault}"
        if self.p50 is None:
            return "registered for batch jobs; there is no endpoint to test"
        return (
            f"smoke test passed: {self.requests} requests, {self.rows} predictions as recorded, "
            f"latency p50 {self.p50:.0f} ms, p99 {self.p99:.0f} ms"
        )


def sample_of(artifact: bytes) -> Sample:
    """The sample in a model artifact (.tar.gz); raises SagegateError if there is none."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(artifact)) as tar:
            for name in ("sample_request.json", "sample_response.json"):
                member = tar.extractfile(name)
                if member is None:
                    raise KeyError(f"{name} is not a file")
                found[name] = member.read()
        return Sample(found["sample_request.json"], json.loads(found["sample_response.json"]))
    except (KeyError, ValueError, EOFError, OSError, zlib.error, tarfile.TarError) as error:
        raise SagegateError(
            f"the model artifact holds no sample request ({error}): model/train.py must write it"
        ) from None


def smoke(ask: Callable[[bytes, str], Answer], sample: Sample, limit: float, requests: int = REQUESTS) -> Smoke:
    """Ask `requests` times with the sample request; `limit` is the highest median latency in milliseconds.

    `ask(body, content_type)` sends a request; what it raises is not caught here.
    """
    took: list[float] = []
    for _ in range(requests):
        start = time.perf_counter()
        answer = ask(sample.request, JSON)
        took.append((time.perf_counter() - start) * 1000)
        fault = fault_in(answer, sample.response)
        if fault:
            return Smoke(fault, len(took))
    p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
    rows = len(sample.response.get("predictions", []))
    slow = f"the median latency is {p50:.0f} ms, more than {limit:.0f} ms" if p50 > limit else None
    return Smoke(slow, len(took), rows, p50, p99)


def fault_in(answer: Answer, expected: Json) -> str | None:
    """What is wrong with an answer: its status, content type, schema or predictions; None if nothing is."""
    if answer.status != 200:
        return f"the endpoint answered {answer.status}: {answer.body[:300].decode(errors='replace')}"
    if answer.content_type.partition(";")[0].strip() != JSON:
        return f"the answer's content type is {answer.content_type!r}, not {JSON}"
    try:
        found = json.loads(answer.body)
    except ValueError as error:
        return f"the answer is not JSON: {error}"
    return difference(found, expected, "answer")


def difference(found: Json, expected: Json, where: str) -> str | None:
    """The first difference of two JSON values, with its place; numbers may differ by TOLERANCE. None if equal."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            keys = sorted(found) if isinstance(found, dict) else type(found).__name__
            return f"{where} has {keys}, where {sorted(expected)} was recorded"
        pairs = [(found[key], value, f"{where}.{key}") for key, value in expected.items()]
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            count = len(found) if isinstance(found, list) else type(found).__name__
            return f"{where} has {count} entries, where {len(expected)} were recorded"
        pairs = [(f, value, f"{where}[{index}]") for index, (f, value) in enumerate(zip(found, expected, strict=True))]
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        is_number = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
        if is_number and math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return None
        return f"{where} is {found!r}, where {expected!r} was recorded"
    else:
        return None if found == expected else f"{where} is {found!r}, where {expected!r} was recorded"
    return next((said for pair in pairs if (said := difference(*pair))), None)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
