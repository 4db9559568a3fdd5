"""Random CSV files, whole and damaged: every cell is read as it was written, or the file is refused in one line."""

import math
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, Case, check_message
from campaigns.in_project import project_cases

NAMES = ["age", "a b", "größe", 'quo"te', "x,y", " spaces ", "NA", "1"]
NUMBERS = [
    "0",
    "-1",
    "1.5",
    ".5",
    "1.",
    "+7",
    "1e5",
    "1E-7",
    " 1",
    "1\t",
    "00012",
    "9007199254740993",
    "1e-400",
    "4.9e-324",
]
MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
NO_NUMBERS = "1_000|0x10|1e400|\u0661\u0662|Infinity|-inf|NAN|-nan|nan(1)|1,5|1'000|1 0|\u00a01|1\x0b|--1|x| NA|1f|#N/A"
BLANKS = [" ", "\t ", "\u00a0", "\n"]
DATES = ["2024-12-31", "1969-01-01 00:00", "2024-02-29T23:59:59.5+14:00", "0001-01-01", " 9999-12-31T23:59Z"]
NO_DATES = [
    "2024-13-01",
    "31.12.2024",
    "20241231",
    "2024-12-31T24:00",
    "\u0662024-12-31",
    "0001-01-01T00:00+01:00",
    "now",
]
TEXTS = 'a||NA| a |say "x"|a,b|a\nb|a\r\nb|a\rb|é|\U0001f600|\'|\\|\u2028|\ufffd|1,0'
TOKENS = [b"x" * 200_000, *b'"|""|,|\r|\n|\r\n|\n\n|\0|\xff|\xef\xbb\xbf| |_|0|;'.split(b"|")]
NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
CELL = r'(?:"((?:[^"]|"")*)"|([^",\r\n][^,\r\n]*)?)(,|\r\n|\r|\n|\Z)'


class Wrong(Exception):
    """A file that must be refused; the message is the beginning of what says so."""


def write(header: list[str], rows: list[list[str]], separator: str, chance: random.Random) -> bytes:
    """Return a table as CSV, with any legal quotes and line ends."""
    quoted, ends = chance.random(), chance.choice([["\n"], ["\r\n"], ["\r"], ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"]])

    def cell(text: str) -> str:
        must = re.search(rf'[{separator}\r\n]|^"', text)
        return '"' + text.replace('"', '""') + '"' if must or chance.random() < quoted else text

    lines = [separator.join(map(cell, row)) + chance.choice(ends) for row in [header, *rows]]
    text = "".join(lines) if chance.random() < 0.8 else "".join(lines).rstrip("\r\n")
    return text.encode(chance.choice(["utf-8", "utf-8", "utf-8-sig"]))


def damage(content: bytes, chance: random.Random) -> bytes:
    """Return a file with a part added, removed or replaced, which may still be a table."""
    kind, at = chance.randrange(7), chance.randrange(len(content) + 1)
    if kind < 3:
        return content[:at] + chance.choice(TOKENS) + content[at:]
    if kind == 3:
        return content[:at] + content[at + chance.randint(1, 5) :]
    if kind == 4:
        return content[:at]
    if kind == 5:  # a cell more in every row, or in every row but the header
        head, end, rest = content.partition(chance.choice([b"\n", b"\r"]))
        rest = re.sub(rb"(?m)^(.)" if chance.random() < 0.5 else rb"(.)$", rb"7,\1", rest, flags=re.MULTILINE)
        return head + end + rest
    text = content.decode("utf-8")
    return text.encode(chance.choice(["utf-16", "utf-16-le", "latin-1", "utf-32"]), errors="replace")


def parse(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's first line and cells, by RFC 4180; a line without a cell is no row."""
    at, line, cells, start = 0, 1, [], 1
    pattern = re.compile(CELL.replace(",", separator))
    while at < len(text):
        match = pattern.match(text, at)
        if not match:
            raise Wrong(f"rows.csv, line {start}: ")
        cells.append(match[2] or "" if match[1] is None else match[1].replace('""', '"'))
        at, line = match.end(), line + len(re.findall(r"\r\n|\r|\n", match[0]))
        if match[3] != separator:
            if cells != [""] or match[1] is not None:
                yield start, cells
            cells, start = [], line
    if cells:
        yield start, [*cells, ""]


def date_of(cell: str) -> datetime | None:
    """Return the date that a cell holds, in UTC, or None."""
    time = r"[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?"
    if not re.fullmatch(rf"[ \t]*\d\d\d\d-\d\d-\d\d({time})?[ \t]*", cell, re.ASCII):
        return None
    try:
        date = datetime.fromisoformat(cell.strip())
        return date.astimezone(UTC).replace(tzinfo=None) if date.tzinfo else date
    except (ValueError, OverflowError):
        return None


def expected(content: bytes, schema: Any) -> list[dict[str, Any]]:
    """Return the rows that a file holds, with None for a missing value. Raises Wrong for a file to refuse."""
    text = content.decode("utf-8-sig", errors="surrogateescape")
    rows, decimal = parse(text, schema.files.separator), schema.files.decimal
    _, header = next(rows, (1, []))
    names = {*schema.kinds, *schema.ignore}
    if text[:1] in "\r\n" or len(set(header)) < len(header) or not set(schema.kinds) <= set(header) <= names:
        raise Wrong("rows.csv")
    found = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise Wrong(f"rows.csv, line {line}: ")
        row: dict[str, Any] = {}
        for name, cell in zip(header, cells, strict=True):
            kind = schema.kinds.get(name)
            is_missing = not cell.strip() or (kind in ("number", "date") and cell in MISSING)
            if kind == "number" and decimal == ",":
                cell = cell.replace(".", "x").replace(",", ".")
            wrong = [
                *("\0" in cell, kind and re.search("[\udc80-\udcff]", cell), is_missing and name == schema.target),
                kind == "class" and cell not in schema.classes,
                kind == "number" and not is_missing and not (NUMBER.fullmatch(cell) and math.isfinite(float(cell))),
                kind == "date" and not is_missing and date_of(cell) is None,
            ]
            if any(wrong):
                raise Wrong(f"rows.csv, line {line}, column {name!r}: ")
            row[name] = None if is_missing else float(cell) if kind == "number" else cell
            if kind == "date" and not is_missing:
                row[name] = date_of(cell)
        found.append({name: row[name] for name in schema.kinds})
    if not found:
        raise Wrong("rows.csv")
    return found


def cases(scratch: Path) -> Case:
    """Return a case: one file, whole or damaged, and its table as Parquet."""
    raw_files, data, pd = map(import_module, ("raw_files", "data", "pandas"))
    file, split = scratch / "raw" / "rows.csv", scratch / "train"
    for folder in (file.parent, split):
        folder.mkdir()

    def case(chance: random.Random) -> None:
        names = chance.sample(NAMES, chance.randint(2, 6))
        target, ignored = names.pop(), [names.pop()] if len(names) > 2 else []
        columns = {name: chance.choice(["number", "category", "date"]) for name in names}
        files = data.Files(*chance.choice([",.", ",.", ";.", ";,", "\t,"]))
        problem = chance.choice(["binary_classification", "regression"])
        schema = data.Schema(problem, target, ("no", 'y"es'), columns, (*ignored, "unused"), (), files)
        numbers = [number.replace(".", files.decimal) for number in NUMBERS]
        pools = {"number": numbers + MISSING + BLANKS, "category": TEXTS.split("|") + BLANKS, "class": ["no", 'y"es']}
        pools["date"] = DATES + MISSING + BLANKS
        header = [*columns, target, *ignored]
        chance.shuffle(header)
        count = chance.choice([1, 2, 3, 8]) if chance.random() < 0.995 else 40_000
        rows = [[chance.choice(pools[schema.kinds.get(name, "category")]) for name in header] for _ in range(count)]
        if problem == "regression":
            rows = [
                [c if n != target else chance.choice(numbers) for n, c in zip(header, r, strict=True)] for r in rows
            ]
        is_whole = chance.random() < 0.4
        if not is_whole and chance.random() < 0.4:
            chance.choice(rows)[chance.randrange(len(header))] = chance.choice(
                NO_NUMBERS.split("|") + MISSING + NO_DATES
            )
        content = write(header, rows, files.separator, chance)
        if not is_whole and chance.random() < 0.8:
            content = damage(content, chance)
        file.write_bytes(content)
        try:
            right = expected(content, schema)
        except Wrong as wrong:
            assert not is_whole
            try:
                raw_files.read_folder(file.parent, schema)
            except data.DataError as error:
                check_message(error, str(wrong))
                return
            raise AssertionError(f"read a file to be refused: {wrong}") from None
        table = raw_files.read_folder(file.parent, schema)
        assert list(table.columns) == list(schema.kinds)
        read = table.astype(object).where(table.notna(), None).to_dict("records")
        assert read == right, [pair for pair in zip(read, right, strict=False) if pair[0] != pair[1]][:1]
        table.to_parquet(split / "part.parquet", index=False)
        pd.testing.assert_frame_equal(data.read_split(split), table, check_exact=True)

    return case


CAMPAIGN = Campaign(
    *("data", "a CSV file is read cell by cell as it was written, or refused in one line that names it", 2000, 60),
    partial(project_cases, module="data"),
)
