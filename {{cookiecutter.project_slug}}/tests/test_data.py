"""The data: valid values, and one line for each mistake in it."""

import csv
import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import data
import estimator
import features
import inference
import metrics
import preprocess
import raw_files
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
    "semicolons": ("age;city;label\n1;a;no\n", ["column 'age' is missing", "set separator = ';'"]),
    "tabs": ("age\tcity\tlabel\n1\ta\tno\n", ["column 'age' is missing", r"set separator = '\t'"]),
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
    "no-lines": ("x" * 200_000, ["rows.csv has a header and no rows"]),
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_with_file_line_and_column(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    with pytest.raises(data.DataError) as error:
        raw_files.read_folder(raw(tmp_path, text), MIXED)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_all_faults_of_all_files_are_counted_with_the_first_places(tmp_path: Path) -> None:
    rows = "".join(f"{'x' if n % 2 else n},a,{'no' if n else ''}\n" for n in range(20)) + "1,2\n"
    raw(tmp_path / "more", HEAD)
    with pytest.raises(data.DataError) as error:
        raw_files.read_folder(raw(tmp_path, HEAD + rows), MIXED)
    assert str(error.value).startswith("more/rows.csv has a header and no rows: add rows; also wrong: rows.csv")
    (tmp_path / "more" / "rows.csv").unlink()
    with pytest.raises(data.DataError) as error:
        raw_files.read_folder(tmp_path, MIXED)
    assert str(error.value).startswith("rows.csv, line 2, column 'label': has no value: every row needs a target; 12 f")
    assert "; column 'age' 10 (lines 3, 5, 7, 9, 11, ...); the number of cells 1 (lines 22)" in str(error.value)
    columns = {"age": "number", "city": "category", "street": "category"}
    with pytest.raises(data.DataError, match=r"'city' is missing.*'street' is missing.*'town' is not in model"):
        raw_files.read_folder(raw(tmp_path, "age,label,town\n1,no,a\n"), replace(MIXED, columns=columns))


@pytest.mark.parametrize("name", ["rows.xlsx", "more/rows.csv.zip", "README"])
def test_a_file_that_no_reader_is_for_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    for other in (name, "_SUCCESS", ".hidden.xlsx"):
        (tmp_path / other).write_text("x")
    raw(tmp_path, HEAD + "1,a,no\n")
    with pytest.raises(data.DataError, match=f"{name} is not read"):
        raw_files.read_folder(tmp_path, MIXED)
    (tmp_path / name).unlink()
    assert len(raw_files.read_folder(tmp_path, MIXED)) == 1


DATED = data.Schema("regression", "price", (), {"size": "number", "town": "category", "sold": "date %d.%m.%Y"}, ())
ROWS = 'size;town;sold;price\n1,5;Köln;31.12.2024;7\n \u00a0;  ;;1e1\n"\n";"ä,""b";1.2.2023;2\n'
FORMS = {
    "rows.csv": (data.Files(";", ",", "cp1252"), ROWS.encode("cp1252")),
    "rows.TXT": (data.Files("|", ",", "utf-16"), ROWS.replace(";", "|").encode("utf-16")),
    "rows.tsv.gz": (data.Files("\t", ","), gzip.compress(ROWS.replace(";", "\t").encode())),
}


@pytest.mark.parametrize("name", FORMS)
def test_any_separator_encoding_decimal_and_compression_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name][1])
    table = raw_files.read_folder(tmp_path, replace(DATED, files=FORMS[name][0]))
    assert table["size"].tolist()[0] == 1.5 and table["size"].isna().tolist() == [False, True, True]
    assert table["town"].tolist()[::2] == ["Köln", 'ä,"b'] and table["town"].isna().tolist() == [False, True, False]
    assert table["sold"].dt.strftime("%Y-%m-%d").tolist()[::2] == ["2024-12-31", "2023-02-01"]
    assert table["sold"].dtype == "datetime64[us]" and table["sold"].isna().tolist() == [False, True, False]
    assert table["price"].tolist() == [7.0, 10.0, 2.0]


TIMES = pd.DatetimeIndex(["2024-12-31T23:30", "NaT", "2023-02-01T00:00"])
PARQUET: dict[str, dict[str, Any]] = {
    "numbers": {"size": [1.5, None, np.nan], "town": pd.Categorical(["a", None, "1"]), "sold": TIMES},
    "texts": {"size": ["1.5", "NA", " "], "town": ["a", " ", "1"], "sold": ["2024-12-31 23:30", "", "2023-02-01"]},
    "zones": {"size": [True, None, None], "town": ["a", None, "1"], "sold": TIMES.tz_localize("Etc/GMT+1")},
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_is_read_whatever_the_types_of_its_columns(tmp_path: Path, name: str) -> None:
    pd.DataFrame(PARQUET[name] | {"price": [1, 2, 3]}).to_parquet(tmp_path / "rows.parquet")
    table = raw_files.read_folder(tmp_path, replace(DATED, columns=DATED.columns | {"sold": "date"}))
    assert table["size"].isna().tolist() == [False, True, True] and table["price"].tolist() == [1.0, 2.0, 3.0]
    assert table["town"].tolist()[::2] == ["a", "1"] and pd.isna(table["town"][1])
    assert table["sold"].dt.day.tolist()[::2] == ([1, 1] if name == "zones" else [31, 1]) and pd.isna(table["sold"][1])


WRONG_FILES: dict[str, tuple[str, Any, str]] = {
    "not-gzip": ("rows.csv.gz", b"size,town", "rows.csv.gz is not a whole gzip file"),
    "cut-gzip": ("rows.csv.gz", gzip.compress(ROWS.encode())[:-9], "rows.csv.gz is not a whole gzip file"),
    "not-parquet": ("rows.parquet", b"PAR1", "rows.parquet is not a whole Parquet file"),
    "encoding": ("rows.csv", ROWS.encode("cp1252").replace(b"7", b"\x81"), "line 2: a byte is not cp1252: correct enc"),
    "point": (
        "rows.csv",
        ROWS.encode("cp1252").replace(b"1,5", b"1.5"),
        "line 2, column 'size': '1.5' is not a number",
    ),
    "date": ("rows.csv", ROWS.encode("cp1252").replace(b"31.", b"32."), "'32.12.2024' is not a date like %d.%m.%Y"),
    "inf": ("rows.parquet", {"size": [1, np.inf]}, "rows.parquet, row 2, column 'size': inf is not finite"),
    "text": ("rows.parquet", {"size": ["1", "nan(1)"]}, "row 2, column 'size': 'nan(1)' is not a number"),
    "list": ("rows.parquet", {"town": [["a"], ["b"]]}, "rows.parquet: column 'town' cannot be read as cells"),
    "day": ("rows.parquet", {"sold": ["2024-12-31", "today"]}, "row 2, column 'sold': 'today' is not a date"),
    "target": ("rows.parquet", {"price": [1, None]}, "row 2, column 'price': has no value: every row needs a target"),
}


@pytest.mark.parametrize(("name", "content", "words"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_a_wrong_file_of_another_form_is_one_line(tmp_path: Path, name: str, content: Any, words: str) -> None:
    schema = replace(DATED, files=data.Files(";", ",", "cp1252"))
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        whole: dict[str, Any] = {"size": [1.0, 2.0], "town": ["a", "b"], "sold": ["2024-12-31", None], "price": [1, 2]}
        pd.DataFrame(whole | content).to_parquet(tmp_path / name)
        schema = replace(DATED, columns=DATED.columns | {"sold": "date"})
    with pytest.raises(data.DataError, match=re.escape(words)) as error:
        raw_files.read_folder(tmp_path, schema)
    assert "\n" not in str(error.value)


def test_a_date_in_a_request_has_the_features_that_it_has_in_a_file(tmp_path: Path) -> None:
    schema = replace(DATED, columns={"sold": "date"})
    file = raw(tmp_path, "sold,price\n2024-02-29T18:00:00+02:00,1\n,2\n1969-12-31,3\n")
    expected = features.expand_dates(raw_files.read_folder(file, schema)[["sold"]])
    text = '[{"sold": "2024-02-29T16:00Z"}, {"sold": null}, {"sold": "1969-12-31 00:00"}]'
    rows = inference.check_rows(inference.json_rows(text, schema), schema)
    pd.testing.assert_frame_equal(features.expand_dates(rows), expected)
    rows = inference.check_rows(inference.csv_rows("2024-02-29 16:00:00.000\nNA\n1969-12-31\n", schema), schema)
    pd.testing.assert_frame_equal(features.expand_dates(rows), expected)
    assert expected.iloc[0].tolist() == [19782 + 16 / 24, 2, 29, 3, 16]  # days, month, day, weekday, hour
    assert expected.iloc[1].isna().all() and expected.iloc[2, 0] == -1


DATES = ['"31.12.2024"', '"20241231"', "20241231", '"2024-02-30"', "true", '"0001-01-01T00:00+14:00"']


@pytest.mark.parametrize("value", DATES)
def test_a_date_of_another_form_in_a_request_is_one_line(value: str) -> None:
    schema = replace(DATED, columns={"sold": "date"})
    with pytest.raises(ValueError, match=r"^row 1, column 'sold': .{4,40} is not a date such as 2024-12-31"):
        inference.check_rows(inference.json_rows('[{"sold": VALUE}]'.replace("VALUE", value), schema), schema)


def test_another_seed_splits_a_table_of_numbers_otherwise() -> None:
    table = pd.DataFrame({"size": np.arange(200.0), "price": np.arange(200.0)})
    one, two = (preprocess.split(table, DATED, 0.2, 0.2, seed)["test"].index for seed in (1, 2))
    assert 20 < len(one) < 60 and set(one) != set(two)


def test_any_line_ends_a_folder_named_csv_and_quotes_inside_a_cell_are_read(tmp_path: Path) -> None:
    (tmp_path / "parts.csv").mkdir()  # as Spark names the folder of its files
    raw(tmp_path / "parts.csv", HEAD.replace("\n", "\r") + '1,5" pipe,no\r2,"a ""b""\r\n",yes\r')
    assert raw_files.read_folder(tmp_path, MIXED)["city"].tolist() == ['5" pipe', 'a "b"\r\n']


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
def test_a_hyperparameter_may_begin_with_a_minus(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object, shift: float = 0.0) -> None: ...

    monkeypatch.setattr(estimator, "fit", fit)
    folders = ["--train", "x", "--validation", "x", "--model-dir", "x"]
    assert train.parse([*folders, "--shift", value]).shift == float(value)


def test_a_metric_is_no_number_where_it_is_not_defined() -> None:
    y, p = np.array([0, 1, 1]), np.array([0.1, 0.9, np.nan])
    for table in metrics.METRICS.values():
        assert np.isnan(list(metrics.measure(table, y, p, 0.5).values())).all()
    assert np.isnan(metrics.r2(np.full(3, 0.1), np.full(3, 0.1), np.ones(3)))
    assert np.isnan(metrics.log_loss(y, np.array([0.1, 0.9, 1.5]), np.ones(3)))


def test_categories_and_missing_values_work(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        f"{age if age > 20 else ''},{'ab'[int(age) % 2] if age < 90 else ''},{'yes' if age > 50 else 'no'}"
        for age in rng.integers(0, 99, 300)
    ]
    table = raw_files.read_folder(raw(tmp_path, HEAD + "\n".join(rows)), MIXED)
    assert table["age"].isna().any()
    assert table["city"].isna().any()
    parts = preprocess.split(table, MIXED, 0.2, 0.2, 1)
    preprocess.check(parts, MIXED)
    model, _ = train.train({n: parts[n] for n in ("train", "validation")}, MIXED, train.hyperparameters())
    unknown = pd.DataFrame({"age": [np.nan, 80.0], "city": ["never seen", None]})
    assert np.isfinite(model.predict(unknown)).all()
    accuracy = ((model.predict(parts["test"]) > 0.5) == (parts["test"]["label"] == "yes")).mean()
    assert accuracy > 0.8


def test_rows_with_the_same_key_stay_together_whatever_changes_in_them(tmp_path: Path) -> None:
    schema = replace(MIXED, split_by=("customer",))
    rows = "".join(f"{n % 90 + 1},a,{'yes' if n % 3 else 'no'},c{n % 100}\n" for n in range(400))
    texts = [f"age,city,label,customer\n{changed}" for changed in (rows, rows.replace("a,", "b,"))]
    tables = [raw_files.read_folder(raw(tmp_path / str(n), text), schema) for n, text in enumerate(texts)]
    one, two = (preprocess.split(table, schema, 0.2, 0.2, 1) for table in tables)
    keys = {name: set(part["customer"]) for name, part in one.items()}
    assert not keys["train"] & keys["test"] and sum(map(len, keys.values())) == 100
    for name, part in two.items():
        assert set(part["customer"]) == keys[name]
        assert set(data.row_digests(part, schema)) == set(data.row_digests(one[name], schema))
    with pytest.raises(data.DataError, match=r"line 3, column 'customer': has no value: every row needs a key"):
        raw_files.read_folder(raw(tmp_path / "none", "age,city,label,customer\n1,a,no,x\n1,a,no,\n"), schema)


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
