"""CSV files, read and checked against the schema.

Every fault is one line that names file, column and line, as an editor counts lines.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from data import MISSING, DataError, Schema, shown


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
            hint = _separator(header) or hint
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


def _separator(header: Sequence[str]) -> str:
    """What to say of a file with a single column that looks like several; spreadsheets of many countries write such."""
    found = [separator for separator in ";\t|" if separator in header[0]]
    if len(header) > 1 or not found:
        return ""
    name = "a tab" if found[0] == "\t" else repr(found[0])
    return f"it has only {header[0][:200]!r}: is it separated by {name}? columns are separated by commas"


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
        cell = "" if pd.isna(values.iloc[row]) else f"{shown(values.iloc[row])} "
        raise DataError(f"{file.name}, line {_line_of(file, row)}, column {column!r}: {cell}{what}")


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
