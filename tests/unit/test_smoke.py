"""The smoke test accepts the recorded response and nothing else."""

import io
import json
import re
import tarfile
from typing import Any

import pytest

from sagegate.deployment.smoke_test import (
    Response,
    Sample,
    SmokeTestFailed,
    check_response,
    read_sample,
    run_smoke_test,
)
from sagegate.errors import SagegateError

EXPECTED = {"predictions": [{"label": "a", "probabilities": {"a": 0.75, "b": 0.25}}, {"value": 3}]}


def response(body: Any, status: int = 200, kind: str = "application/json") -> Response:
    return Response(status, kind, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_the_recorded_response_passes() -> None:
    almost = json.loads(json.dumps(EXPECTED).replace("0.75", "0.7500004"))
    check_response(response(almost, kind="application/json; charset=utf-8"), EXPECTED)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (response(EXPECTED, status=500), "answered 500"),
        (response(EXPECTED, kind="text/html"), "content type is 'text/html'"),
        (response(b"hello"), "not JSON"),
        (response({"predictions": []}), "response.predictions has 0 entries, where 2 were recorded"),
        (response({"echo": 1}), "response has ['echo'], where ['predictions']"),
        (response(json.loads(json.dumps(EXPECTED).replace("0.75", "0.76"))), "probabilities.a is 0.76, where 0.75"),
        (response(json.loads(json.dumps(EXPECTED).replace('"a",', '"b",'))), "label is 'b'"),
        (response(json.loads(json.dumps(EXPECTED).replace("3}", "true}"))), "value is True"),
        (response(json.dumps(EXPECTED).replace("3}", "NaN}").encode()), "value is nan"),
    ],
    ids=["status", "type", "not-json", "rows", "echo", "number", "label", "boolean", "nan"],
)
def test_any_other_response_fails(given: Response, message: str) -> None:
    with pytest.raises(SmokeTestFailed, match=re.escape(message)):
        check_response(given, EXPECTED)


def test_the_first_wrong_response_ends_the_test() -> None:
    responses = iter([response(EXPECTED), response(b"oops", status=503)])
    with pytest.raises(SmokeTestFailed, match="smoke test failed: the endpoint answered 503: oops"):
        run_smoke_test(lambda body, kind: next(responses), Sample(b"{}", EXPECTED), 1000.0)


def test_a_slow_model_fails() -> None:
    with pytest.raises(SmokeTestFailed, match="median latency"):
        run_smoke_test(lambda body, kind: response(EXPECTED), Sample(b"{}", EXPECTED), max_median=-1.0)


def test_an_artifact_without_a_sample_is_an_error() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz"):
        pass
    for artifact in (packed.getvalue(), b"not an archive"):
        with pytest.raises(SagegateError, match="no sample request"):
            read_sample(artifact)
