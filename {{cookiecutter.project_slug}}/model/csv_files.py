"""Read CSV files and check them against the schema. An error is one line that names file, column and line."""

import csv
import difflib
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from data import MISSING, DataError, Schema

NOT_TEXT = re.compile("[\0\udc80-\udcff]")  # NUL, and what `surrogateescape` makes of bytes that are not UTF-8
ENCODING = "a byte is NUL or not UTF-8: save the file as UTF-8 text"
NO_NUMBER = re.compile(r"[^ \t!-^`-~]")  # float() reads these in 1_000 and in digits of other scripts, Arrow does not
csv.field_size_limit(1 << 20)  # characters of a cell; Arrow reads blocks of 1 MiB


def read_folder(folder: Path, schema: Schema, may_be_empty: bool = False) -> pd.DataFrame:
    """Return every CSV file below `folder` as one table: numbers float64, categories and classes text or missing.

    Raises DataError for the first wrong file. `may_be_empty` is for one host of several, which may get no file.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".csv" and not file.is_dir())
    if files:
        return pd.concat([read_csv(file, schema) for file in files], ignore_index=True)
    if not may_be_empty:
        raise DataError(f"there is no .csv file in {folder.name}/: put the raw data there")
    dtypes = {name: "float64" if kind == "number" else "object" for name, kind in schema.kinds.items()}
    return pd.DataFrame(columns=list(dtypes)).astype(dtypes)


def read_csv(file: Path, schema: Schema) -> pd.DataFrame:
    """Return one CSV file with the schema's columns and the target. Raises DataError."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file.name}: {error.strerror}") from None
    check_header(file.name, content, schema)
    if (b"\0" in content or not has_plain_quotes(content)) and (problem := first_error(file.name, content, schema)):
        raise problem
    kinds = {name: pa.float64() if kind == "number" else pa.string() for name, kind in schema.kinds.items()}
    convert = arrow_csv.ConvertOptions(
        column_types=kinds, include_columns=list(kinds), null_values=MISSING, strings_can_be_null=False
    )
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    try:
        read = arrow_csv.read_csv(pa.BufferReader(content), parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise first_error(file.name, content, schema) or DataError(f"{file.name}: {error}") from None
    table: pd.DataFrame = read.to_pandas()
    is_finite = True
    for name, kind in schema.kinds.items():
        if kind != "number":
            table[name] = table[name].mask(table[name] == "", np.nan)
        elif not pc.all(pc.is_finite(read[name]), min_count=0).as_py():
            is_finite = False
    target = table[schema.target]
    known = target.isin(schema.classes) if schema.is_classification else target.notna()
    known &= table[list(schema.split_by)].notna().all(axis=1)
    if not known.all() or not is_finite:
        raise first_error(file.name, content, schema) or DataError(f"{file.name}: a value is not allowed")
    return table


def check_header(file: str, content: bytes, schema: Schema) -> None:
    """Raise DataError if the file has no rows or not exactly the schema's columns."""
    first_line = re.split(rb"[\r\n]", content[: 1 << 20], maxsplit=1)[0]
    _, header = next(parse(file, [first_line.decode("utf-8-sig", errors="surrogateescape")]), (1, []))
    if not header:
        raise DataError(f"{file} is empty: its first line must name the columns")
    if any(map(NOT_TEXT.search, header)):
        raise DataError(f"{file}, line 1: {ENCODING}")
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{file}, line 1: column {name!r} is there twice: rename one")
    for name in schema.kinds:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(header)[:300]}"
            if len(header) == 1 and (separator := re.search(r"[;\t|]", header[0])):
                hint = f"it has only {header[0][:200]!r}: separate columns by commas, not by {separator[0]!r}"
            what = "the target column" if name == schema.target else "column"
            raise DataError(f"{file}: {what} {name!r} is missing: {hint} (model/schema.toml names the columns)")
    for name in header:
        if name not in schema.kinds and name not in schema.ignore:
            raise DataError(f"{file}: column {name!r} is not in model/schema.toml: add it there, or to ignore")
    if not re.compile(rb"[^\r\n]").search(content, len(first_line)):
        raise DataError(f"{file} has a header and no rows: add rows")


def has_plain_quotes(content: bytes) -> bool:
    """Return True if quotes are only around whole cells, and doubled inside them (RFC 4180)."""
    if b'"' not in content:
        return True
    data = np.frombuffer(b"\n" + content + b"\n", np.uint8)
    quotes = np.flatnonzero(data == ord('"'))
    outside = np.r_[data[quotes[::2] - 1], data[quotes[1::2] + 1]]
    return len(quotes) % 2 == 0 and bool(np.isin(outside, list(b',\r\n"')).all())


def parse(file: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's first line and cells. Raises DataError for a quote that is not as RFC 4180 says."""
    reader = csv.reader(lines, strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file}, line {line}: {error}: correct its quotes") from None


def first_error(file: str, content: bytes, schema: Schema) -> DataError | None:
    """Return an error with the line of the first wrong cell. Arrow is faster, but names no lines."""
    text = io.StringIO(content.decode("utf-8-sig", errors="surrogateescape"), newline="")
    try:
        rows = parse(file, text)
        _, header = next(rows)
        for line, cells in rows:
            where = f"{file}, line {line}"
            if cells and len(cells) != len(header):
                problem = f"{len(cells)} cells, but the header has {len(header)}: correct the line"
                raise DataError(f"{where}: {ENCODING if NOT_TEXT.search(''.join(cells)) else problem}")
            for name, cell in zip(header, cells, strict=False):  # a blank line has no cells
                if problem := cell_problem(cell, name, schema):
                    raise DataError(f"{where}, column {name!r}: {problem}")
    except DataError as error:
        return error
    return None


def cell_problem(cell: str, name: str, schema: Schema) -> str:
    """Return what is wrong with a cell, or ""."""
    kind = schema.kinds.get(name, "ignored")
    if "\0" in cell or (kind != "ignored" and NOT_TEXT.search(cell)):
        return ENCODING
    if cell in (MISSING if kind == "number" else [""]):
        what = "a target" if name == schema.target else "a key (split_by)" if name in schema.split_by else ""
        return f"has no value: every row needs {what}" if what else ""
    if kind == "class" and cell not in schema.classes:
        return f"{cell!r} is not one of the classes {', '.join(schema.classes)}"
    try:
        if kind == "number" and not math.isfinite(float("" if NO_NUMBER.search(cell) else cell)):
            return f"{cell} is not finite: leave it empty if it is not known"
    except ValueError:
        advice = "correct it, leave it empty if it is not known, or make the column a category in model/schema.toml"
        return f"{cell!r} is not a number: {advice}"
    return ""
