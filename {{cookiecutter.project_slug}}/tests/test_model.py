"""The scripts in model/, on this repository's own data: what they compute, and what they refuse."""

import hashlib
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

import artifact
import csv_files
import data
import evaluate
import inference
import lineage
import metrics
import preprocess
import train

JSON = "application/json"
ROOT = Path(__file__).resolve().parent.parent
SCHEMA = data.load_schema()
RAW = ROOT / "data"
METRIC = next(iter(metrics.METRICS[SCHEMA.problem_type]))
GREATER = metrics.METRICS[SCHEMA.problem_type][METRIC].greater_is_better
OPEN = "0.0" if GREATER else "1e12"


def run_scripts(folder: Path, *hyperparameters: str) -> Path:
    """Preprocess and train into `folder`; the model's artifact."""
    preprocess.main(["--input", str(RAW), "--output", str(folder)])
    model = folder / "model"
    splits = ["--train", str(folder / "train"), "--validation", str(folder / "validation")]
    train.main([*splits, "--model-dir", str(model), *hyperparameters])
    return pack(model, folder / "packed")


def pack(model: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "model.tar.gz", "w:gz") as tar:
        tar.add(model, arcname=".")
    return folder


def judge(folder: Path, model: Path, champion: Path, threshold: str = OPEN, metric: str = METRIC) -> dict[str, Any]:
    output = folder / "evaluation"
    paths = [
        "--model",
        str(model),
        "--champion",
        str(champion),
        "--test",
        str(folder / "test"),
        "--output",
        str(output),
    ]
    evaluate.main([*paths, "--metric", metric, "--threshold", threshold, "--min-improvement", "0.0"])
    found: dict[str, Any] = json.loads((output / "evaluation.json").read_text())
    return found


def crown(packed: Path, folder: Path) -> Path:
    """A champion's folder as `mlops approve` makes it."""
    shutil.copytree(packed, folder)
    digest = hashlib.sha256((folder / "model.tar.gz").read_bytes()).hexdigest()
    (folder / "champion.json").write_text(json.dumps({"version": 1, "digest": digest}))
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the splits, the model and its packed artifact."""
    folder = tmp_path_factory.mktemp("work")
    run_scripts(folder)
    return folder


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """The champion's place before the first approval."""
    (tmp_path / "nobody").mkdir()
    (tmp_path / "nobody" / "no-champion.json").write_text("{}")
    return tmp_path / "nobody"


def test_the_same_input_gives_the_same_bytes(work: Path, tmp_path: Path) -> None:
    run_scripts(tmp_path)
    for file in sorted(
        f for f in work.rglob("*") if f.is_file() and f.name != "model.tar.gz" and f.parent.name != "evaluation"
    ):
        assert file.read_bytes() == (tmp_path / file.relative_to(work)).read_bytes(), file.name


def test_a_row_stays_in_its_split_whatever_other_rows_there_are() -> None:
    table = preprocess.clean(csv_files.read_folder(RAW, SCHEMA), SCHEMA)
    whole = preprocess.split(table, 0.15, 0.2, seed=1)
    half = preprocess.split(table.iloc[::2], 0.15, 0.2, seed=1)
    for name in preprocess.SPLITS:
        assert set(half[name].index) == set(whole[name].index) & set(table.iloc[::2].index)
    assert sum(len(part) for part in whole.values()) == len(table)
    assert set(preprocess.split(table, 0.15, 0.2, seed=2)["test"].index) != set(whole["test"].index)


def test_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    y: NDArray[Any]
    p: NDArray[Any]
    weight = rng.integers(0, 3, 200).astype(float)
    if SCHEMA.problem_type == "regression":
        y, p = rng.normal(size=200), rng.normal(size=200)
        expected = {
            "mae": sk.mean_absolute_error(y, p, sample_weight=weight),
            "rmse": sk.root_mean_squared_error(y, p, sample_weight=weight),
            "r2": sk.r2_score(y, p, sample_weight=weight),
        }
    elif SCHEMA.problem_type == "binary_classification":
        y, p = rng.integers(0, 2, 200), rng.random(200).round(1)
        called = p > 0.5
        expected = {
            "accuracy": sk.accuracy_score(y, called, sample_weight=weight),
            "auc": sk.roc_auc_score(y, p, sample_weight=weight),
            "f1": sk.f1_score(y, called, sample_weight=weight),
            "precision": sk.precision_score(y, called, sample_weight=weight),
            "recall": sk.recall_score(y, called, sample_weight=weight),
        }
    else:
        y, p = rng.integers(0, len(SCHEMA.classes), 200), rng.dirichlet(np.ones(len(SCHEMA.classes)), 200)
        called = p.argmax(axis=1)
        expected = {
            "accuracy": sk.accuracy_score(y, called, sample_weight=weight),
            "weighted_f1": sk.f1_score(y, called, average="weighted", sample_weight=weight),
            "weighted_precision": sk.precision_score(y, called, average="weighted", sample_weight=weight),
            "log_loss": sk.log_loss(y, p, sample_weight=weight),
        }
    for name, value in expected.items():
        assert metrics.METRICS[SCHEMA.problem_type][name].function(y, p, weight) == pytest.approx(value), name


def test_a_bootstrapped_deviation_is_near_the_formula() -> None:
    y: NDArray[Any]
    p: NDArray[Any]
    if SCHEMA.problem_type == "regression":
        y, p, name = np.zeros(400), np.random.default_rng(0).normal(size=400), "mae"
        formula = np.abs(p).std() / 20
    else:
        y = np.arange(400) % 2
        p = np.where(np.arange(400) < 300, y, 1 - y).astype(float)
        p, name, formula = (p if SCHEMA.problem_type.startswith("b") else np.eye(3)[p.astype(int)]), "accuracy", 0.0217
    table = {name: metrics.METRICS[SCHEMA.problem_type][name]}
    assert metrics.bootstrap(table, y, p, 500, seed=1)[name] == pytest.approx(formula, rel=0.2)


def test_without_a_champion_the_threshold_decides(work: Path, nobody: Path) -> None:
    passed = judge(work, work / "packed", nobody)["gate"]
    assert passed["passed"] and passed["champion_verdict"] == "no champion"
    assert "no champion yet" in passed["reason"]
    impossible = judge(work, work / "packed", nobody, threshold="1e9" if GREATER else "-1")["gate"]
    assert not impossible["passed"]
    assert impossible["threshold_margin"] < 0
    assert "misses the threshold" in impossible["reason"]


def test_the_champion_is_compared_on_the_same_rows(work: Path, tmp_path: Path) -> None:
    champion = crown(work / "packed", tmp_path / "champion")
    tie = judge(work, work / "packed", champion)["gate"]
    assert (tie["champion_verdict"], tie["improvement"]) == ("beaten", 0.0)
    weak = run_scripts(tmp_path / "weak", "--num_round", "1", "--max_depth", "1", "--eta", "0.01")
    worse = judge(work, weak, champion)["gate"]
    assert worse["champion_verdict"] == "not beaten"
    assert not worse["passed"]
    assert worse["champion"] == tie["candidate"] != worse["candidate"]
    better = judge(work, work / "packed", crown(weak, tmp_path / "weak-champion"))["gate"]
    assert better["champion_verdict"] == "beaten"
    assert better["improvement"] == -worse["improvement"] > 0


def test_the_champion_is_scored_by_its_own_code(work: Path, tmp_path: Path) -> None:
    """An artifact whose code halves its predictions keeps doing so, whatever today's code does."""
    shutil.copytree(work / "model", tmp_path / "model")
    own = tmp_path / "model" / "code" / "artifact.py"
    own.write_text(own.read_text().replace("return predicted.astype(np.float64)", "return predicted * 0.5"))
    rows = data.read_split(work / "test")
    champion = artifact.load(tmp_path / "model")
    scored = evaluate.predict_with_own_code(champion, tmp_path / "model", rows)
    np.testing.assert_allclose(scored, champion.predict(rows) * 0.5, rtol=1e-6)


def test_evaluate_refuses_what_it_cannot_judge(
    work: Path, nobody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(expected: str, *, model: Path = work / "packed", champion: Path = nobody, **more: str) -> None:
        shutil.rmtree(work / "evaluation", ignore_errors=True)
        with pytest.raises(SystemExit) as end:
            judge(work, model, champion, **more)
        said = capsys.readouterr().err.strip()
        assert end.value.code == 1
        assert expected in said
        assert "\n" not in said
        assert not (work / "evaluation").exists()

    refused("is not one of", metric="nonsense")
    refused("finite", threshold="nan")
    refused("there is no model.tar.gz", model=nobody)
    (tmp_path / "model.tar.gz").write_bytes(b"not an archive")
    refused("is not a model artifact", model=tmp_path)
    refused("the champion is incomplete", champion=tmp_path / "nowhere")
    champion = crown(work / "packed", tmp_path / "champion")
    (champion / "model.tar.gz").write_bytes(b"another")
    refused("not the one of its record", champion=champion)


def test_nan_is_never_a_metric() -> None:
    with pytest.raises(data.DataError, match="auc of the candidate is nan"):
        evaluate.finite({"auc": float("nan")}, "the candidate")


def test_inference_answers_as_evaluation_does(work: Path) -> None:
    model = inference.model_fn(str(work / "model"))
    assert isinstance(model, artifact.Model)
    rows = pq.read_table(work / "test").to_pandas()[SCHEMA.features]
    expected = inference.as_json(model, model.predict(rows))
    for body, kind in (
        (rows.to_csv(index=False), "text/csv"),
        (rows.to_csv(index=False, header=False), "text/csv"),
        (
            json.dumps({"instances": json.loads(rows.to_json(orient="records", double_precision=15))}),
            "application/json",
        ),
    ):
        answer = inference.predict_fn(inference.input_fn(body.encode(), kind), model)
        assert answer == expected
        text, content_type = inference.output_fn(answer, "application/json")
        assert (json.loads(text), content_type) == (expected, "application/json")
    lines = inference.output_fn(expected, "text/csv")[0].strip().splitlines()
    assert len(lines) == len(rows)


def test_evaluation_says_what_the_model_was_made_of(work: Path, nobody: Path) -> None:
    found = judge(work, work / "packed", nobody)
    made_of = json.loads((work / "model" / "lineage.json").read_text())
    archive = (work / "packed" / "model.tar.gz").read_bytes()
    assert found["lineage"]["artifact_sha256"] == hashlib.sha256(archive).hexdigest()
    assert found["lineage"]["versions"] == made_of["versions"]
    assert {"python", "numpy", "pandas", "pyarrow", "sklearn", "xgboost"} == made_of["versions"].keys()
    rows = {name: len(data.read_split(work / name)) for name in preprocess.SPLITS}
    assert found["lineage"]["rows"] == rows == made_of["rows"] | {"test": rows["test"]}
    assert (found["greater_is_better"][METRIC], found["champion_values"]) == (GREATER, {})


def test_evaluation_holds_the_answer_to_the_sample(work: Path, nobody: Path, tmp_path: Path) -> None:
    sample = judge(work, work / "packed", nobody)["sample"]
    model = inference.model_fn(str(work / "model"))
    body = (work / "model" / "sample_request.json").read_bytes()
    answer, kind = inference.output_fn(inference.predict_fn(inference.input_fn(body, JSON), model), JSON)
    expected = {"content_type": kind, "request_sha256": hashlib.sha256(body).hexdigest()}
    assert sample == expected | {"response": json.loads(answer)}
    shutil.copytree(work / "model", tmp_path, dirs_exist_ok=True)
    (tmp_path / "sample_response.json").write_text('{"predictions": []}')
    with pytest.raises(data.DataError, match="otherwise than the artifact's"):
        lineage.sample_of(tmp_path, model)


def test_an_artifact_without_lineage_can_still_be_judged(work: Path, nobody: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "model", tmp_path / "model")
    for name in ("lineage.json", "sample_request.json"):
        (tmp_path / "model" / name).unlink()
    old = pack(tmp_path / "model", tmp_path / "old")
    found = judge(work, old, crown(old, tmp_path / "champion"))
    assert (found["lineage"]["versions"], list(found["lineage"]["rows"]), found["sample"]) == ({}, ["test"], None)
    assert found["champion_values"][METRIC] == found["gate"]["champion"]


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("{", "application/json", "not JSON"),
        ('{"rows": 1}', "application/json", "instances"),
        ('{"instances": []}', "application/json", "no rows"),
        ('{"instances": [{"nothing": 1}]}', "application/json", "is missing"),
        ("1,2\n", "text/csv", "row 1 has 2 cells"),
        ("", "text/csv", "no rows"),
        ("x", "text/plain", "text/csv"),
    ],
)
def test_bad_requests_are_value_errors_of_one_line(body: str, kind: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        inference.input_fn(body, kind)


def test_the_artifact_serves_without_this_repository(work: Path) -> None:
    code = sorted(file.name for file in (work / "model" / "code").iterdir())
    assert code == ["artifact.py", "data.py", "features.py", "inference.py", "schema.toml"]
    assert sys.modules["inference"].__file__ == str(ROOT / "model" / "inference.py")
