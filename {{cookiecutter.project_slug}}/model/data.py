"""The data: what `schema.toml` says about it, and the tables that preprocess.py writes."""

import math
import os
import re
import sys
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
# ISO 8601, as databases and JSON have it. A time zone is converted to UTC, and without one there is no conversion.
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.]\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
PROBLEM_TYPES = ("binary_classification", "multiclass_classification", "regression")
SPLIT = "_split.json"  # how a split was made, beside its Parquet files, whose reader skips names with _
SCHEMA_FILE = Path(__file__).with_name("schema.toml")
# The keys of schema.toml: the type, and what to write.
KEYS: dict[str, tuple[Any, str]] = {
    "problem_type": (str, 'a text: problem_type = "regression"'),
    "ignore": (list, 'a list of texts: ignore = ["id"]'),
    "split_by": (list, 'a list of texts: split_by = ["customer_id"]'),
    "target": (dict, 'a table: a line [target], below it name = "..."'),
    "target.name": (str, 'the name of a column, a text: name = "..."'),
    "target.classes": (list, 'a list of the values in the column: classes = ["no", "yes"]'),
    "target.class_weights": (str | list, '"balanced", or a number above 0 for each class: class_weights = [1, 5]'),
    "target.decision": (str | float | dict, '"f1" or another F-beta, a probability, or { miss = 20, false_alarm = 1 }'),
    "columns": (dict, 'a table: a line [columns], below it a line for each column: age = "number"'),
    "files": (dict, 'a table: a line [files], below it separator = ";"'),
    "files.separator": (str, 'a character: separator = ";"'),
    "files.decimal": (str, '"." or ","'),
    "files.encoding": (str, 'the name of an encoding that Python knows: encoding = "cp1252"'),
}
OPTIONAL = [name for name in KEYS if name not in ("problem_type", "target", "target.name", "columns")]


class DataError(Exception):
    """Data or a request that cannot be used. The message is one line for its author."""


def fail(message: object) -> NoReturn:
    """End the job with one line on standard error, and in the files that SageMaker reads the failure reason from."""
    line = " ".join(str(message).split())[:1024]  # SageMaker keeps 1 KB
    output = os.environ.get("SM_OUTPUT_DIR")
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
        for name in ("failure", "message"):  # of a training job, of a processing job
            (Path(output) / name).write_text(line, encoding="utf-8")
    print(line, file=sys.stderr)
    sys.exit(1)


def join_negatives(argv: list[str] | None) -> list[str]:
    """Return the command line with `--name -1e-05` as `--name=-1e-05`: argparse takes such a value for an option."""
    words: list[str] = []
    for word in sys.argv[1:] if argv is None else argv:
        is_negative = re.fullmatch(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf|-nan", word, re.IGNORECASE)
        if is_negative and words and re.fullmatch("--[^=]+", words[-1]):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def is_blank(value: Any) -> bool:
    """Return True for a text without a visible character."""
    return isinstance(value, str) and not value.strip()


def read_date(text: str, form: str = "") -> datetime:
    """Return a date with its time, in UTC if it names a time zone. `form` is one of strptime's, else it is ISO 8601.

    Raises ValueError for any other text.
    """
    text = text.strip(" \t")
    if not form and not ISO_DATE.fullmatch(text):
        raise ValueError
    found = datetime.strptime(text, form) if form and text.isascii() else datetime.fromisoformat(text)
    try:
        return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except OverflowError:
        raise ValueError from None


@dataclass(frozen=True)
class Files:
    """The form of text files: the character between cells, the one in decimal numbers, and the encoding."""

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"

    def check(self) -> None:
        """Raise ValueError for a form that cannot be read."""
        if len(self.separator) != 1 or not self.separator.isascii() or self.separator in '"\r\n\0':
            raise ValueError(f"files.separator {self.separator!r} must be {KEYS['files.separator'][1]}")
        if self.decimal not in (".", ",") or self.decimal == self.separator:
            raise ValueError(f"files.decimal {self.decimal!r} must be {KEYS['files.decimal'][1]}, not the separator")
        try:
            b"a".decode(self.encoding, errors="ignore")
        except LookupError:
            raise ValueError(f"files.encoding {self.encoding!r} must be {KEYS['files.encoding'][1]}") from None


@dataclass(frozen=True)
class Schema:
    """The content of `schema.toml`. `columns` are the features and their kinds: "number", "category" or "date".

    The kind "date" may have a form behind it: "date %d.%m.%Y".
    """

    problem_type: str
    target: str
    classes: tuple[str, ...]
    columns: dict[str, str]
    ignore: tuple[str, ...]
    split_by: tuple[str, ...] = ()
    files: Files = Files()
    class_weights: tuple[float, ...] | str = ()  # in training: one for each class, or "balanced"
    decision: float | str | dict[str, float] = 0.5  # of two classes: how decision.py finds the threshold

    @property
    def is_classification(self) -> bool:
        """True if the target is one of `classes`."""
        return self.problem_type != "regression"

    @property
    def kinds(self) -> dict[str, str]:
        """The kinds of all columns that are read: those of `columns`, "class" (the target) and "key" (in split_by)."""
        keys = {name: "key" for name in self.split_by}
        return keys | self.columns | {self.target: "class" if self.is_classification else "number"}


def load_schema(file: Path = SCHEMA_FILE) -> Schema:
    """Read and check a schema.toml. Raises DataError that names the key and says what to write."""
    try:
        return _parse(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"model/schema.toml: {error.strerror}") from None  # not the path: a job has its own copy
    except ValueError as error:
        raise DataError(f"model/schema.toml: {error}") from None


def _parse(keys: dict[str, Any]) -> Schema:
    for table in ("target", "files"):
        if isinstance(keys.get(table), dict):
            keys |= {f"{table}.{name}": value for name, value in keys[table].items()}
    for name in keys:
        if name not in KEYS:
            raise ValueError(f"{name} is not a key: the keys are {', '.join(KEYS)}")
    for name, (kind, shape) in KEYS.items():
        if name in keys and not isinstance(keys[name], kind):
            raise ValueError(f"{name} must be {shape}")
        if name not in keys and name not in OPTIONAL:
            raise ValueError(f"{name} is missing: it must be {shape}")
    problem_type, target, columns = keys["problem_type"], keys["target.name"], keys["columns"]
    for value in keys.get("target.classes", ()):
        if isinstance(value, bool) or not isinstance(value, str | int) or is_blank(value):
            raise ValueError(f"target.classes: {value!r} must be a text in quotes, as it is in the data, or an integer")
    for name, kind in columns.items():
        if not isinstance(kind, str) or not re.fullmatch(r"number|category|date( .*%.*)?", kind):
            quotes = ", and a name with a dot must be in quotes" if isinstance(kind, dict) else ""
            raise ValueError(f"column {name!r}: its kind must be 'number', 'category' or 'date'{quotes}")
        if kind.startswith("date "):
            try:
                datetime.strptime(datetime.now().strftime(kind[5:]), kind[5:])
            except ValueError as error:
                raise ValueError(f"column {name!r}: {kind[5:]!r} is not a form of dates: {error}") from None
    ignore, split_by = tuple(keys.get("ignore", ())), tuple(keys.get("split_by", ()))
    classes = tuple(str(value) for value in keys.get("target.classes", ()))  # CSV files hold text: 0 is "0"
    count, known = len(classes), ", ".join(classes) or "none"
    is_binary, is_multiclass = problem_type == "binary_classification", problem_type == "multiclass_classification"
    rules = [
        (problem_type in PROBLEM_TYPES, f"problem_type {problem_type!r} is not one of {', '.join(PROBLEM_TYPES)}"),
        (columns, "columns: name at least one column to predict from"),
        (target not in columns, f"the target {target!r} is also a column: leave it out of [columns]"),
        (all(isinstance(name, str) for name in ignore), f"ignore: {list(ignore)} must be texts in quotes"),
        (all(isinstance(name, str) for name in split_by), f"split_by: {list(split_by)} must be texts in quotes"),
        (target not in split_by, f"split_by: {target!r} is the target: name what tells rows apart, such as an id"),
        (count == 2 or not is_binary, f"target.classes: {problem_type} needs 2 classes, not {count}: {known}"),
        (count > 2 or not is_multiclass, f"target.classes: {problem_type} needs 3 or more, not {count}: {known}"),
        (len(set(classes)) == count, f"target.classes: one of {known} is there twice: leave it out"),
    ]
    for is_kept, message in rules:
        if not is_kept:
            raise ValueError(message)
    files = Files(**keys.get("files", {}))
    files.check()
    schema = Schema(problem_type, target, classes, columns, ignore, split_by, files)
    return replace(schema, **_parse_weights(keys, count), **_parse_decision(keys, is_binary))


def _parse_weights(keys: dict[str, Any], count: int) -> dict[str, Any]:
    """Return `class_weights` for a target with that many classes."""
    given = keys.get("target.class_weights", [])
    numbers = given if isinstance(given, list) and all(is_number(value) and value > 0 for value in given) else []
    if given and given != "balanced" and (len(numbers) != count or not count):
        raise ValueError(f"target.class_weights {given!r} must be {KEYS['target.class_weights'][1]}")
    return {"class_weights": given if isinstance(given, str) else tuple(map(float, given))}


def _parse_decision(keys: dict[str, Any], is_binary: bool) -> dict[str, Any]:
    """Return `decision`, which has no place beside more than two classes, because no threshold decides there."""
    given = keys.get("target.decision", 0.5)
    if "target.decision" in keys and not is_binary:
        raise ValueError("target.decision: only binary_classification has one: leave it out")
    if isinstance(given, dict):
        is_right = set(given) == {"miss", "false_alarm"} and all(is_number(v) and v > 0 for v in given.values())
    elif isinstance(given, str):
        is_right = bool(re.fullmatch(r"f(0[.]\d*[1-9]|[1-9]\d?([.]\d+)?)", given))
    else:
        is_right = is_number(given) and 0 < given < 1
    if not is_right:
        raise ValueError(f"target.decision {given!r} must be {KEYS['target.decision'][1]}")
    return {"decision": given}


def is_number(value: Any) -> bool:
    """Return True for a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_split(folder: Path) -> pd.DataFrame:
    """Return the rows that preprocess.py wrote to `folder`. Raises DataError if there are none."""
    from pyarrow import parquet  # here, because an endpoint imports this file and needs no Parquet

    if not any(folder.glob("*.parquet")):
        raise DataError(f"there is no .parquet file in {folder.name}/: preprocess.py must write it")
    try:
        table: pd.DataFrame = parquet.read_table(folder, page_checksum_verification=True).to_pandas()
    except Exception as error:  # of Arrow and pandas, for a damaged file
        what = str(error).strip().partition("\n")[0][:200]
        raise DataError(f"the {folder.name} set is damaged ({what}): run the step that wrote it again") from None
    if table.empty:
        raise DataError(f"the {folder.name} set is empty: raise its fraction in mlops.toml or add rows")
    return table


def row_digests(table: pd.DataFrame, schema: Schema) -> NDArray[Any]:
    """Return a digest (uint64) of each row's columns in the schema, or of its key; other columns change nothing."""
    names = sorted(schema.split_by or schema.kinds)
    return pd.util.hash_pandas_object(table[names], index=False, categorize=False).to_numpy()


@dataclass(frozen=True)
class Rows:
    """Rows for an estimator: features (rows, features), the target as `encode_target` returns it, and weights."""

    matrix: NDArray[Any]
    target: NDArray[Any]
    weight: NDArray[np.float64]


def row_weights(target: NDArray[Any], schema: Schema) -> NDArray[np.float64]:
    """Return each row's weight in training. "balanced" gives each class the same sum, as in scikit-learn."""
    if not schema.class_weights:
        return np.ones(len(target))
    if isinstance(schema.class_weights, str):
        counts = np.bincount(target, minlength=len(schema.classes))
        weights: NDArray[np.float64] = len(target) / (len(schema.classes) * np.maximum(1, counts))
    else:
        weights = np.array(schema.class_weights, dtype=np.float64)
    return np.take(weights, target)


def encode_target(target: pd.Series, schema: Schema) -> NDArray[Any]:
    """Return the target as numbers: a class's position in the schema (int64), or the value itself (float64)."""
    if not schema.is_classification:
        return target.to_numpy(dtype=np.float64)
    if unknown := set(target.unique()) - set(schema.classes):
        raise DataError(f"target {schema.target!r}: {next(iter(unknown))!r} is not one of the classes in schema.toml")
    return target.map({label: index for index, label in enumerate(schema.classes)}).to_numpy(dtype=np.int64)
