"""Read the raw data and check it against the schema: CSV files (also .tsv, .txt, compressed with gzip) and Parquet.

An error is one line that names file, column and line, and how many more there are. Nothing is guessed or repaired.
"""

import csv
import difflib
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from data import MISSING, DataError, Files, Schema, is_blank, read_date

ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
NOT_TEXT = re.compile("[\0\udc80-\udcff]")  # NUL, and what `surrogateescape` makes of bytes that are not UTF-8
ENCODING = "a byte is NUL or not UTF-8: save the file as UTF-8, or name its encoding in [files] of model/schema.toml"
NO_NUMBER = re.compile(r"[^ \t!-^`-~]")  # float() reads these in 1_000 and in digits of other scripts, Arrow does not
SHOWN = 5  # places that an error names for each column
csv.field_size_limit(1 << 20)  # characters of a cell; Arrow reads blocks of 1 MiB


def read_folder(folder: Path, schema: Schema, may_be_empty: bool = False) -> pd.DataFrame:
    """Return the files of a folder, or one file, as one table.

    Numbers are float64, dates datetime64[us], categories and classes text or missing. `may_be_empty` is for one host of
    several, which may get no file. Raises DataError that names the faulty files.
    """
    tables, errors = [], []
    for name, file in data_files(folder).items():
        try:
            tables.append(read_file(name, file, schema))
        except DataError as error:
            errors.append((name, error))
    if errors:
        more = f"; also wrong: {', '.join(name for name, _ in errors[1:])}" if len(errors) > 1 else ""
        raise DataError(f"{errors[0][1]}{more}")
    if tables:
        return pd.concat(tables, ignore_index=True)
    if not may_be_empty:
        raise DataError(f"there is no .csv or .parquet file in {folder.name}/: put the raw data there")
    dtypes = {"number": "float64", "date": "datetime64[us]"}
    found = {name: dtypes.get(kind.partition(" ")[0], "object") for name, kind in schema.kinds.items()}
    return pd.DataFrame(columns=list(found)).astype(found)


def data_files(folder: Path) -> dict[str, Path]:
    """Return the files to read, by name. Raises DataError for another one: it may be a part of the data."""
    if not folder.is_dir():
        return {folder.name: folder}
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if not file.is_dir()}
    # As other readers do: hidden files, and _SUCCESS and its like.
    found = {name: file for name, file in found.items() if not re.search(r"(^|/)[._]", name)}
    for name in found:
        if not name.lower().endswith(ENDINGS):
            what = f"the files of data are {', '.join(ENDINGS)}: convert it, or move it out of {folder.name}/"
            raise DataError(f"{name} is not read: {what}")
    return found


def read_file(name: str, file: Path, schema: Schema) -> pd.DataFrame:
    """Return one file with the schema's columns and the target. Raises DataError."""
    content = load(name, file, schema.files)
    header = read_header(name, content, schema.files)
    check_header(name, header, schema)
    try:
        cells = read_cells(name, content, schema.kinds, schema.files)
    except pa.ArrowInvalid as error:
        raise first_error(name, content, schema.files, schema) or DataError(f"{name}: {error}") from None
    table, is_good = {}, True
    for column, kind in schema.kinds.items():
        table[column], is_right = convert(cells[column], kind, schema)
        is_good &= is_right and not (table[column].isna().any() and column in (schema.target, *schema.split_by))
    is_plain = is_parquet(name) or (b"\0" not in content and has_plain_quotes(content, schema.files))
    if (not is_good or not is_plain) and (problem := first_error(name, content, schema.files, schema)):
        raise problem
    if not is_good:
        raise DataError(f"{name}: a value is not allowed")
    return pd.DataFrame(table)


def load(name: str, file: Path, files: Files) -> bytes:
    """Return a file's content: Parquet as it is, text decompressed and in UTF-8. Raises DataError."""
    try:
        content = file.read_bytes()
        if name.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name} is not a whole gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{name}: {error.strerror}") from None
    if is_parquet(name) or files.encoding.lower() in ("utf-8", "utf8"):
        return content  # first_error names the line of a wrong byte
    try:
        return content.decode(files.encoding).encode()
    except UnicodeError as error:
        before = content[: getattr(error, "start", 0)].decode(files.encoding, errors="ignore")
        what = f"a byte is not {files.encoding}: correct encoding in [files] of model/schema.toml"
        raise DataError(f"{name}, line {before.count(chr(10)) + 1}: {what}") from None


def is_parquet(name: str) -> bool:
    """Return True for the name of a Parquet file."""
    return name.lower().endswith(".parquet")


def open_parquet(name: str, content: bytes) -> parquet.ParquetFile:
    """Open a Parquet file. Raises DataError."""
    try:
        return parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a whole Parquet file: {str(error).partition(chr(10))[0]}") from None


def read_header(name: str, content: bytes, files: Files) -> list[str]:
    """Return the names of the columns. Raises DataError for a file without header or rows, or with a name twice."""
    if is_parquet(name):
        file = open_parquet(name, content)
        header, has_rows, where = list(file.schema_arrow.names), file.metadata.num_rows > 0, name
    else:
        rows = read_rows(name, content, files)
        _, header = next(rows, (1, []))
        has_rows, where = bool(header) and any(cells for _, cells in rows), f"{name}, line 1"
    if not header:
        raise DataError(f"{name} is empty: its first line must name the columns")
    if any(map(NOT_TEXT.search, header)):
        raise DataError(f"{where}: {ENCODING}")
    if twice := [column for column in dict.fromkeys(header) if header.count(column) > 1]:
        raise DataError(f"{where}: column {', '.join(map(repr, twice))[:300]} is there twice: rename one")
    if not has_rows:
        raise DataError(f"{name} has a header and no rows: add rows")
    return header


def check_header(name: str, header: list[str], schema: Schema) -> None:
    """Raise DataError if the header has not exactly the schema's columns; it names all that differ."""
    problems: list[str] = []
    for column in schema.kinds:
        if column not in header:
            near = difflib.get_close_matches(column, header, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {' '.join(', '.join(header).split())[:300]}"
            if len(header) == 1 and (separator := re.search(r"[,;\t|]", header[0])):
                hint = f"it has only {header[0][:200]!r}: set separator = {separator[0]!r} in its [files]"
            what = "the target column" if column == schema.target else "column"
            problems.append(f"{what} {column!r} is missing" + (f": {hint}" if not problems else ""))
    missing = len(problems)
    if missing:
        problems[-1] += " (model/schema.toml names the columns)"
    problems += [
        f"column {column!r} is not in model/schema.toml: add it there, or to ignore"
        for column in header
        if column not in schema.kinds and column not in schema.ignore
    ]
    if problems:
        more = f"; {len(problems)} faults in all" if len(problems) > SHOWN else ""
        raise DataError(f"{name}: {'; '.join(problems[:SHOWN])}{more}")


def read_cells(name: str, content: bytes, kinds: dict[str, str], files: Files) -> dict[str, pa.ChunkedArray]:
    """Return the columns in `kinds`: numbers as float64, else text. Raises pa.ArrowInvalid, which names no line."""
    if is_parquet(name):
        return {column: parquet_column(name, content, column, kind, files) for column, kind in kinds.items()}
    types = {column: pa.float64() if kind == "number" else pa.string() for column, kind in kinds.items()}
    options = arrow_csv.ParseOptions(newlines_in_values=True, delimiter=files.separator)
    # With threads, a file with an error may leave one that waits for itself, and the process never exits: Arrow's issue
    # 48741, "Deadlock in CSV AsyncThreadedTableReader destructor". The image's version has it.
    alone = arrow_csv.ReadOptions(use_threads=False)

    def read(missing: list[str]) -> dict[str, pa.ChunkedArray]:
        convert = arrow_csv.ConvertOptions(
            column_types=types,
            include_columns=list(kinds),
            null_values=missing,
            strings_can_be_null=False,
            decimal_point=files.decimal,
        )
        table = arrow_csv.read_csv(pa.BufferReader(content), alone, options, convert)
        return {column: table[column] for column in kinds}

    try:
        return read(MISSING)
    except pa.ArrowInvalid:
        return read([*MISSING, *blank_cells(content, files)])


def blank_cells(content: bytes, files: Files) -> set[str]:
    """Return the different cells without a visible character: for numbers, Arrow must know each."""
    text, ends = f"\n{content.decode('utf-8', errors='replace')}\n", f"{re.escape(files.separator)}\r\n"
    return {*re.findall(f"(?<=[{ends}])(?:(?![{ends}])\\s)+(?=[{ends}])", text), *re.findall(r'(?<=")\s+(?=")', text)}


def parquet_column(name: str, content: bytes, column: str, kind: str, files: Files) -> pa.ChunkedArray:
    """Return a column of a Parquet file, as `read_cells` does. Raises DataError for a type that is not a cell's."""
    try:
        found = open_parquet(name, content).read(columns=[column])[column]
        if pa.types.is_dictionary(found.type):
            found = found.cast(found.type.value_type)
        if pa.types.is_timestamp(found.type):
            found = found.cast(pa.timestamp("us"), safe=False)  # of a time zone, UTC
        is_text = pa.types.is_string(found.type) or pa.types.is_large_string(found.type)
        if kind != "number" or is_text or pa.types.is_temporal(found.type):
            found = found.cast(pa.string())
        elif pa.types.is_boolean(found.type):
            found = found.cast(pa.uint8())
        if kind != "number":
            return found
        if found.type == pa.string():
            codes, texts = encode(found)
            none = np.array([*(is_missing(text, kind) for text in texts), True])
            values = np.array([*(read_number(text, files) for text in texts), math.nan])
            return pa.chunked_array([pa.array(values[codes], mask=none[codes])])
        found = found.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(found), pa.scalar(None, pa.float64()), found)
    except (pa.ArrowException, OSError, KeyError) as error:
        what = str(error).strip("'").partition("\n")[0]
        raise DataError(f"{name}: column {column!r} cannot be read as cells: {what}") from None


def encode(column: pa.ChunkedArray) -> tuple[Any, list[str]]:
    """Return the different texts of a column, and each row's number in that list; -1 is none."""
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def convert(column: pa.ChunkedArray, kind: str, schema: Schema) -> tuple[pd.Series, bool]:
    """Return a column as a table has it, and True if every cell is right."""
    if kind == "number":
        return column.to_pandas(), bool(pc.all(pc.is_finite(column), min_count=0).as_py())
    codes, texts = encode(column)
    problems = [bool(cell_problem(text, kind, schema)) for text in texts]
    is_right = not any(problems)
    if kind.startswith("date"):
        form = kind.removeprefix("date").strip()
        known = [
            None if is_missing(t, kind) or bad else read_date(t, form) for t, bad in zip(texts, problems, strict=True)
        ]
        return pd.Series(np.array([*known, None], "datetime64[us]")[codes]), is_right
    cells = np.array([*(np.nan if is_missing(text, kind) else text for text in texts), np.nan], dtype=object)
    return pd.Series(cells[codes]), is_right


def has_plain_quotes(content: bytes, files: Files) -> bool:
    """Return True if quotes are only around whole cells, and doubled inside them (RFC 4180)."""
    if b'"' not in content:
        return True
    data = np.frombuffer(b"\n" + content + b"\n", np.uint8)
    quotes = np.flatnonzero(data == ord('"'))
    outside = np.r_[data[quotes[::2] - 1], data[quotes[1::2] + 1]]
    return len(quotes) % 2 == 0 and bool(np.isin(outside, list(f'{files.separator}\r\n"'.encode())).all())


def parse(name: str, lines: Iterable[str], files: Files) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's first line and cells. Raises DataError for a quote that is not as RFC 4180 says."""
    reader = csv.reader(lines, strict=True, delimiter=files.separator)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}, line {line}: {error}: correct its quotes") from None


def read_rows(name: str, content: bytes, files: Files) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and each row: its line, or its number in a Parquet file, and its cells as text."""
    if not is_parquet(name):
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", errors="surrogateescape", newline="")
        yield from parse(name, text, files)
        return
    header = read_header(name, content, files)
    columns = [parquet_column(name, content, column, "text", files).to_pylist() for column in header]
    yield 0, header
    for number, cells in enumerate(zip(*columns, strict=True), 1):
        yield number, ["" if cell is None else cell for cell in cells]


def first_error(name: str, content: bytes, files: Files, schema: Schema | None) -> DataError | None:
    """Return an error with the line of the first wrong cell, and the number of all. Arrow is faster, but names no line.

    Without a schema, only the form of the file is checked.
    """
    unit, first, found = "row" if is_parquet(name) else "line", "", dict[str, list[int]]()
    try:
        rows = read_rows(name, content, files)
        _, header = next(rows)
        kinds = [(column, schema.kinds.get(column, "ignored") if schema else "ignored") for column in header]
        for line, cells in rows:
            where = f"{name}, {unit} {line}"
            if cells and len(cells) != len(header):
                problem = f"{len(cells)} cells, but the header has {len(header)}: correct the line"
                first = first or f"{where}: {ENCODING if NOT_TEXT.search(''.join(cells)) else problem}"
                found.setdefault("the number of cells", []).append(line)
                continue
            for (column, kind), cell in zip(kinds, cells, strict=False):  # a blank line has no cells
                if problem := cell_problem(cell, kind, schema, column):
                    first = first or f"{where}, column {column!r}: {problem}"
                    found.setdefault(f"column {column!r}", []).append(line)
    except DataError as error:
        first = first or str(error)
    count = sum(map(len, found.values()))
    if count > 1:
        first += f"; {count} faults in all: " + "; ".join(
            f"{what} {len(lines)} ({unit}s {', '.join(map(str, lines[:SHOWN]))}{', ...' if len(lines) > SHOWN else ''})"
            for what, lines in list(found.items())[:SHOWN]
        )
    return DataError(first) if first else None


def is_missing(cell: str, kind: str) -> bool:
    """Return True if a cell has no value."""
    return is_blank(cell) or (cell in MISSING and (kind == "number" or kind.startswith("date")))


def read_number(cell: str, files: Files) -> float:
    """Return a number, nan if the cell is not one."""
    try:
        return math.nan if NO_NUMBER.search(cell) else float(cell.translate({ord("."): "x", ord(files.decimal): "."}))
    except ValueError:
        return math.nan


def cell_problem(cell: str, kind: str, schema: Schema | None, name: str = "") -> str:
    """Return what is wrong with a cell, or ""."""
    if "\0" in cell or (kind != "ignored" and NOT_TEXT.search(cell)):
        return ENCODING
    if kind == "ignored" or schema is None:
        return ""
    if is_missing(cell, kind):
        what = "a target" if name == schema.target else "a key (split_by)" if name in schema.split_by else ""
        return f"has no value: every row needs {what}" if what else ""
    if kind == "class" and cell not in schema.classes:
        return f"{cell!r} is not one of the classes {', '.join(schema.classes)}"
    advice = "correct it, leave it empty if it is not known, or make the column a category in model/schema.toml"
    number = read_number(cell, schema.files) if kind == "number" else 0.0
    if math.isinf(number):
        return f"{cell} is not finite: leave it empty if it is not known"
    if math.isnan(number):
        return f"{cell!r} is not a number: {advice}"
    if kind.startswith("date"):
        form = kind.removeprefix("date").strip()
        try:
            read_date(cell, form)
        except ValueError:
            return f"{cell!r} is not a date like {form or '2024-12-31'}: {advice}"
    return ""
