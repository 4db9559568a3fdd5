"""The scripts in model/, on this repository's own data: what they compute, and which input they reject."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier, DummyRegressor

import artifact
import data
import estimator
import evaluate
import inference
import metrics
import preprocess
import raw_files
import train
from tests.raw_data import DATA

JSON = "application/json"
ROOT = Path(__file__).resolve().parent.parent
SCHEMA = data.load_schema()
# Metrics that weights of classes and the threshold of a decision do not make worse than no learning.
METRIC = {"binary_classification": "auc", "multiclass_classification": "balanced_accuracy"}.get(
    SCHEMA.problem_type, "rmse"
)


def run_scripts(folder: Path) -> Path:
    """Preprocess and train. Returns the folder with the model's archive."""
    preprocess.main(["--input", str(DATA), "--output", str(folder)])
    splits = ["--train", str(folder / "train"), "--validation", str(folder / "validation")]
    train.main([*splits, "--model-dir", str(folder / "model")])
    return pack(folder / "model", folder / "packed")


def pack(model: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "model.tar.gz", "w:gz") as tar:
        tar.add(model, arcname=".")
    return folder


def without_learning(folder: Path) -> float:
    """Return the metric of a model that learned nothing, on the test rows in `folder`."""
    y = data.encode_target(data.read_split(folder / "test")[SCHEMA.target], SCHEMA)
    shape = np.zeros((len(y), len(SCHEMA.classes)) if len(SCHEMA.classes) > 2 else len(y))
    return metrics.METRICS[SCHEMA.problem_type][METRIC](y, metrics.learned_nothing(y, shape), np.ones(len(y)))


def judge(folder: Path, model: Path, champion: Path, *more: str) -> dict[str, Any]:
    """Evaluate `model` against `champion` on the test rows in `folder`. Returns evaluation.json.

    By default, whatever is better than no learning meets the threshold.
    """
    threshold = str(without_learning(folder) * (1 - 1e-6 if METRIC == "rmse" else 1 + 1e-6))
    paths = {"model": model, "champion": champion, "test": folder / "test", "output": folder / "evaluation"}
    flags = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    evaluate.main([*flags, "--metric", METRIC, "--threshold", threshold, "--min-improvement", "0.0", *more])
    found: dict[str, Any] = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    return found


def as_champion(packed: Path, folder: Path, **changes: Any) -> Path:
    """Return a champion's folder, as an approval writes it, with changes in its record."""
    shutil.copytree(packed, folder, dirs_exist_ok=True)
    digest = hashlib.sha256((folder / "model.tar.gz").read_bytes()).hexdigest()
    (folder / "champion.json").write_text(json.dumps({"version": 2, "digest": digest} | changes))
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the splits, the model and its archive."""
    folder = tmp_path_factory.mktemp("work")
    run_scripts(folder)
    return folder


@pytest.fixture
def no_champion(tmp_path: Path) -> Path:
    """The champion's folder before the first approval."""
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "no-champion.json").write_text("{}")
    return tmp_path / "none"


def test_the_same_input_gives_the_same_bytes(work: Path, tmp_path: Path) -> None:
    run_scripts(tmp_path)
    for name in (*preprocess.SPLITS, "report", "model"):
        for file in (file for file in (work / name).rglob("*") if file.is_file()):
            assert file.read_bytes() == (tmp_path / file.relative_to(work)).read_bytes(), file.name


def test_a_row_stays_in_its_split_whatever_other_rows_there_are() -> None:
    table = preprocess.clean(raw_files.read_folder(DATA, SCHEMA), SCHEMA)
    whole = preprocess.split(table, SCHEMA, 0.15, 0.2, seed=1)
    half = preprocess.split(table.iloc[::2], SCHEMA, 0.15, 0.2, seed=1)
    for name in preprocess.SPLITS:
        assert set(half[name].index) == set(whole[name].index) & set(table.iloc[::2].index)
    assert sum(len(part) for part in whole.values()) == len(table)
    assert set(preprocess.split(table, SCHEMA, 0.15, 0.2, seed=2)["test"].index) != set(whole["test"].index)


def test_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, 200).astype(float)
    y: NDArray[Any] = rng.integers(0, max(2, len(SCHEMA.classes)), 200)
    p: NDArray[Any] = rng.random(200).round(1)
    expected: dict[str, Any]
    if SCHEMA.problem_type == "regression":
        y = rng.normal(size=200)
        expected = {"mae": sk.mean_absolute_error, "rmse": sk.root_mean_squared_error, "r2": sk.r2_score}
        values = {name: function(y, p, sample_weight=weight) for name, function in expected.items()}
    elif SCHEMA.problem_type == "binary_classification":
        expected = {"accuracy": sk.accuracy_score, "f1": sk.f1_score, "precision": sk.precision_score}
        expected |= {"recall": sk.recall_score, "balanced_accuracy": sk.balanced_accuracy_score}
        values = {name: function(y, p > 0.5, sample_weight=weight) for name, function in expected.items()}
        values |= {"auc": sk.roc_auc_score(y, p, sample_weight=weight)}
        values |= {"average_precision": sk.average_precision_score(y, p, sample_weight=weight)}
        values |= {"brier": sk.brier_score_loss(y, p, sample_weight=weight)}
    else:
        p = rng.dirichlet(np.ones(len(SCHEMA.classes)), 200)
        expected = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}
        options: dict[str, Any] = {"average": "weighted", "sample_weight": weight}
        values = {f"weighted_{name}": function(y, p.argmax(axis=1), **options) for name, function in expected.items()}
        values |= {"log_loss": sk.log_loss(y, p, sample_weight=weight)}
        values |= {"brier": sk.brier_score_loss(y, p, sample_weight=weight, scale_by_half=False)}
        values |= {"balanced_accuracy": sk.balanced_accuracy_score(y, p.argmax(axis=1), sample_weight=weight)}
    for name, value in values.items():
        assert metrics.METRICS[SCHEMA.problem_type][name](y, p, weight) == pytest.approx(value), name


def test_the_bootstrap_is_near_the_formula() -> None:
    """The deviation of a mean is that of the rows, divided by the root of their number."""
    rows = np.random.default_rng(0).normal(size=400)
    mean = {"mean": lambda y, p, w: float(np.average(p, weights=w))}
    deviation = metrics.bootstrap(mean, np.zeros(400), rows, 500, seed=1)["mean"]
    assert deviation == pytest.approx(rows.std() / 20, rel=0.1)
    used, weights, factor = metrics.resample(25_000, 50, seed=1)
    assert (len(set(used)), factor) == (20_000, 0.8**0.5) and any(weight[0] for weight in weights)


def test_without_a_champion_the_threshold_decides(work: Path, no_champion: Path) -> None:
    passed = judge(work, work / "packed", no_champion, "--confidence=0.5")["gate"]
    assert passed["passed"] and passed["champion_verdict"] == "no champion"
    assert "meets the threshold" in passed["reason"] and "no champion yet" in passed["reason"]
    failed = judge(work, work / "packed", no_champion, f"--threshold={-1 if METRIC == 'rmse' else 2}")["gate"]
    assert not failed["passed"] and failed["threshold_margin"] < 0
    assert "misses the threshold" in failed["reason"]


def test_the_champion_is_compared_on_the_same_rows(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = as_champion(work / "packed", tmp_path / "champion")
    tie = judge(work, work / "packed", champion)["gate"]
    assert (tie["champion_verdict"], tie["improvement"]) == ("passed", 0.0)
    dummy = DummyClassifier() if SCHEMA.is_classification else DummyRegressor()
    monkeypatch.setattr(estimator, "fit", lambda train, *_: dummy.fit(train.matrix, train.target))
    weak = run_scripts(tmp_path / "weak")
    worse = judge(work, weak, champion)["gate"]
    assert worse["champion_verdict"] == "failed" and not worse["passed"]
    assert worse["champion"] == tie["candidate"] != worse["candidate"]
    better = judge(work, work / "packed", as_champion(weak, tmp_path / "weak-champion", version=1))["gate"]
    assert better["champion_verdict"] == "passed"
    assert better["improvement"] == -worse["improvement"] >= better["lowest_improvement"] > 0


def test_a_champion_is_not_compared_on_rows_that_it_was_trained_on(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another seed, most test rows of today are rows that the champion was trained on."""
    champion = as_champion(work / "packed", tmp_path / "champion")
    preprocess.main(["--input", str(DATA), "--output", str(tmp_path), "--seed", "7", "--test-fraction", "0.6"])
    splits = ["--train", str(tmp_path / "train"), "--validation", str(tmp_path / "validation")]
    train.main([*splits, "--model-dir", str(tmp_path / "model")])
    rows, known = data.read_split(tmp_path / "test"), np.load(work / "model" / artifact.SEEN)
    new = int((~np.isin(data.row_digests(rows, SCHEMA), known)).sum())
    packed = pack(tmp_path / "model", tmp_path / "packed")
    if new < evaluate.LEAST_ROWS:
        with pytest.raises(SystemExit):
            judge(tmp_path, packed, champion)
        assert "too few to compare on" in capsys.readouterr().err
        return
    stricter = without_learning(tmp_path) * (0.5 if METRIC == "rmse" else 1.01)
    found = judge(tmp_path, packed, champion, f"--threshold={stricter}")
    assert found["lineage"]["rows"]["test"] == new
    assert f"{len(rows) - new} test rows that the champion was trained on are left out" in found["gate"]["reason"]


def test_a_model_trained_on_test_rows_is_refused(
    work: Path, no_champion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "validation"):
        shutil.copytree(work / "test", tmp_path / name)
    shutil.copytree(work / "test", tmp_path / "test")
    splits = ["--train", str(tmp_path / "train"), "--validation", str(tmp_path / "validation")]
    train.main([*splits, "--model-dir", str(tmp_path / "model")])
    with pytest.raises(SystemExit):
        judge(tmp_path, pack(tmp_path / "model", tmp_path / "packed"), no_champion)
    assert "the candidate was trained on" in capsys.readouterr().err


def test_a_champion_whose_column_had_another_kind_is_not_compared(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its features of that column would be others, and its record of the rows that it has seen as well."""
    shutil.copytree(work / "model", tmp_path / "model")
    own = tmp_path / "model" / "schema.toml"
    other = {"number": "category", "category": "number", "date": "number"}
    own.write_text(
        re.sub(r'= "(number|category|date)[^"\n]*"', lambda kind: f'= "{other[kind[1]]}"', own.read_text(), count=1)
    )
    with pytest.raises(SystemExit):
        judge(work, work / "packed", as_champion(pack(tmp_path / "model", tmp_path / "packed"), tmp_path / "champion"))
    assert "has another kind in model/schema.toml; reject it" in capsys.readouterr().err


HALF = """def half(model, table):
    return model.whole(table) * 0.5


Model.predict = half


def save("""


def test_the_champion_is_scored_by_its_own_code(work: Path, tmp_path: Path) -> None:
    """An artifact whose code halves its predictions still does so, whatever today's code does."""
    shutil.copytree(work / "model", tmp_path / "model")
    own = tmp_path / "model" / "code" / "artifact.py"
    own.write_text(own.read_text().replace("def predict(", "def whole(").replace("def save(", HALF))
    rows = data.read_split(work / "test")
    today = artifact.load(tmp_path / "model").predict(rows)
    np.testing.assert_allclose(evaluate.predict_with_own_code(tmp_path / "model", rows), today * 0.5, rtol=1e-6)


def test_evaluate_fails_in_one_line_if_it_cannot_judge(
    work: Path, no_champion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(expected: str, *more: str, model: Path = work / "packed", champion: Path = no_champion) -> None:
        shutil.rmtree(work / "evaluation", ignore_errors=True)
        with pytest.raises(SystemExit) as end:
            judge(work, model, champion, *more)
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 1 and expected in line and not (work / "evaluation").exists()

    fails("is not one of", "--metric=nonsense")
    for option in ("threshold=nan", "min-improvement=inf", "confidence=0.49", "confidence=1", "confidence=2"):
        fails("finite", f"--{option}")
    fails("a model that learned nothing has", f"--threshold={without_learning(work)}")
    fails("there is no model.tar.gz", model=no_champion)
    (tmp_path / "model.tar.gz").write_bytes(b"not an archive")
    fails("is not a model artifact", model=tmp_path)
    fails("the champion is incomplete", champion=tmp_path / "nowhere")
    champion = tmp_path / "champion"
    fails("the champion is incomplete", champion=as_champion(work / "packed", champion, version=0))
    for digest in ("0" * 64, "f" * 64):
        fails("not the recorded one", champion=as_champion(work / "packed", champion, digest=digest))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[columns]", '[columns]\nold = "number"\nolder = "number"', "its column 'old' is gone in model/schema.toml"),
        *((f'name = "{SCHEMA.target}"', f'name = "{n}"', "target or classes changed") for n in ("AAA", "zzz")),
    ],
)
def test_a_champion_that_does_not_fit_the_rows_is_refused(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    schema = shutil.copytree(work / "model", tmp_path / "model") / "schema.toml"
    schema.write_text(schema.read_text().replace(old, new))
    with pytest.raises(SystemExit):
        judge(work, work / "packed", as_champion(pack(tmp_path / "model", tmp_path / "packed"), tmp_path / "champion"))
    assert f"champion v2 cannot score the test rows: {words}" in capsys.readouterr().err


def test_evaluation_records_what_the_model_was_made_of(work: Path, no_champion: Path, tmp_path: Path) -> None:
    found = judge(work, work / "packed", no_champion)
    recorded = json.loads((work / "model" / "training.json").read_text())
    archive = (work / "packed" / "model.tar.gz").read_bytes()
    rows = {name: len(data.read_split(work / name)) for name in preprocess.SPLITS}
    assert found["lineage"] == {
        "rows": rows,
        "split": {"seed": 42, "split_by": list(SCHEMA.split_by), "test_fraction": 0.2, "validation_fraction": 0.15},
        "hyperparameters": recorded["hyperparameters"],
        "versions": recorded["versions"],
        "artifact_sha256": hashlib.sha256(archive).hexdigest(),
    }
    figures = [name for name in found[f"{SCHEMA.problem_type}_metrics"] if name.startswith(("confusion_", "receiver_"))]
    assert len(figures) == SCHEMA.is_classification + (SCHEMA.problem_type == "binary_classification")
    seen = np.load(work / "model" / artifact.SEEN)
    assert len(seen) == rows["train"] + rows["validation"]
    assert not np.isin(data.row_digests(data.read_split(work / "test"), SCHEMA), seen).any()
    assert {"python", "numpy", "pandas", "pyarrow", "sklearn"} <= recorded["versions"].keys()
    shutil.copytree(work / "model", tmp_path / "model", ignore=shutil.ignore_patterns("training.json"))
    unknown = judge(work, pack(tmp_path / "model", tmp_path / "packed"), no_champion)["lineage"]
    assert (unknown["rows"], unknown["versions"]) == ({"test": rows["test"]}, {})


def test_inference_answers_as_evaluation_does(work: Path) -> None:
    model = inference.model_fn(str(work / "model"))
    rows = data.read_split(work / "test")[list(SCHEMA.columns)]
    expected = inference.predict(rows, model)
    records = json.loads(rows.to_json(orient="records", double_precision=15, date_format="iso"))
    for body, kind in (
        (rows.to_csv(index=False), "text/csv"),
        (rows.to_csv(index=False, header=False), "text/csv"),
        (json.dumps({"instances": records}), JSON),
        (json.dumps(records), JSON),
    ):
        text, content_type = inference.transform_fn(model, body.encode(), kind, JSON)
        assert (json.loads(text), content_type) == (expected, JSON)
    text, content_type = inference.transform_fn(model, body.encode(), kind, "text/csv")
    assert (len(text.splitlines()), content_type) == (len(rows), "text/csv")


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("{", JSON, "not JSON"),
        ('{"rows": 1}', JSON, "instances"),
        ('{"instances": []}', JSON, "no rows"),
        ('{"instances": [{"nothing": 1}]}', JSON, "is missing"),
        ("1,2\n", "text/csv", "row 1 has 2 cells"),
        ("", "text/csv", "no rows"),
        ("x", "text/plain", "text/csv"),
        (",".join([*SCHEMA.columns, *SCHEMA.columns]), "text/csv", "a column twice"),
        ("1\r2\n", "text/csv", "new-line character"),
        ("1" * 2_000_000, "text/csv", "field larger than"),
        ("1\0,2\n", "text/csv", "not UTF-8 text"),
        ("\ufffd", "text/csv", "not UTF-8 text"),
        (b"\xff", "text/csv", "not UTF-8 text"),
        ("[" * 100_000, JSON, "recursion"),
    ],
)
def test_a_bad_request_has_a_reason_of_one_line(work: Path, body: bytes | str, kind: str, words: str) -> None:
    with pytest.raises(inference.BadRequest, match=words) as error:
        inference.transform_fn(inference.model_fn(str(work / "model")), body, kind, JSON)
    assert "\n" not in str(error.value)


SERVE = """
import sys
sys.path.insert(0, "code")
from inference import model_fn, transform_fn
print(transform_fn(model_fn("."), open("sample_request.json").read(), "application/json", "application/json")[0])
"""


def test_the_artifact_serves_without_this_repository(work: Path) -> None:
    """The answer to the artifact's own sample is what the smoke test of a deployment compares."""
    done = subprocess.run([sys.executable, "-I", "-c", SERVE], cwd=work / "model", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((work / "model" / "sample_response.json").read_text())
