"""Tests of the notify function: its messages, its topic, and its inline copy in platform.yaml."""

import json
import runpy
import sys
import types
from typing import Any

import pytest
from templates import INFRA, PLATFORM, load

HANDLER = INFRA / "notify" / "handler.py"
EXECUTION = "arn:aws:sagemaker:eu-west-1:111111111111:pipeline/tumour/execution/abc123"
FAILED = {
    "source": "aws.sagemaker",
    "detail-type": "SageMaker Model Building Pipeline Execution Status Change",
    "account": "111111111111",
    "region": "eu-west-1",
    "detail": {
        "pipelineArn": "arn:aws:sagemaker:eu-west-1:111111111111:pipeline/tumour",
        "pipelineExecutionArn": EXECUTION,
        "currentPipelineExecutionStatus": "Failed",
        "previousPipelineExecutionStatus": "Executing",
    },
}
DECIDED: dict[str, Any] = {
    "source": "aws.sagemaker",
    "detail-type": "SageMaker Model Package State Change",
    "account": "111111111111",
    "region": "eu-west-1",
    "detail": {
        "ModelPackageGroupName": "tumour",
        "ModelPackageVersion": 7,
        "ModelPackageArn": "arn:aws:sagemaker:eu-west-1:111111111111:model-package/tumour/7",
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "pull request 12",
    },
}
NOT_DEPLOYED = DECIDED | {
    "detail": DECIDED["detail"]
    | {"ModelLifeCycle": {"Stage": "Staging", "StageStatus": "Failed", "StageDescription": "answers differ"}}
}
ALARM = {
    "source": "aws.cloudwatch",
    "detail-type": "CloudWatch Alarm State Change",
    "detail": {"alarmName": "tumour-prod-5xx", "state": {"value": "ALARM", "reason": "9 > 5"}},
}
STEP = {
    "subject": "tumour: a candidate was rejected",
    "gate": "auc 0.9 misses the threshold 0.95",
    "todo": "improve it",
}


@pytest.fixture
def function() -> dict[str, Any]:
    return runpy.run_path(str(HANDLER))


@pytest.mark.parametrize(
    ("event", "subject", "words"),
    [
        (FAILED, "tumour: pipeline execution failed", [EXECUTION, "sagegate explain abc123", "eu-west-1"]),
        (DECIDED, "tumour: model 7 is Approved", ["model-package/tumour/7", "pull request 12"]),
        (NOT_DEPLOYED, "tumour: model 7 is Approved, Staging Failed", ["answers differ", "pull request 12"]),
        (ALARM, "tumour-prod-5xx: ALARM", ["9 > 5", "rolls back"]),
        (STEP, "tumour: a candidate was rejected", ["gate: auc 0.9 misses", "Next: improve it"]),
        ({"detail-type": "Something New", "detail": {"a": 1}}, "Something New", ["'a': 1"]),
        ({}, "Unknown event", []),
    ],
    ids=["failed", "decided", "not deployed", "alarm", "step", "unknown", "empty"],
)
def test_the_message_has_the_facts_and_the_next_step(
    function: dict[str, Any], event: dict[str, Any], subject: str, words: list[str]
) -> None:
    actual, body = function["message"](event)
    assert actual == subject
    assert [word for word in words if word not in body] == []


@pytest.mark.parametrize("subject", ["x" * 300, "two\nlines", "Tumör · 中", " "])
def test_every_subject_is_valid_for_sns(function: dict[str, Any], subject: str) -> None:
    """SNS: ASCII without line breaks or control characters, 1 to 100 characters."""
    actual, _ = function["message"]({"subject": subject})
    assert 1 <= len(actual) <= 100 and actual.isascii() and actual.isprintable() and actual == actual.strip()


def test_without_a_topic_it_only_prints(
    function: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TOPIC_ARN", raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)  # importing it would fail
    assert function["handler"](STEP, None) == {"sent": False}
    assert "a candidate was rejected" in capsys.readouterr().out


def test_with_a_topic_it_publishes_once(function: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[dict[str, str]] = []
    client = types.SimpleNamespace(publish=lambda **request: published.append(request))
    monkeypatch.setitem(sys.modules, "boto3", types.SimpleNamespace(client=lambda service: client))
    monkeypatch.setenv("TOPIC_ARN", "arn:aws:sns:eu-west-1:111111111111:tumour-notifications")
    assert function["handler"](FAILED, None) == {"sent": True}
    ((request,),) = (published,)
    assert request["Subject"] == "tumour: pipeline execution failed"
    assert request["TopicArn"].endswith(":tumour-notifications")
    assert json.dumps(request)


def test_the_inline_copy_is_equal() -> None:
    function = load(PLATFORM)["Resources"]["NotifyFunction"]["Properties"]
    assert function["Code"]["ZipFile"] == HANDLER.read_text(encoding="utf-8")
    assert function["Handler"] == "index.handler"
