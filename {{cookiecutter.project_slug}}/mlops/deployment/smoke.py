"""The smoke test: a served model must answer its own sample request as it did when it was trained, and fast enough.

The request and the answer are in the artifact (`sample_request.json`, `sample_response.json`, written by train.py). Its
digest is pinned: so what is compared is exactly the model that was evaluated and reviewed.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlops.errors import MlopsError

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
    """The sample in a model artifact (.tar.gz); raises MlopsError if there is none."""
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
        raise MlopsError(
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
