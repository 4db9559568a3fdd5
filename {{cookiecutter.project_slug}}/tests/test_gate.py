"""The gate's rules. A pipeline that breaks one still runs, and lets worse models through without anyone noticing.

To break a rule on purpose, edit its test: a reviewer then sees it.
"""

import json
import math
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data
import evaluate
import metrics
import raw_files
from tests.raw_data import DATA

ROOT = Path(__file__).resolve().parent.parent
GATE = tomllib.loads((ROOT / "mlops.toml").read_text(encoding="utf-8"))["gate"]
STEPS = {step["Name"]: step for step in json.loads((ROOT / "pipeline" / "definition.json").read_text())["Steps"]}
PASSED, REJECTED = (
    {step["Name"]: step for step in STEPS["Gate"]["Arguments"][branch]} for branch in ("IfSteps", "ElseSteps")
)
EVALUATE, REGISTER = STEPS["Evaluate"]["Arguments"], PASSED.get("Register", {}).get("Arguments", {})
FLAGS = EVALUATE["AppSpecification"]["ContainerArguments"]
# Of the step Train; [tuning] in mlops.toml puts a step Tune in its place, whose best model comes first.
MODEL: dict[str, Any] = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
TRAINING = STEPS["Train"]["Arguments"] if "Train" in STEPS else STEPS["Tune"]["Arguments"]["TrainingJobDefinition"]
if "Tune" in STEPS:
    PARTS = ("TrainingJobDefinition.OutputDataConfig.S3OutputPath", "TrainingJobSummaries[0].TrainingJobName")
    BEST = [*({"Get": f"Steps.Tune.{part}"} for part in PARTS), "output/model.tar.gz"]
    MODEL = {"Std:Join": {"On": "/", "Values": BEST}}
SPLIT = "Steps.Preprocess.ProcessingOutputConfig.Outputs['{}'].S3Output.S3Uri"
SCHEMA = data.load_schema()
METRICS = metrics.METRICS[SCHEMA.problem_type]
IS_MULTICLASS = SCHEMA.problem_type == "multiclass_classification"


def source(flag: str) -> Any:
    """Return where the folder comes from that the step Evaluate passes as `flag`."""
    folders = {entry["S3Input"]["LocalPath"]: entry["S3Input"]["S3Uri"] for entry in EVALUATE["ProcessingInputs"]}
    return folders[FLAGS[FLAGS.index(flag) + 1]]


def test_only_the_gate_registers_a_model() -> None:
    assert PASSED["Register"]["Type"] == "RegisterModel"
    assert all(step["Type"] != "RegisterModel" for step in [*STEPS.values(), *REJECTED.values()])


def test_the_gate_requires_the_threshold_and_the_comparison() -> None:
    def number(path: str) -> dict[str, Any]:
        return {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Evaluate.PropertyFiles.Evaluation"}, "Path": path}}

    margin, verdict = number("gate.threshold_margin"), number("gate.champion_verdict")
    assert STEPS["Gate"]["Arguments"]["Conditions"] == [
        {"Type": "GreaterThanOrEqualTo", "LeftValue": margin, "RightValue": 0.0},
        {"Type": "In", "QueryValue": verdict, "Values": ["passed", "no champion"]},
    ]


def test_a_rejected_model_fails_the_execution() -> None:
    assert "Fail" in [step["Type"] for step in REJECTED.values()]


def test_no_model_is_born_approved() -> None:
    assert REGISTER["ModelApprovalStatus"] == "PendingManualApproval"


def test_the_champion_is_not_the_candidate() -> None:
    assert source("--model") == MODEL
    assert source("--champion") == {"Std:Join": {"On": "/", "Values": [{"Get": "Parameters.ArtifactsUri"}, "champion"]}}
    assert "CacheConfig" not in STEPS["Evaluate"], "SageMaker's cache compares addresses: it misses a new champion"


def test_the_registered_model_is_the_evaluated_one() -> None:
    assert [c["ModelDataUrl"] for c in REGISTER["InferenceSpecification"]["Containers"]] == [source("--model")]


def test_no_model_is_trained_on_the_test_rows() -> None:
    channels = [channel["DataSource"]["S3DataSource"] for channel in TRAINING["InputDataConfig"]]
    assert [channel["S3Uri"]["Get"] for channel in channels] == [SPLIT.format("train"), SPLIT.format("validation")]
    assert source("--test") == {"Get": SPLIT.format("test")}


def test_the_evaluation_uses_the_settings_of_mlops_toml() -> None:
    for name in ("Metric", "Threshold", "MinImprovement", "Confidence"):
        flag = "--min-improvement" if name == "MinImprovement" else f"--{name.lower()}"
        assert f"Parameters.Gate{name}" in str(FLAGS[FLAGS.index(flag) + 1])


@pytest.fixture
def nothing() -> float:
    """The gate's metric of a model that predicts the same for each row: the share of each class, or the mean."""
    y = data.encode_target(raw_files.read_folder(DATA, SCHEMA)[SCHEMA.target], SCHEMA)
    same = metrics.learned_nothing(y, np.zeros((len(y), len(SCHEMA.classes)) if IS_MULTICLASS else len(y)))
    assert same.shape == ((len(y), len(SCHEMA.classes)) if IS_MULTICLASS else (len(y),))
    return METRICS[GATE["metric"]](y, same, np.ones(len(y)))


def test_a_model_that_learned_nothing_misses_the_threshold(nothing: float) -> None:
    judged = evaluate.judge(GATE["metric"], nothing, None, GATE["threshold"], 0.0, 0.95)
    assert judged["threshold_margin"] < 0, judged["reason"]


def test_no_much_worse_model_replaces_the_champion(nothing: float) -> None:
    """A candidate may be worse by at most half of what a champion at the threshold has learned."""
    assert GATE["min_improvement"] >= -0.5 * abs(GATE["threshold"] - nothing)
    assert GATE["confidence"] >= 0.8


@pytest.mark.parametrize(("metric", "better", "worse"), [("auc", 0.9, 0.7), ("rmse", 0.7, 0.9)])
def test_a_margin_follows_the_metrics_direction(metric: str, better: float, worse: float) -> None:
    def passes(candidate: float, champion: float, threshold: float) -> bool:
        better = champion - candidate if metric == "rmse" else candidate - champion
        judged = evaluate.judge(metric, candidate, evaluate.Champion(1, champion, better, 0), threshold, 0.0, 0.95)
        assert not abs(judged["threshold_margin"]) > abs(candidate - threshold)
        return bool(judged["passed"])

    assert passes(better, worse, 0.8) and passes(better, better, 0.8)
    assert not passes(worse, worse, 0.8), "misses the threshold"
    assert not passes(worse, better, worse), "is worse than the champion"
    assert not passes(math.nan, worse, 0.8), "a missing number fails"
    evaluate.check_threshold(metric, 0.8, worse)
    for value in (better, 0.8):
        with pytest.raises(data.DataError, match="learned nothing"):
            evaluate.check_threshold(metric, 0.8, value)


def test_the_reason_says_how_much_better_or_worse_in_words() -> None:
    def reason(candidate: float, needed: float, *champion: Any) -> str:
        return str(evaluate.judge("auc", candidate, evaluate.Champion(3, 0.5, *champion), 0.5, needed, 0.95)["reason"])

    same = "auc 0.5 meets the threshold 0.5; champion v3 has 0.5, so it is as good, and with 0.95 confidence not worse"
    assert reason(0.5, 0.0, 0.0, 0) == f"{same} (not worse needed)"
    assert "confidence at least 0.2 better (at least 0.1 better needed)" in reason(1.0, 0.1, 0.2, 0)
    worse = "misses the threshold 0.5; champion v3 has 0.5, so it is 0.25 worse, and with 0.95 confidence at most 0.5"
    assert f"{worse} worse (at most 0.1 worse allowed); it may have been trained" in reason(0.25, -0.1, -0.5, None)
    assert f"{worse} worse (at most 0.1 worse allowed); 1 test rows that the champion" in reason(0.25, -0.1, -0.5, 1)


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_has_its_direction(name: str) -> None:
    y = np.arange(30) % max(2, len(SCHEMA.classes))
    right = np.eye(len(SCHEMA.classes))[y] if IS_MULTICLASS else y.astype(float)
    good, bad = (METRICS[name](y, p, np.ones(30)) for p in (right, right[::-1]))
    assert (good < bad) == (name in metrics.LOWER_IS_BETTER)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_fails_the_evaluation(value: float) -> None:
    with pytest.raises(data.DataError, match="auc of the candidate is"):
        evaluate.finite(value, "auc of the candidate")


def test_predictions_of_another_shape_or_kind_fail_the_evaluation() -> None:
    right = np.full((3, len(SCHEMA.classes)) if IS_MULTICLASS else 3, 0.5)
    assert evaluate.score("it", lambda: right, 3, SCHEMA) is right
    for wrong in (right[:-1], np.repeat(right, 2, axis=0), np.stack([right, right], 1), right > 0, right.astype(int)):
        with pytest.raises(data.DataError, match="it cannot score the test rows: it predicts"):
            evaluate.score("it", partial(np.array, wrong), 3, SCHEMA)
    with pytest.raises(data.DataError, match="it cannot score the test rows: Expecting property name"):
        evaluate.score("it", partial(json.loads, "{"), 3, SCHEMA)
