"""Serve the model. Takes CSV and JSON, answers JSON or CSV; values may be missing.

SageMaker's container calls model_fn once per worker and transform_fn for each request, and so does `sagegate serve`.
JSON in: `{"instances": [{"column": value, ...}, ...]}`, or a bare list of such rows. CSV in: rows in the schema's
order, or with a header. Out, per row: a label and its probabilities, or a value.
"""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the container loads this file without its folder on the path

import numpy as np
import pandas as pd

from artifact import Model, load
from data import MISSING, Schema, load_schema


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
    schema = load_schema()
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
    labels = [classes[index] for index in both.argmax(axis=1)]
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


def json_rows(text: str, schema: Schema) -> pd.DataFrame:
    """Return the rows of a JSON request, not checked yet."""
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if isinstance(rows, dict):
        rows = rows.get("instances")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError('send {"instances": [{"column": value, ...}, ...]}')
    return pd.DataFrame(rows, columns=None if rows else list(schema.columns))


def csv_rows(text: str, schema: Schema) -> pd.DataFrame:
    """Return the rows of a CSV request, not checked yet. The first line is a header if it names the columns."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    has_header = bool(rows) and set(rows[0]) >= set(schema.columns)
    names = rows.pop(0) if has_header else list(schema.columns)
    if len(set(names)) < len(names):
        raise ValueError(f"the header names a column twice: {', '.join(names)[:300]}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} cells: {len(names)} are needed: {', '.join(names)[:300]}")
    return pd.DataFrame(rows, columns=names)


def check_rows(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Return the schema's columns, with the schema's kinds. Raises ValueError that names row and column."""
    if table.empty:
        raise ValueError("the request has no rows")
    for name in schema.columns:
        if name not in table.columns:
            raise ValueError(f"column {name!r} is missing: {', '.join(schema.columns)[:300]} are needed")
    checked: dict[str, pd.Series] = {}
    for name, kind in schema.columns.items():
        values = table[name]
        missing = values.isna() | values.isin(MISSING if kind == "number" else [""])
        known = values.astype(object).mask(missing, None)
        if kind == "category":
            checked[name] = known.map(str, na_action="ignore")
            continue
        numbers = pd.to_numeric(known, errors="coerce").astype(float)
        wrong = (numbers.isna() & ~missing) | np.isinf(numbers)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"row {row + 1}, column {name!r}: {values.tolist()[row]!r} is not a number")
        checked[name] = numbers
    return pd.DataFrame(checked)
