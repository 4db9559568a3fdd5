"""`sagegate data`: from a user's file to a trained model that answers, in two commands and without edited Python."""

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clean_copy import ROOT
from conftest import Bake, RunIn
from fakes.remote import client
from made_data import DATA, as_csv, churn, sales, write
from test_quickstart import served

if TYPE_CHECKING:
    from fakes.remote import Remote

# Ten lines of scikit-learn on the same split: what somebody would write first.
BESIDE = """
import sys, pandas as pd
from pathlib import Path
from threadpoolctl import threadpool_limits; threadpool_limits(1)  # waiting threads slow other tests down
from sklearn import ensemble, metrics
target, metric, s3 = sys.argv[1], sys.argv[2], Path(".mlops/s3")
train, test = (pd.concat(map(pd.read_parquet, s3.rglob(f"*/{name}/*.parquet"))) for name in ("train", "test"))
for name in train.columns.drop(target):
    if train[name].dtype == object: both = pd.CategoricalDtype(train[name].dropna().unique())
    for rows in (train, test):
        if rows[name].dtype == object: rows[name] = rows[name].astype(both)
        elif rows[name].dtype != float: rows[name] = rows[name].astype("int64").where(rows[name].notna())
kind = ensemble.HistGradientBoostingRegressor if metric == "rmse" else ensemble.HistGradientBoostingClassifier
model = kind(categorical_features="from_dtype", random_state=0).fit(train.drop(columns=target), train[target])
x, y = test.drop(columns=target), test[target]
print({
    "rmse": lambda: metrics.root_mean_squared_error(y, model.predict(x)),
    "accuracy": lambda: metrics.accuracy_score(y, model.predict(x)),
    "auc": lambda: metrics.roc_auc_score(y, model.predict_proba(x)[:, 1]),
    "average_precision": lambda: metrics.average_precision_score(y == "1", model.predict_proba(x)[:, 1]),
}[metric]())
"""


def contents(project: Path) -> dict[str, bytes]:
    """Return the files of a project, without what Python caches."""
    files = [file for file in project.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    return {file.relative_to(project).as_posix(): file.read_bytes() for file in files}


def schema(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "model" / "schema.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", DATA)
def test_two_commands_lead_to_a_model_that_answers_and_is_as_good_as_scikit_learn(
    bake: Bake, run_in: RunIn, project_env: Path, tmp_path: Path, name: str
) -> None:
    project, (target, _) = bake(), DATA[name]
    path = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])
    made = run_in(project, "made_data", name, str(tmp_path), env={"PYTHONPATH": path}).stdout.strip()
    code = {file: text for file, text in contents(project).items() if file.endswith(".py")}
    described = run_in(project, "sagegate", "data", made, "--target", target).stdout
    assert "wrote model/schema.toml" in described and "next: sagegate run" in described
    assert "model 1 registered" in run_in(project, "sagegate", "run").stdout
    (found,) = (project / ".mlops" / "s3").rglob("evaluation.json")
    evaluation = json.loads(found.read_text())
    gate, metrics = evaluation["gate"], next(value for key, value in evaluation.items() if key.endswith("_metrics"))
    (project / "beside.py").write_text(BESIDE)
    beside = float(run_in(project, "beside", target, gate["metric"]).stdout)
    better = (gate["candidate"] - beside) * (1 if gate["greater_is_better"] else -1)
    print(f"{name}: {gate['metric']} {gate['candidate']:.4f}, scikit-learn {beside:.4f}")
    assert better >= -1.96 * metrics[gate["metric"]]["standard_deviation"], (gate["candidate"], beside)
    run_in(project, "sagegate", "check")
    run_in(project, "sagegate", "approve", "1", "--reason", "own data")
    with served(project_env, project) as url:
        answer = json.loads(run_in(project, "sagegate", "invoke", "--url", url).stdout)
    assert len(answer["predictions"]) == 5
    assert code == {file: text for file, text in contents(project).items() if file in code}


def test_the_guesses_of_customers_are_explained(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake(problem_type="regression")
    file = write(tmp_path / "churn.csv", as_csv(churn()).encode())
    before = contents(project)
    shown = run_in(project, "sagegate", "data", str(file), "--target", "churned").stdout
    found = schema(project)
    assert found["problem_type"] == "binary_classification" and found["target"]["classes"] == ["no", "yes"]
    columns = {"age": "number", "plan": "category", "city": "category", "since": "date", "zip": "category"}
    assert found["columns"] == columns
    assert found["ignore"] == ["customer_id", "row", "country", "comment", "cancelled_on"]
    text = (project / "model" / "schema.toml").read_text()
    for words in ('"country", # constant', '"cancelled_on", # leaks', "texts, 3 different, 384 missing", "160 missing"):
        assert words in text
    assert re.search(r"age +number +numbers from 18 to 80 +160 +63", shown)
    after = contents(project)
    assert {name for name in after if after[name] != before[name]} == {
        "mlops.toml",
        "environments/local.toml",
        "model/schema.toml",
    }
    lines = [after["mlops.toml"].decode().splitlines(), before["mlops.toml"].decode().splitlines()]
    changed = [one for one, other in zip(*lines, strict=True) if one != other]
    assert [line.partition(" =")[0] for line in changed] == ["metric", "threshold", "min_improvement"]
    assert changed[0] == 'metric = "auc" # a metric of model/evaluate.py'
    run_in(project, "sagegate", "data", "data/diabetes.csv", "--target", "progression")
    assert contents(project)["environments/local.toml"] == before["environments/local.toml"]
    assert 'source = "data/diabetes.csv" # a folder' in (project / "mlops.toml").read_text()


def rows(change: Callable[[list[Any]], object], count: int = 200) -> bytes:
    """Return the customers as CSV after a change."""
    found = list(churn(count))
    change(found)
    return as_csv(iter(found)).encode()


def put(name: str, value: Callable[[int], object]) -> Callable[[list[Any]], object]:
    return lambda found: [row.update({name: value(number)}) for number, row in enumerate(found)]


REFUSED = {
    "no-target": ("churn.csv", rows(lambda found: None), ["--target", "churn"], ["no column 'churn'", "churned"]),
    "constant-target": ("churn.csv", rows(put("churned", lambda n: "no")), [], ["'churned' is always 'no'"]),
    "blank-targets": ("churn.csv", rows(put("churned", lambda n: "" if n == 7 else "ab"[n % 2])), [], ["in 1 of 200"]),
    "few-rows": ("churn.csv", rows(lambda found: None, 20), [], ["only 20 rows", "50"]),
    "rare-class": (
        "churn.csv",
        rows(put("churned", lambda n: "x" if n == 7 else "ab"[n % 2])),
        [],
        ["1 rows of class 'x'"],
    ),
    "alike": ("churn.csv", rows(put("churned", lambda n: ["yes", "no", "Yes "][n % 3])), [], ["'yes' and 'Yes '"]),
    "texts": ("churn.csv", rows(put("churned", lambda n: f"t{n}")), [], ["200 different values", "at most 20"]),
    "type": ("churn.csv", rows(lambda found: None), ["--problem-type", "regression"], ["which is not a number"]),
    "no-features": (
        "churn.csv",
        b"id,churned\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(99)),
        [],
        ["no column"],
    ),
    "alike-rows": (
        "churn.csv",
        b"one,two,churned\n" + b"".join(b"a%d,b%d,%d\n" % (n % 5, n % 7, n % 35 < 2) for n in range(600)),
        [],
        [
            "average_precision cannot be measured on the",
            "test rows",
            "equal rows count once (clean in model/preprocess",
        ],
    ),
    "faults": (
        "churn.csv",
        rows(put("age", lambda n: "?" if n in (3, 9) else n % 50)),
        [],
        ["line 5, column 'age': '?'", "2 faults in all", "lines 5, 11"],
    ),
    "not-read": ("churn.xlsx", b"PK", [], ["churn.xlsx is not read", ".parquet"]),
    "not-gzip": ("churn.csv.gz", b"a,b", [], ["churn.csv.gz is not a whole gzip file"]),
    "empty": ("churn.csv", b"", [], ["churn.csv is empty"]),
    "cells": ("churn.csv", b"age,churned\n1,0\n2\n3,1,4\n", [], ["line 3", "1 cells", "2 faults"]),
    "quotes": ("churn.csv", b'age,churned\n1,"0\n', [], ["line 2", "quotes"]),
}


@pytest.mark.parametrize(("name", "content", "options", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_data_that_no_model_can_learn_is_one_line_and_nothing_is_written(
    bake: Bake, run_in: RunIn, tmp_path: Path, name: str, content: bytes, options: list[str], words: list[str]
) -> None:
    project = bake()
    before = contents(project)
    file = write(tmp_path / name, content)
    done = run_in(project, "sagegate", "data", str(file), "--target", "churned", *options, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode in (1, 2) and line.startswith("sagegate: "), done.stderr
    for word in words:
        assert word in line
    assert contents(project) == before


def test_no_file_and_parts_that_differ_are_named(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    for name, text in {"a.csv": "x,y\n1,0\n", "b.csv": "x,z\n1,0\n"}.items():
        (tmp_path / "parts").mkdir(exist_ok=True)
        write(tmp_path / "parts" / name, text.encode())
    for path, words in (
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "parts", "b.csv has other columns than a.csv"),
    ):
        done = run_in(project, "sagegate", "data", str(path), "--target", "y", check=False)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1


HOSTILE = [
    'a"b',
    "a'b",
    "[red]",
    "a\nb",
    "\x1b[31mred",
    "a\\",
    "#",
    "a = 1",
    "",
    "{x}",
    "\u202eabc",
    "{{ x }}",
    "é",
    "a.b",
    "\x7f",
]


def test_hostile_names_are_harmless(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    found = ({name: f"{name}{n % 7}" for name in HOSTILE} | {"]target[": f"]\x1b{n % 2}\x07"} for n in range(120))
    file = write(tmp_path / "rows [bold].csv", as_csv(found).encode())
    shown = run_in(project, "sagegate", "data", str(file), "--target", "]target[").stdout
    assert not re.search("[\x1b\x07\x7f\u202e]", shown) and "[red]" in shown
    assert list(schema(project)["columns"]) + schema(project)["ignore"] == HOSTILE
    text = (project / "model" / "schema.toml").read_text(encoding="utf-8")
    assert not re.search("[\x1b\x07\x7f]", text)
    run_in(project, "sagegate", "check")
    assert "Succeeded  Train" in run_in(project, "sagegate", "run", check=False).stdout


def y(n: int) -> int:
    return int(n * 7919 % 1009 % 13 < 6)


KINDS: dict[str, tuple[Callable[[int], object], str, str]] = {
    "user_id": (lambda n: f"u{n // 3 * 7}", "split_by", "key of several rows"),
    "text": (lambda n: f"t{n % 150}", "ignore", "too many different texts"),
    "empty": (lambda n: " ", "ignore", "always empty"),
    "american": (lambda n: f"{n % 12 + 1}/{n % 28 + 1}/2024", "date %m/%d/%Y", "dates like"),
    "either": (lambda n: f"{n % 12 + 1}/{n % 9 + 1}/2024", "date %m/%d/%Y", "could also be %d/%m/%Y: make sure"),
    "compact": (lambda n: f"2024{n % 12 + 1:02d}{n % 28 + 1:02d}", "date %Y%m%d", "dates like"),
    "size": (lambda n: n * 37 % 100_003, "number", "numbers from"),
    "blank": (lambda n: n * 1.5 if n % 5 else "NaN", "number", "120 missing"),
    "code": (lambda n: f"0{n % 9}", "category", "digits such as '00' are codes"),
    "equal": (lambda n: "ab"[y(n)], "ignore", "it says the same as the target"),
    "says": (lambda n: y(n) * 10 + n % 7, "ignore", "leaks: it alone predicts"),
}


def test_a_column_is_what_its_values_say(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project = bake()
    found = ({name: KINDS[name][0](n) for name in KINDS} | {"y": y(n)} for n in range(600))
    run_in(project, "sagegate", "data", str(write(tmp_path / "r.csv", as_csv(found).encode())), "--target", "y")
    keys, text = schema(project), (project / "model" / "schema.toml").read_text()
    for name, (_, kind, why) in KINDS.items():
        assert keys["columns"].get(name) == kind or name in keys.get(kind, []), name
        assert re.search(rf'(?m)^ *"?{name}"?.*# .*{re.escape(why)}', text), name
    assert keys["target"]["classes"] == ["0", "1"]


def test_check_holds_schema_header_metric_and_threshold_to_each_other(
    bake: Bake, run_in: RunIn, tmp_path: Path
) -> None:
    project, file = bake(), tmp_path / "sales.csv"
    write(file, as_csv(sales(), ";").encode())
    run_in(project, "sagegate", "data", str(file), "--target", "Kosten")

    def fails(path: Path, old: str, new: str, *words: str) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        done = run_in(project, "sagegate", "check", check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        for word in words:
            assert word in done.stderr
        path.write_text(text, encoding="utf-8")

    assert "4 columns" not in run_in(project, "sagegate", "check").stdout
    fails(file, "Ort", "Town", "column 'Ort' is missing", "'Town' is not in model/schema.toml")
    fails(file, "Ort", "Datum", "'Datum' is there twice")
    fails(file, "Kosten", "Preis", "the target column 'Kosten' is missing")
    fails(file, "2022", "2o22", "column 'Datum'", "is not a date like %d.%m.%Y")
    fails(project / "model" / "schema.toml", 'decimal = ","', 'decimal = "."', "is not a number", "faults in all")
    fails(project / "mlops.toml", 'metric = "rmse"', 'metric = "auc"', "'auc' is not a metric of regression", "rmse")
    fails(project / "mlops.toml", "threshold = ", "threshold = 1", "a model that learned nothing has rmse", "stricter")
    assert run_in(project, "sagegate", "check").stdout.strip().endswith("3 columns, 1200 rows")
    file.unlink()
    assert "the data was not checked" in run_in(project, "sagegate", "check").stdout


def test_check_looks_at_the_header_of_large_data_only(bake: Bake, run_in: RunIn, tmp_path: Path) -> None:
    project, file = bake(), tmp_path / "sales.csv"
    write(file, as_csv(sales(), ";").encode())
    run_in(project, "sagegate", "data", str(file), "--target", "Kosten")
    with file.open("a") as stream:
        stream.writelines("1,5;Köln;wrong;3\n" for _ in range(1_200_000))
    assert "only the headers" in run_in(project, "sagegate", "check").stdout
    with file.open("r+") as stream:
        stream.write("Grosse")
    assert "is missing" in run_in(project, "sagegate", "check", check=False).stderr


def test_data_in_s3_is_copied_for_local_runs(bake: Bake, run_in: RunIn, fake_aws: "Remote") -> None:
    project, env = bake(), fake_aws.environment("123456789012")
    s3 = client("s3", env)
    s3.create_bucket(Bucket="lake")
    lines = as_csv(churn()).splitlines(keepends=True)
    for key, part in {"raw/a.csv": lines[:800], "raw/b.csv": [lines[0], *lines[800:]], "rawer/c.xlsx": []}.items():
        s3.put_object(Bucket="lake", Key=key, Body="".join(part).encode())
    run_in(project, "sagegate", "data", "s3://lake/raw", "--target", "churned", env=env)
    assert 'source = "s3://lake/raw" #' in (project / "mlops.toml").read_text()
    assert "5 columns, 1500 rows" in run_in(project, "sagegate", "check").stdout
    assert "model 1 registered" in run_in(project, "sagegate", "run").stdout
    for uri in ("s3://lake/nothing", "s3://other/raw"):
        done = run_in(project, "sagegate", "data", uri, "--target", "churned", env=env, check=False)
        assert done.returncode == 2 and uri in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_how_to_page_works_as_it_is_written(bake: Bake, run_in: RunIn) -> None:
    project, page = bake(), (ROOT / "docs" / "how-to" / "your-own-data.md").read_text(encoding="utf-8")
    (project / "churn.csv").write_bytes(as_csv(churn()).encode())
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert [command.split()[3] for command in commands] == ["data", "run", "check"]
    for command in commands:
        run_in(project, *command.removeprefix("uv run ").split())
    shown, _ = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)  # test_estimators.py follows the second
    assert shown in (project / "model" / "schema.toml").read_text(encoding="utf-8")


THREADS = """
import os, sys
sys.path.insert(0, "model")
import data, raw_files
from pathlib import Path

schema, before = data.load_schema(), len(os.listdir("/proc/self/task"))
try:
    raw_files.read_folder(Path("faulty"), schema)
except data.DataError:
    print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads by /proc")
def test_a_faulty_file_is_read_without_arrow_s_threads(bake: Bake, run_in: RunIn) -> None:
    """One of them, of three or more, may wait for itself; then the job never ends (apache/arrow 48741)."""
    project = bake()
    (project / "faulty").mkdir()
    header, *_ = next((project / "data").glob("*.csv")).read_text(encoding="utf-8").partition("\n")
    (project / "faulty" / "rows.csv").write_text(f"{header}\n1,2\n1,2\n", encoding="utf-8")
    (project / "threads.py").write_text(THREADS, encoding="utf-8")
    assert int(run_in(project, "threads").stdout) < 3
