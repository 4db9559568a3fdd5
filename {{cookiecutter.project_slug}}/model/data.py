"""The data: what `schema.toml` says of it, and CSV files read and checked against that.

Every fault is one line that names file, column and line, as an editor counts lines.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
PROBLEM_TYPES = ("binary_classification", "multiclass_classification", "regression")


class DataError(Exception):
    """Data or a request that cannot be used; the text is one line for whoever made it."""


def fail(message: object) -> NoReturn:
    """End a job with one line: on standard error, and where SageMaker reads a job's failure reason (1 KB)."""
    line = " ".join(str(message).split())[:1024]
    output = os.environ.get("SM_OUTPUT_DIR")
    if output:
        for name in ("failure", "message"):  # a training job's file, and a processing job's
            Path(output).mkdir(parents=True, exist_ok=True)
            (Path(output) / name).write_text(line, encoding="utf-8")
    print(line, file=sys.stderr)
    sys.exit(1)


class Parser(argparse.ArgumentParser):
    """A job's command line: help shows the script's docstring, a wrong flag is one line."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """End the job."""
        fail(f"{self.prog}: {message}")


@dataclass(frozen=True)
class Schema:
    """`schema.toml`: columns and their kinds ("number" or "category"), and the target."""

    problem_type: str
    target: str
    classes: tuple[str, ...]
    columns: dict[str, str]
    ignore: tuple[str, ...]

    @property
    def is_classification(self) -> bool:
        """Whether the target is one of `classes`."""
        return self.problem_type != "regression"

    @property
    def features(self) -> list[str]:
        """The columns a model predicts from, in a fixed order."""
        return list(self.columns)


SCHEMA_FILE = Path(__file__).with_name("schema.toml")


def load_schema(file: Path = SCHEMA_FILE) -> Schema:
    """The schema in `file`; raises DataError for one that makes no sense."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        schema = Schema(
            problem_type=found["problem_type"],
            target=found["target"]["name"],
            classes=tuple(found["target"].get("classes", ())),
            columns=dict(found["columns"]),
            ignore=tuple(found.get("ignore", ())),
        )
    except KeyError as error:
        raise DataError(f"schema.toml: {error.args[0]} is missing") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"schema.toml cannot be read: {error}") from None
    if schema.problem_type not in PROBLEM_TYPES:
        raise DataError(f"schema.toml: problem_type {schema.problem_type!r} is not one of {', '.join(PROBLEM_TYPES)}")
    if schema.target in schema.columns:
        raise DataError(f"schema.toml: the target {schema.target!r} is also a column: leave it out of [columns]")
    wrong = [name for name, kind in schema.columns.items() if kind not in ("number", "category")]
    if wrong:
        raise DataError(f"schema.toml: column {wrong[0]!r}: its kind must be 'number' or 'category'")
    need = {"binary_classification": 2, "multiclass_classification": 3}.get(schema.problem_type, 0)
    if len(schema.classes) < need or (schema.problem_type == "binary_classification" and len(schema.classes) != 2):
        raise DataError(f"schema.toml: target.classes: {schema.problem_type} needs {need} classes: {schema.classes}")
    return schema


def read_split(folder: Path) -> pd.DataFrame:
    """The rows that preprocess.py wrote into `folder`; raises DataError if there are none."""
    from pyarrow import parquet

    if not any(folder.glob("*.parquet")):
        raise DataError(f"there is no .parquet file in {folder.name}/: preprocess.py must write it")
    table: pd.DataFrame = parquet.read_table(folder).to_pandas()
    if table.empty:
        raise DataError(f"the {folder.name} set is empty: raise its fraction in mlops.toml or add rows")
    return table


def encode_target(target: pd.Series, schema: Schema) -> NDArray[Any]:
    """The target as numbers: a class's place in the schema, or the value itself."""
    if not schema.is_classification:
        return target.to_numpy(dtype=np.float64)
    return target.map({label: index for index, label in enumerate(schema.classes)}).to_numpy(dtype=np.int64)


def read_folder(folder: Path, schema: Schema, may_be_empty: bool = False) -> pd.DataFrame:
    """Every CSV file below `folder`, checked, as one table: numbers float64, categories text or None.

    Raises DataError for the first fault. One host of several may get no file at all.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".csv")
    if not files and may_be_empty:
        kinds = {name: "float64" if kind == "number" else "object" for name, kind in schema.columns.items()}
        kinds[schema.target] = "object" if schema.is_classification else "float64"
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    if not files:
        raise DataError(f"there is no .csv file in {folder.name}/: put the raw data there")
    return pd.concat([read_csv(file, schema) for file in files], ignore_index=True)


def read_csv(file: Path, schema: Schema) -> pd.DataFrame:
    """One CSV file with features and target, checked."""
    header = _read_header(file)
    wanted = [*schema.features, schema.target]
    for name in wanted:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1)
            what = "the target column" if name == schema.target else "column"
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(header)[:300]}"
            raise DataError(f"{file.name}: {what} {name!r} is missing: {hint} (model/schema.toml names the columns)")
    extra = [name for name in header if name not in wanted and name not in schema.ignore]
    if extra:
        raise DataError(f"{file.name}: column {extra[0]!r} is not in model/schema.toml: add it there, or to ignore")
    table: pd.DataFrame = _parse(file, schema, header)[wanted]
    if table.empty:
        raise DataError(f"{file.name} has a header and no rows: add rows")
    _check_cells(file, schema, table)
    return table


def _read_header(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except UnicodeDecodeError as error:
        raise _encoding_error(file, error) from None
    if not header:
        raise DataError(f"{file.name} is empty: its first line must name the columns")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DataError(f"{file.name}, line 1: column {twice[0]!r} is there twice: rename one")
    return header


def _parse(file: Path, schema: Schema, header: Sequence[str]) -> pd.DataFrame:
    numbers = [name for name, kind in schema.columns.items() if kind == "number"]
    if not schema.is_classification:
        numbers.append(schema.target)
    kinds = {name: "float64" if name in numbers else "object" for name in header}
    fast = _parse_fast(file, numbers, header)
    if fast is not None:
        return fast
    missing = {name: MISSING if name in numbers else [""] for name in header}
    options: dict[str, Any] = {"encoding": "utf-8-sig", "keep_default_na": False, "na_values": missing}
    options["float_precision"] = "round_trip"  # as the fast reader reads numbers
    try:
        table: pd.DataFrame = pd.read_csv(file, dtype=cast(Any, kinds), **options)
    except UnicodeDecodeError as error:
        raise _encoding_error(file, error) from None
    except pd.errors.ParserError as error:
        raise DataError(f"{file.name}: {str(error).split('C error: ')[-1].strip()}: quote cells with commas") from None
    except ValueError:
        text = pd.read_csv(file, dtype=str, **options)
        for name in numbers:
            bad = text[name].notna() & pd.to_numeric(text[name], errors="coerce").isna()
            advice = "is not a number: correct it, leave it empty if it is not known, or make the column a category"
            _refuse(file, name, text[name], bad, f"{advice} in model/schema.toml")
        raise
    if table[header[-1]].isna().any():  # a line with too few cells looks like missing values: tell them apart
        _check_lengths(file, len(header))
    return table


def _parse_fast(file: Path, numbers: Sequence[str], header: Sequence[str]) -> pd.DataFrame | None:
    """The file by Arrow's reader, on all cores; None for one that it refuses, or whose cells it may see otherwise."""
    kinds = {name: pa.float64() if name in numbers else pa.string() for name in header}
    convert = arrow_csv.ConvertOptions(column_types=kinds, null_values=MISSING, strings_can_be_null=False)
    try:
        table: pd.DataFrame = arrow_csv.read_csv(file, convert_options=convert).to_pandas()
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    for name in header:
        if name not in numbers:
            table[name] = table[name].mask(table[name] == "", np.nan)
    return table


def _check_cells(file: Path, schema: Schema, table: pd.DataFrame) -> None:
    target = table[schema.target]
    _refuse(file, schema.target, target, target.isna(), "has no value: every row needs a target")
    if schema.is_classification:
        known = ", ".join(schema.classes)
        _refuse(file, schema.target, target, ~target.isin(schema.classes), f"is not one of the classes {known}")
    for name in (str(column) for column in table.select_dtypes("float64")):
        _refuse(file, name, table[name], np.isinf(table[name]), "is not finite: leave it empty if it is not known")


def _refuse(file: Path, column: str, values: pd.Series, bad: pd.Series, what: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        shown = "" if pd.isna(values.iloc[row]) else f"{values.iloc[row]!r} "
        raise DataError(f"{file.name}, line {_line_of(file, row)}, column {column!r}: {shown}{what}")


def _check_lengths(file: Path, length: int) -> None:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        for cells in reader:
            if cells and len(cells) != length:
                where = f"{file.name}, line {reader.line_num}"
                raise DataError(f"{where}: {len(cells)} cells, but the header has {length}: complete the line")


def _line_of(file: Path, row: int) -> int:
    """The line on which the row with that index ends; rows may span lines, and blank lines are no rows."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        seen = -2
        for cells in reader:
            seen += bool(cells)
            if seen == row:
                break
        return reader.line_num


def _encoding_error(file: Path, error: UnicodeDecodeError) -> DataError:
    content = file.read_bytes()
    try:
        content.decode("utf-8")
        position = error.start
    except UnicodeDecodeError as exact:
        position = exact.start
    line = content[:position].count(b"\n") + 1
    return DataError(f"{file.name}, line {line}: byte {position} is not UTF-8: save the file as UTF-8")
