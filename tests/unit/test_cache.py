"""The step cache: what is part of its key, and when an entry expires."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sagegate.local import cache
from sagegate.local.cache import Cache, parse_duration
from sagegate.local.storage import Store

# Source: "Default cache key attributes by pipeline step type", SageMaker developer guide
COUNTED = {
    "Processing": ["AppSpecification", "Environment", "ProcessingInputs"],
    "Training": ["AlgorithmSpecification", "CheckpointConfig", "Environment", "HyperParameters", "InputDataConfig"],
    "Tuning": ["HyperParameterTuningJobConfig", "TrainingJobDefinition"],
    "Transform": ["DataProcessing", "Environment", "ModelName", "TransformInput"],
}
IN_DEFINITION = ["AlgorithmSpecification", "InputDataConfig", "StaticHyperParameters"]
DAYS = {
    "P1Y2M3W4D": 450,
    "P2M": 60,
    "P3W": 21,
    "P4D": 4,
    "PT12H": 1 / 2,
    "PT30M": 1 / 48,
    "PT9S": 1 / 9600,
    "1dT12h": 1.5,
}


@pytest.fixture
def made(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", Store(tmp_path / "s3"))


@pytest.mark.parametrize("kind", COUNTED)
def test_the_key_has_what_sagemaker_compares(made: Cache, kind: str) -> None:
    arguments: dict[str, Any] = {name: {"a": 1, "b": 1} for name in COUNTED[kind]}
    reordered = {"RoleArn": "r", **arguments, COUNTED[kind][0]: {"b": 1, "a": 1}}
    reordered |= {"TrainingJobDefinition": {"RoleArn": "r"}} if kind == "Tuning" else {}
    assert made.key("p", "s", kind, arguments) == made.key("p", "s", kind, reordered)
    keys = [made.key(*names, kind, arguments) for names in (("p", "s"), ("q", "s"), ("p", "t"))]
    for name in IN_DEFINITION if kind == "Tuning" else COUNTED[kind]:
        change = {"TrainingJobDefinition": {"RoleArn": "r", name: 2}} if kind == "Tuning" else {name: {"a": 2}}
        keys.append(made.key("p", "s", kind, arguments | change))
    assert len(set(keys)) == len(keys)


def test_an_entry_expires_or_is_of_other_outputs(made: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(cache, "now", lambda: time)
    made.store.put_object(Bucket="bucket", Key="out/a", Body=b"result")
    made.put("key", "arn", {"name": "job"}, ["s3://bucket/out", "s3://bucket/none"])
    time += timedelta(hours=2)
    entry = made.find("key", None)
    assert entry and made.find("key", "PT3H") == made.find("key", "PT2H") == entry and made.find("key", "PT1H") is None
    for another in (b"1", b"2", b"3", b"4"):  # with smaller and greater digests
        made.store.put_object(Bucket="bucket", Key="out/a", Body=another)
        assert made.find("key", None) is None


def test_a_duration_is_iso_8601() -> None:
    assert {text: parse_duration(text) for text in DAYS} == {text: timedelta(days) for text, days in DAYS.items()}
    for text in ("", "P", "PT", "T", "30", "P1X", "P1DT1D", "-P1D", "P1D "):
        with pytest.raises(ValueError, match="is not an ISO 8601 duration such as P30D or PT1H"):
            parse_duration(text)
