"""Training, whatever the estimator: hyperparameters, weights of classes, the decision, and what the log says."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor

import artifact
import data
import decision
import estimator
import metrics
import preprocess
import train
from tests.raw_data import DATA

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = data.load_schema()
TWO = data.Schema("binary_classification", "label", ("no", "yes"), {"age": "number"}, ())


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    preprocess.main(["--input", str(DATA), "--output", str(folder)])
    return folder


def flags(splits: Path, model: Path) -> list[str]:
    return ["--train", str(splits / "train"), "--validation", str(splits / "validation"), "--model-dir", str(model)]


def test_the_hyperparameters_in_the_settings_are_those_of_the_estimator() -> None:
    settings = tomllib.loads((ROOT / "mlops.toml").read_text(encoding="utf-8"))["hyperparameters"]
    assert settings.keys() == train.hyperparameters().keys()


@pytest.mark.parametrize("name", ["no_such_name", min(train.hyperparameters(), default="none")[:-1]])
def test_a_wrong_or_shortened_name_is_no_hyperparameter(
    splits: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit):
        train.main([*flags(splits, splits), f"--{name}=3"])
    assert f"unrecognized arguments: --{name}=3" in capsys.readouterr().err


def test_a_default_tells_the_type(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fit(*_: object, rounds: int = 5, deep: bool = False) -> None: ...

    monkeypatch.setattr(estimator, "fit", fit)
    with pytest.raises(SystemExit):
        train.parse(["--rounds=7"])
    assert "deep needs a default that is an integer, a decimal or a text" in capsys.readouterr().err


def test_the_last_line_has_the_metrics_of_the_model_on_the_validation_rows(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(flags(splits, tmp_path))
    last = capsys.readouterr().out.splitlines()[-1]
    model, rows = artifact.load(tmp_path), data.read_split(splits / "validation")
    y = data.encode_target(rows[SCHEMA.target], SCHEMA)
    for name, value in metrics.measure(
        metrics.METRICS[SCHEMA.problem_type], y, model.predict(rows), model.threshold
    ).items():
        assert re.search(f"^kept .* validation-{name}={value:.5f}( |$)", last), name


class Recorder:
    """An estimator that learned nothing, and what it was given."""

    def __call__(self, rows: data.Rows, *_: object) -> Any:
        self.rows = rows
        return (DummyClassifier() if SCHEMA.is_classification else DummyRegressor()).fit(rows.matrix, rows.target)


def test_the_first_host_writes_the_model(
    splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimator, "fit", Recorder())
    monkeypatch.setenv("SM_HOSTS", '["algo-2", "algo-1"]')
    for host, writes in (("algo-2", False), ("algo-1", True)):
        monkeypatch.setenv("SM_CURRENT_HOST", host)
        train.main(flags(splits, tmp_path / host))
        assert (tmp_path / host).is_dir() == writes
    assert capsys.readouterr().out.startswith("the first host writes the model\nkept the model with ")


def test_an_estimator_with_other_predictions_is_one_line(
    splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong:
        def predict(self, matrix: Any) -> Any:
            return np.zeros((len(matrix), 9))

        predict_proba = predict

    monkeypatch.setattr(estimator, "fit", lambda *_: Wrong())
    with pytest.raises(SystemExit):
        train.main(flags(splits, tmp_path / "model"))
    err = capsys.readouterr().err
    assert err.startswith("the estimator predicts float64 of shape (") and len(err.splitlines()) == 1


@pytest.mark.skipif(not SCHEMA.is_classification, reason="a regression has no classes")
def test_the_weights_of_classes_reach_the_estimator(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {name: data.read_split(splits / name) for name in ("train", "validation")}
    recorder = Recorder()
    monkeypatch.setattr(estimator, "fit", recorder)
    train.train(tables, replace(SCHEMA, class_weights=()), {})
    assert (recorder.rows.weight == 1).all()
    train.train(tables, replace(SCHEMA, class_weights="balanced"), {})
    sums = np.bincount(recorder.rows.target, recorder.rows.weight)
    assert sums == pytest.approx(np.full(len(sums), len(recorder.rows.target) / len(sums)))
    train.train(tables, replace(SCHEMA, class_weights=tuple(range(1, len(sums) + 1))), {})
    assert (recorder.rows.weight == recorder.rows.target + 1).all()


@pytest.mark.parametrize("rule", ["f0.5", "f1", "f2", {"miss": 20, "false_alarm": 1}, {"miss": 1, "false_alarm": 5}])
def test_no_other_threshold_is_better(rule: Any) -> None:
    rng = np.random.default_rng(1)
    for trial in range(60):
        count = int(rng.integers(1, 12))
        y = (rng.random(count) < 0.4).astype(np.int64)
        p = rng.random(count).round(1) if trial % 2 else rng.random(count)

        def score(threshold: float, y: Any = y, p: Any = p) -> float:
            hits, called = int(y[p > threshold].sum()), int((p > threshold).sum())
            if isinstance(rule, dict):
                return -float(rule["miss"] * (y.sum() - hits) + rule["false_alarm"] * (called - hits))
            b = float(rule[1:]) ** 2
            return (1 + b) * hits / ((b * y.sum() + called) or 1)

        chosen = decision.choose_threshold(y, p, replace(TWO, decision=rule))
        assert 0 <= chosen <= 1
        assert score(chosen) == pytest.approx(max(score(t) for t in np.r_[0, p, 1]))


@pytest.mark.skipif(SCHEMA.problem_type != "binary_classification", reason="two classes only")
def test_the_threshold_travels_with_the_model(splits: Path, tmp_path: Path) -> None:
    tables = {name: data.read_split(splits / name) for name in ("train", "validation")}
    model, record = train.train(tables, replace(SCHEMA, decision={"miss": 1, "false_alarm": 500}), {})
    artifact.save(model, tmp_path)
    assert artifact.load(tmp_path).threshold == model.threshold == record["threshold"] > 0.5


def test_without_a_rule_a_row_is_positive_above_one_half() -> None:
    assert decision.choose_threshold(np.array([1]), np.array([0.9]), TWO) == 0.5
