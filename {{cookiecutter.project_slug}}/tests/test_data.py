"""The data: valid values, and one line for each mistake in it."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import csv_files
import data
import inference
import metrics
import preprocess
import train


def raw(tmp_path: Path, text: str | bytes) -> Path:
    """A folder with one CSV file."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "rows.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


MIXED = data.Schema("binary_classification", "label", ("no", "yes"), {"age": "number", "city": "category"}, ())
HEAD = "age,city,label\n"
MISTAKES = {
    "no-target": ("age,city,lable\n1,a,no\n", ["rows.csv", "target column 'label' is missing", "'lable'"]),
    "no-column": ("city,label\na,no\n", ["rows.csv", "column 'age' is missing"]),
    "extra-column": ("age,city,label,id\n1,a,no,7\n", ["rows.csv", "'id' is not in model/schema.toml", "ignore"]),
    "twice": ("age,age,label\n", ["line 1", "'age' is there twice"]),
    "empty": ("", ["rows.csv is empty"]),
    "no-rows": (HEAD, ["rows.csv has a header and no rows"]),
    "not-a-number": (HEAD + "1,a,no\n\n2,b,yes\nx,c,no\n", ["line 5, column 'age'", "'x' is not a number"]),
    "infinite": (HEAD + "1,a,no\ninf,b,yes\n", ["line 3, column 'age': inf is not finite"]),
    "semicolons": ("age;city;label\n1;a;no\n", ["column 'age' is missing", "by commas, not by ';'"]),
    "tabs": ("age\tcity\tlabel\n1\ta\tno\n", ["column 'age' is missing", r"by commas, not by '\t'"]),
    "no-label": (HEAD + "1,a,\n", ["line 2, column 'label'", "has no value"]),
    "unknown-label": (HEAD + '1,"a\nb",no\n2,b,perhaps\n', ["line 4, column 'label'", "'perhaps'", "no, yes"]),
    "few-cells": (HEAD + "1,a,no\n2,b\n", ["line 3", "2 cells"]),
    "many-cells": (HEAD + "1,a,no\n2,b,no,4\n", ["line 3", "4 cells"]),
    "encoding": (HEAD.encode() + b"1,a,no\n2,\xff,yes\n", ["line 3", "not UTF-8"]),
    "other-encoding": (HEAD.encode("utf-16"), ["rows.csv, line 1", "not UTF-8"]),
    "no-mark": (HEAD.encode("utf-16-le"), ["rows.csv, line 1", "not UTF-8"]),
    "nul": (HEAD + "1,a,no\n2,b\0,yes\n", ["line 3", "NUL"]),
    "open-quote": (HEAD.replace("city,label", "label,city") + '1,no,a\n\n2,yes,"b\n3,no,c\n', ["line 4", "quotes"]),
    "text-after-quote": (HEAD + '1,"a"b,no\n', ["line 2", "quotes"]),
    "decimal-comma": (HEAD + "1,a,no\n2,5,b,no\n", ["line 3", "4 cells"]),
    "leading-cell": (HEAD + "0,1,a,no\n1,2,b,yes\n", ["line 2", "4 cells"]),
    "other-nan": (HEAD + "1,a,no\n-nan,b,no\n", ["line 3, column 'age'", "-nan"]),
    "underscore": (HEAD + "1,a,no\n1_000,b,no\n", ["line 3, column 'age'", "'1_000' is not a number"]),
    "other-digits": (HEAD + "\u0661,a,no\n", ["line 2, column 'age'", "is not a number"]),
    "long-cell": (HEAD + "1,a,no\n1," + "b" * (3 << 20) + ",no\n", ["line 3", "limit"]),
    "only-a-header": (HEAD.strip(), ["rows.csv has a header and no rows"]),
    "no-lines": ("x" * 200_000, ["column 'age' is missing"]),
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_with_file_line_and_column(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    with pytest.raises(data.DataError) as error:
        csv_files.read_folder(raw(tmp_path, text), MIXED)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_any_line_ends_a_folder_named_csv_and_quotes_inside_a_cell_are_read(tmp_path: Path) -> None:
    (tmp_path / "parts.csv").mkdir()  # as Spark names the folder of its files
    raw(tmp_path / "parts.csv", HEAD.replace("\n", "\r") + '1,5" pipe,no\r2,"a ""b""\r\n",yes\r')
    assert csv_files.read_folder(tmp_path, MIXED)["city"].tolist() == ['5" pipe', 'a "b"\r\n']


@pytest.mark.parametrize("value", ["Infinity", "1e400", "9" * 400, "true", "[1]", "{}", '"1_000"', '"\u0661"', '"NAN"'])
def test_a_value_that_is_no_number_is_one_line(value: str) -> None:
    body = '[{"age": 1, "city": "a"}, {"age": VALUE, "city": "a"}]'.replace("VALUE", value)
    with pytest.raises(ValueError, match=r"^row 2, column 'age': .{1,100} is not a number$"):
        inference.check_rows(inference.json_rows(body, MIXED), MIXED)


def test_a_category_is_the_text_in_the_request_whatever_other_rows_have() -> None:
    rows = inference.json_rows('[{"city": 1}, {"age": null, "city": null}, {"age": "nan", "city": "b"}]', MIXED)
    assert inference.check_rows(rows, MIXED)["city"].tolist() == ["1", None, "b"]
    with pytest.raises(ValueError, match=r"^row 1, column 'city': True is not text$"):
        inference.check_rows({"age": [1], "city": [True]}, MIXED)


def test_an_open_quote_in_a_request_is_an_error() -> None:
    with pytest.raises(csv.Error, match="unexpected end"):
        inference.csv_rows('1,"a\n', MIXED)


@pytest.mark.parametrize("value", ["-1e-05", "-0.5", "-inf", "1"])
def test_a_hyperparameter_may_begin_with_a_minus(value: str) -> None:
    folders = ["--train", "x", "--validation", "x", "--model-dir", "x"]
    assert train.parse([*folders, "--reg_lambda", value]).reg_lambda == float(value)


def test_a_metric_is_no_number_where_it_is_not_defined() -> None:
    y, p = np.array([0, 1, 1]), np.array([0.1, 0.9, np.nan])
    for table in metrics.METRICS.values():
        assert np.isnan(list(metrics.measure(table, y, p).values())).all()
    assert np.isnan(metrics.r2(np.full(3, 0.1), np.full(3, 0.1), np.ones(3)))
    assert np.isnan(metrics.log_loss(y, np.array([0.1, 0.9, 1.5]), np.ones(3)))


def test_categories_and_missing_values_work(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{age if age > 20 else ''},{'ab'[int(age) % 2] if age < 90 else ''},{'yes' if age > 50 else 'no'}"
        for age in rng.integers(0, 99, 300)
    ]
    table = csv_files.read_folder(raw(tmp_path, HEAD + "\n".join(rows)), MIXED)
    assert table["age"].isna().any()
    assert table["city"].isna().any()
    parts = preprocess.split(table, MIXED, 0.2, 0.2, 1)
    preprocess.check(parts, MIXED)
    model, _ = train.train(
        {n: parts[n] for n in ("train", "validation")},
        MIXED,
        train.parse(["--train", "x", "--validation", "x", "--model-dir", "x"]),
    )
    unknown = pd.DataFrame({"age": [np.nan, 80.0], "city": ["never seen", None]})
    assert np.isfinite(model.predict(unknown)).all()
    accuracy = ((model.predict(parts["test"]) > 0.5) == (parts["test"]["label"] == "yes")).mean()
    assert accuracy > 0.9


def test_rows_with_the_same_key_stay_together_whatever_changes_in_them(tmp_path: Path) -> None:
    schema = replace(MIXED, split_by=("customer",))
    rows = "".join(f"{n % 90 + 1},a,{'yes' if n % 3 else 'no'},c{n % 100}\n" for n in range(400))
    texts = [f"age,city,label,customer\n{changed}" for changed in (rows, rows.replace("a,", "b,"))]
    tables = [csv_files.read_folder(raw(tmp_path / str(n), text), schema) for n, text in enumerate(texts)]
    one, two = (preprocess.split(table, schema, 0.2, 0.2, 1) for table in tables)
    keys = {name: set(part["customer"]) for name, part in one.items()}
    assert not keys["train"] & keys["test"] and sum(map(len, keys.values())) == 100
    for name, part in two.items():
        assert set(part["customer"]) == keys[name]
        assert set(data.row_digests(part, schema)) == set(data.row_digests(one[name], schema))
    with pytest.raises(data.DataError, match=r"line 3, column 'customer': has no value: every row needs a key"):
        csv_files.read_folder(raw(tmp_path / "none", "age,city,label,customer\n1,a,no,x\n1,a,no,\n"), schema)


def test_a_row_s_digest_is_of_the_schema_s_columns_only() -> None:
    """A later schema with another column still tells which rows an older model has seen."""
    table = pd.DataFrame({"age": [1.0, 2.0], "city": ["a", None], "label": ["no", "yes"]})
    digests = data.row_digests(table, MIXED)
    assert len(set(digests)) == 2
    assert (data.row_digests(table.assign(more=1)[["more", "label", "age", "city"]], MIXED) == digests).all()
    assert (data.row_digests(table.assign(age=3.0), MIXED) != digests).all()


def test_one_class_or_an_empty_split_is_an_error() -> None:
    table = pd.DataFrame({"age": np.arange(50.0), "city": "a", "label": "no"})
    with pytest.raises(data.DataError, match="always 'no'"):
        preprocess.check(preprocess.split(table, MIXED, 0.2, 0.2, 1), MIXED)
    with pytest.raises(data.DataError, match="split is empty"):
        preprocess.check(preprocess.split(table.head(1), MIXED, 0.2, 0.2, 1), MIXED)


def test_a_damaged_split_is_one_line_or_has_the_same_cells(tmp_path: Path) -> None:
    table = pd.DataFrame({"age": np.arange(50.0), "city": ["a", "b"] * 25, "label": ["no", "yes"] * 25})
    preprocess.write({"train": table}, {}, {}, tmp_path, "")
    file = tmp_path / "train" / "part.parquet"
    good, refused = file.read_bytes(), 0
    for position in range(0, len(good), 7):
        for damaged in (good[:position], good[:position] + bytes([good[position] ^ 16]) + good[position + 1 :]):
            file.write_bytes(damaged)
            try:
                assert data.read_split(file.parent).to_numpy().tolist() == table.to_numpy().tolist()
            except data.DataError as error:
                refused += 1
                assert "the train set is damaged" in str(error) and len(str(error).splitlines()) == 1  # noqa: PT017
    assert refused > len(good) / 7


def test_a_failure_is_written_where_sagemaker_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path))
    with pytest.raises(SystemExit):
        data.fail("two\nlines")
    assert (tmp_path / "failure").read_text() == (tmp_path / "message").read_text() == "two lines"
