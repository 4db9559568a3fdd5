"""The data: what `schema.toml` says of it, and the tables that preprocess.py made of it."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


def shown(value: object) -> str:
    """A cell's value for a message: a text in quotes, a number as it is written, not as NumPy names its type."""
    return repr(value) if isinstance(value, str) else str(value)


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
SHAPES: dict[str, tuple[type, str]] = {
    "problem_type": (str, 'a text: problem_type = "regression"'),
    "ignore": (list, 'a list of texts: ignore = ["id"]'),
    "target": (dict, 'a table: a line [target], below it name = "..."'),
    "target.name": (str, 'the name of a column, a text: name = "..."'),
    "target.classes": (list, 'a list of what the column holds: classes = ["no", "yes"]'),
    "columns": (dict, 'a table: a line [columns], below it a line for each column: age = "number"'),
}
OPTIONAL = ("ignore", "target.classes")


def load_schema(file: Path = SCHEMA_FILE) -> Schema:
    """The schema in `file`; raises DataError for one that makes no sense."""
    found = _read_keys(file)
    schema = Schema(
        problem_type=found["problem_type"],
        target=found["target.name"],
        classes=tuple(_class_name(value) for value in found.get("target.classes", ())),
        columns=found["columns"],
        ignore=tuple(found.get("ignore", ())),
    )
    if schema.problem_type not in PROBLEM_TYPES:
        raise _wrong(f"problem_type {schema.problem_type!r} is not one of {', '.join(PROBLEM_TYPES)}")
    if not schema.columns:
        raise _wrong("columns: name at least one column to predict from")
    if schema.target in schema.columns:
        raise _wrong(f"the target {schema.target!r} is also a column: leave it out of [columns]")
    for name, kind in found["columns"].items():
        if kind not in ("number", "category"):
            quotes = ", and a name with a dot must be in quotes" if isinstance(kind, dict) else ""
            raise _wrong(f"column {name!r}: its kind must be 'number' or 'category'{quotes}")
    for name in schema.ignore:
        if not isinstance(name, str):
            raise _wrong(f"ignore: {name!r} must be a text in quotes")
    count, known = len(schema.classes), ", ".join(schema.classes)
    if schema.problem_type == "binary_classification" and count != 2:
        raise _wrong(f"target.classes: binary_classification needs 2 classes, not {count}: {known}".rstrip(": "))
    if schema.problem_type == "multiclass_classification" and count < 3:
        raise _wrong(f"target.classes: multiclass_classification needs 3 or more, not {count}: {known}".rstrip(": "))
    if len(set(schema.classes)) < count:
        raise _wrong(f"target.classes: one of {known} is there twice: leave it out")
    return schema


def _wrong(what: str) -> DataError:
    """The file by the name that its author knows: in a job, and in a model's artifact, it lies elsewhere."""
    return DataError(f"model/schema.toml: {what}")


def _read_keys(file: Path) -> dict[str, Any]:
    """The values by dotted key; every key that is needed is there, none is unknown, all have the right shape."""
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _wrong("there is no such file: it must say what the data looks like") from None
    except OSError as error:
        raise _wrong(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _wrong("is not UTF-8: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"is not TOML: {error}") from None
    target = found.get("target")
    if isinstance(target, dict):
        found |= {f"target.{name}": value for name, value in target.items()}
    for name in found:  # before those that are missing: a key may be missing because it is misspelled
        if name not in SHAPES:
            near = difflib.get_close_matches(name, SHAPES, n=1)
            advice = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(SHAPES)}"
            if (plain := name.removeprefix("target.")) in SHAPES:  # TOML counts what is below [target] as part of it
                advice = f"write {plain} above the line [target]"
            raise _wrong(f"{name} is not a key: {advice}")
    for name, (kind, shape) in SHAPES.items():
        if name in found and not isinstance(found[name], kind):
            raise _wrong(f"{name} must be {shape}")
        if name not in found and name not in OPTIONAL:
            raise _wrong(f"{name} is missing: it must be {shape}")
    return found


def _class_name(value: object) -> str:
    """A class as the CSV file has it, which knows only text: 0 is "0". A boolean may be true, True or 1 there."""
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        return str(value)
    written = str(value).lower() if isinstance(value, bool) else repr(value)
    raise _wrong(f"target.classes: {written} must be a text in quotes, as it is in the data, or an integer")


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
