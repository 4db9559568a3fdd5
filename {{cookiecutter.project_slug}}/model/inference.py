"""Serve the model. Takes CSV and JSON, answers JSON or CSV; values may be missing.

SageMaker's container calls model_fn once per worker and transform_fn for each request, and so does `sagegate serve`.
JSON in: `{"instances": [{"column": value, ...}, ...]}`, or a bare list of such rows. CSV in: rows in the schema's
order, or with a header. A date is text: 2024-12-31 or 2024-12-31T23:59:00. Out, per row: a label and its
probabilities, or a value.
"""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the container loads this file without its folder on the path

import numpy as np
import pandas as pd

from artifact import Model, load
from data import MISSING, Schema, is_blank, load_schema, read_date

read_schema = cache(load_schema)  # once per worker


def model_fn(model_dir: str) -> Model:
    """Load the model, once per worker."""
    return load(Path(model_dir))


class BadRequest(Exception):
    """A request that the model cannot answer; the message is the reason."""

    status = 400  # which `sagegate serve` answers with


def transform_fn(model: Model, body: bytes | str, content_type: str, accept: str) -> Any:
    """Return the response to a request: its body and its content type."""
    try:
        kind = output_kind(accept)
        rows = read_rows(body, content_type)
    except (ValueError, OverflowError, RecursionError, csv.Error) as error:
        return bad_request(str(error))
    return write(predict(rows, model), kind), kind


def bad_request(reason: str) -> Any:
    """Return a response with status 400: the container makes a page with status 500 of any exception."""
    try:
        from sagemaker_containers.beta.framework import worker
    except ImportError:  # outside the container
        raise BadRequest(reason) from None
    return worker.Response(json.dumps({"error": reason}), status=BadRequest.status, mimetype="application/json")


def read_rows(body: bytes | str, content_type: str) -> pd.DataFrame:
    """Return a request's rows as a table with the schema's columns. Raises ValueError for a wrong request."""
    readers = {"application/json": json_rows, "text/csv": csv_rows}
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in readers:
        raise ValueError(f"content type {kind!r} is not supported: send {' or '.join(readers)}")
    schema = read_schema()
    # The container decodes a body itself, and puts U+FFFD in the place of wrong bytes.
    text = body.decode("utf-8", errors="replace") if isinstance(body, bytes | bytearray) else body
    if "\ufffd" in text or "\0" in text:
        raise ValueError("the body is not UTF-8 text")
    text = text.removeprefix("\ufeff")  # which some programs put before the text
    return check_rows(readers[kind](text, schema), schema)


def predict(table: pd.DataFrame, model: Model) -> dict[str, Any]:
    """Return `{"predictions": [...]}`, one entry per row."""
    predicted, classes = model.predict(table), model.schema.classes
    if not model.schema.is_classification:
        return {"predictions": [{"value": value} for value in predicted.tolist()]}
    both = predicted if predicted.ndim == 2 else np.column_stack([1.0 - predicted, predicted])
    called = predicted.argmax(axis=1) if predicted.ndim == 2 else (predicted > model.threshold).astype(int)
    labels = [classes[index] for index in called]
    probabilities = [dict(zip(classes, row, strict=True)) for row in both.tolist()]
    rows = zip(labels, probabilities, strict=True)
    return {"predictions": [{"label": label, "probabilities": row} for label, row in rows]}


def output_kind(accept: str) -> str:
    """Return the content type to answer with. Raises ValueError if none of those that are accepted is supported."""
    accepted = [part.partition(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    if "application/json" in accepted or "*/*" in accepted:
        return "application/json"
    if "text/csv" not in accepted:
        raise ValueError(f"accept {accept!r} is not supported: ask for application/json or text/csv")
    return "text/csv"


def write(prediction: dict[str, Any], kind: str) -> str:
    """Return a prediction as JSON or CSV."""
    if kind == "application/json":
        return json.dumps(prediction)
    text = io.StringIO()
    for row in prediction["predictions"]:
        cells = [row["value"]] if "value" in row else [row["label"], *row["probabilities"].values()]
        csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def json_rows(text: str, schema: Schema) -> dict[str, list[Any]]:
    """Return the columns of a JSON request, not checked yet."""
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if isinstance(rows, dict):
        rows = rows.get("instances")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError('send {"instances": [{"column": value, ...}, ...]}')
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def csv_rows(text: str, schema: Schema) -> dict[str, list[Any]]:
    """Return the columns of a CSV request, not checked yet. The first line is a header if it names the columns."""
    rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    has_header = bool(rows) and set(rows[0]) >= set(schema.columns)
    names = rows.pop(0) if has_header else list(schema.columns)
    if len(set(names)) < len(names):
        raise ValueError(f"the header names a column twice: {', '.join(names)[:300]}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} cells: {len(names)} are needed: {', '.join(names)[:300]}")
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def check_rows(columns: Mapping[str, Any], schema: Schema) -> pd.DataFrame:
    """Return a table of the schema's columns, with its kinds. Raises ValueError that names row and column."""
    if not any(len(values) for values in columns.values()):
        raise ValueError("the request has no rows")
    for name in schema.columns:
        if name not in columns:
            raise ValueError(f"column {name!r} is missing: {', '.join(schema.columns)[:300]} are needed")
    readers: dict[str, tuple[Callable[[Any], Any], str]] = {
        "number": (read_number, "a number"),
        "category": (read_text, "text"),
    }
    readers["date"] = (read_day, "a date such as 2024-12-31 or 2024-12-31T23:59:00")
    checked: dict[str, list[Any]] = {name: [] for name in schema.columns}
    for name, kind in schema.columns.items():  # value by value: pandas takes ten times longer for one row
        read, what = readers[kind.partition(" ")[0]]
        for row, value in enumerate(columns[name], 1):
            try:
                checked[name].append(read(value))
            except (ValueError, OverflowError):
                raise ValueError(f"row {row}, column {name!r}: {value!r:.100} is not {what}") from None
    return pd.DataFrame(
        {
            name: np.array(values, "datetime64[us]") if schema.columns[name].startswith("date") else values
            for name, values in checked.items()
        }
    )


def read_number(value: Any) -> float:
    """Return a number, nan if it is missing."""
    if value is None or value in MISSING or value != value or is_blank(value):
        return math.nan
    if isinstance(value, bool | list | dict) or (isinstance(value, str) and ("_" in value or not value.isascii())):
        raise ValueError  # float() also takes 1_000 and digits of other scripts, files of rows do not
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def read_text(value: Any) -> str | None:
    """Return a category, None if it is missing."""
    if value is None or value != value or is_blank(value):
        return None
    if isinstance(value, bool | list | dict):
        raise ValueError
    return str(value)


def read_day(value: Any) -> datetime | None:
    """Return a date, None if it is missing."""
    if value is None or value in MISSING or value != value or is_blank(value):
        return None
    if not isinstance(value, str):
        raise ValueError
    return read_date(value)
