"""The gate's record, as a manifest and an approval read it: only numbers that agree with each other are accepted."""

import json
from typing import Any

import pytest

from sagegate.config import convert
from sagegate.registry.deployments import Gate

BETTER: dict[str, Any] = {
    "metric": "auc",
    "greater_is_better": True,
    "candidate": 0.9,
    "threshold": 0.8,
    "threshold_margin": 0.9 - 0.8,
    "champion": 0.85,
    "champion_version": 3,
    "improvement": 0.9 - 0.85,
    "lowest_improvement": 0.01,
    "min_improvement": 0.0,
    "confidence": 0.95,
    "champion_verdict": "passed",
    "passed": True,
    "reason": "fine",
}
NONE = {"champion": None, "champion_version": None, "improvement": None, "lowest_improvement": None}
FIRST = BETTER | NONE | {"champion_verdict": "no champion"}
ERROR = BETTER | {"metric": "rmse", "greater_is_better": False, "candidate": 3.0, "threshold": 4.0}
ERROR |= {"threshold_margin": 1.0, "champion": 5.0, "improvement": 2.0}
WORSE = BETTER | {"lowest_improvement": -0.01, "champion_verdict": "failed", "passed": False}
ALLOWED = BETTER | {"lowest_improvement": -0.01, "min_improvement": -0.01}
MISSED = FIRST | {"candidate": 0.7, "threshold_margin": 0.7 - 0.8, "passed": False}
EXACT = FIRST | {"candidate": 0.8, "threshold_margin": 0.0}
ROUNDED = FIRST | {"candidate": 1e9 + 0.1, "threshold": 1e9, "threshold_margin": 0.1}


@pytest.mark.parametrize("gate", [BETTER, FIRST, ERROR, WORSE, ALLOWED, MISSED, EXACT, ROUNDED])
def test_numbers_that_agree_are_accepted(gate: dict[str, Any]) -> None:
    assert convert(Gate, json.loads(json.dumps(gate)), "file").passed == gate["passed"]


@pytest.mark.parametrize(
    ("gate", "change", "words"),
    [
        (BETTER, {"threshold_margin": 0.2}, "threshold_margin 0.2 is not what candidate and threshold say"),
        (BETTER, {"threshold_margin": -(0.9 - 0.8)}, "threshold_margin"),
        (BETTER, {"threshold_margin": 1e308}, "threshold_margin"),
        (BETTER, {"threshold_margin": float("inf")}, "finite"),
        (BETTER, {"threshold": float("-inf")}, "finite"),
        (BETTER, {"candidate": 0.95}, "threshold_margin"),
        (BETTER, {"greater_is_better": False}, "threshold_margin"),
        (BETTER, {"improvement": 0.06}, "improvement 0.06 is not what candidate and champion say"),
        (BETTER, {"champion": 0.8}, "improvement"),
        (BETTER, {"lowest_improvement": -0.01}, "champion_verdict 'passed' contradicts lowest_improvement"),
        (BETTER, {"min_improvement": 0.02}, "champion_verdict 'passed' contradicts lowest_improvement"),
        (BETTER, {"champion_verdict": "failed"}, "champion_verdict 'failed' contradicts lowest_improvement"),
        (BETTER, {"champion_verdict": "beaten"}, "champion_verdict 'beaten' is not one of"),
        (BETTER, {"champion_verdict": "no champion"}, "which the champion's numbers contradict"),
        (BETTER, {"passed": False}, "passed is false, which the gate's own numbers contradict"),
        *((BETTER, {name: None}, "which the champion's numbers contradict") for name in NONE),
        *((FIRST, {name: BETTER[name]}, "which the champion's numbers contradict") for name in NONE),
        (FIRST, {"champion_verdict": "other"}, "champion_verdict 'other' is not one of"),
        (FIRST, {"champion_verdict": "passed"}, "which the champion's numbers contradict"),
        (ERROR, {"threshold_margin": -1.0}, "threshold_margin"),
        (ERROR, {"improvement": -2.0}, "improvement"),
        (WORSE, {"passed": True}, "passed is true, which the gate's own numbers contradict"),
        (MISSED, {"passed": True}, "passed is true, which the gate's own numbers contradict"),
        (EXACT, {"passed": False}, "passed is false, which the gate's own numbers contradict"),
        (ALLOWED, {"min_improvement": -0.009}, "contradicts lowest_improvement"),
    ],
)
def test_a_contradiction_is_refused(gate: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r"^file: ") as error:
        convert(Gate, gate | change, "file")
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", BETTER)
def test_each_key_is_needed(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        convert(Gate, {key: value for key, value in BETTER.items() if key != name}, "file")
