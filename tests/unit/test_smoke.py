"""The smoke test's judgement: what counts as the recorded answer, and what does not."""

import io
import json
import tarfile
from typing import Any

import pytest

from sagegate.deployment.smoke_test import Answer, Sample, fault_in, quantile, sample_of, smoke
from sagegate.errors import SagegateError

EXPECTED = {"predictions": [{"label": "a", "probabilities": {"a": 0.75, "b": 0.25}}, {"value": 3}]}


def answer(body: Any, status: int = 200, kind: str = "application/json") -> Answer:
    return Answer(status, kind, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_the_recorded_answer_passes() -> None:
    almost = json.loads(json.dumps(EXPECTED).replace("0.75", "0.7500004"))
    assert fault_in(answer(almost, kind="application/json; charset=utf-8"), EXPECTED) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (answer(EXPECTED, status=500), "answered 500"),
        (answer(EXPECTED, kind="text/html"), "content type is 'text/html'"),
        (answer(b"hello"), "not JSON"),
        (answer({"predictions": []}), r"answer.predictions has 0 entries, where 2 were recorded"),
        (answer({"echo": 1}), "answer has ['echo'], where ['predictions']"),
        (answer(json.loads(json.dumps(EXPECTED).replace("0.75", "0.76"))), "probabilities.a is 0.76, where 0.75"),
        (answer(json.loads(json.dumps(EXPECTED).replace('"a",', '"b",'))), "label is 'b'"),
        (answer(json.loads(json.dumps(EXPECTED).replace("3}", "true}"))), "value is True"),
        (answer(json.dumps(EXPECTED).replace("3}", "NaN}").encode()), "value is nan"),
    ],
    ids=["status", "type", "not-json", "rows", "echo", "number", "label", "boolean", "nan"],
)
def test_anything_else_is_a_fault(given: Answer, says: str) -> None:
    assert says in str(fault_in(given, EXPECTED))


def test_the_first_fault_ends_the_test_and_says_so() -> None:
    answers = iter([answer(EXPECTED), answer(b"oops", status=503)])
    result = smoke(lambda body, kind: next(answers), Sample(b"{}", EXPECTED), 1000.0)
    assert result.requests == 2 and "503" in result.line and "failed" in result.line


def test_too_slow_is_a_fault() -> None:
    result = smoke(lambda body, kind: answer(EXPECTED), Sample(b"{}", EXPECTED), limit=-1.0)
    assert result.fault is not None and "median latency" in result.fault


def test_quantiles_are_values_that_were_measured() -> None:
    assert (
        quantile([3.0, 1.0, 2.0], 0.5) == 2.0 and quantile([3.0, 1.0, 2.0], 0.99) == 3.0 and quantile([7.0], 0.5) == 7.0
    )


def test_an_artifact_without_a_sample_is_refused() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz"):
        pass
    with pytest.raises(SagegateError, match="no sample request"):
        sample_of(packed.getvalue())
    with pytest.raises(SagegateError, match="no sample request"):
        sample_of(b"not an archive")
