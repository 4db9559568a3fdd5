"""Serve the model: SageMaker's four functions. CSV and JSON in, JSON and CSV out; missing values are allowed.

JSON in: `{"instances": [{"column": value, ...}, ...]}`, a bare list of such rows, or
`{"columns": [...], "data": [[...]]}`. CSV in: rows in the schema's order, or with a header. Out, per row: a label and
its probabilities, or a value.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the container loads this file without its folder on the path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact import Model, load
from data import MISSING, DataError, Schema, load_schema, shown

TYPES = ("application/json", "text/csv")


def model_fn(model_dir: str) -> Model:
    """Load the model, once per worker."""
    return load(Path(model_dir))


def input_fn(body: bytes | str, content_type: str) -> pd.DataFrame:
    """A request's body as a table with the schema's columns; raises ValueError for one that cannot be read."""
    schema = load_schema()
    content_type = content_type.partition(";")[0].strip().lower()
    text = body.decode("utf-8") if isinstance(body, bytes | bytearray) else body
    try:
        if content_type == "application/json":
            return check_rows(json_rows(text, schema), schema)
        if content_type == "text/csv":
            return check_rows(csv_rows(text, schema), schema)
    except DataError as error:
        raise ValueError(str(error)) from None
    raise ValueError(f"content type {content_type!r} is not supported: send {' or '.join(TYPES)}")


def predict_fn(table: pd.DataFrame, model: Model) -> dict[str, Any]:
    """Predictions for the table, as they go out."""
    return as_json(model, model.predict(table))


def output_fn(prediction: dict[str, Any], accept: str) -> tuple[str, str]:
    """The response's body and its content type."""
    wanted = [part.partition(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    if "application/json" in wanted or "*/*" in wanted:
        return json.dumps(prediction), "application/json"
    if "text/csv" in wanted:
        rows = [
            [row["value"]] if "value" in row else [row["label"], *row["probabilities"].values()]
            for row in prediction["predictions"]
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue(), "text/csv"
    raise ValueError(f"accept {accept!r} is not supported: ask for {' or '.join(TYPES)}")


def as_json(model: Model, predicted: NDArray[np.float64]) -> dict[str, Any]:
    """`Model.predict`'s numbers as `{"predictions": [...]}`, one entry per row."""
    schema = model.schema
    if not schema.is_classification:
        return {"predictions": [{"value": float(value)} for value in predicted]}
    table = predicted if predicted.ndim == 2 else np.column_stack([1.0 - predicted, predicted])
    return {
        "predictions": [
            {
                "label": schema.classes[int(np.argmax(row))],
                "probabilities": {label: float(value) for label, value in zip(schema.classes, row, strict=True)},
            }
            for row in table
        ]
    }


def json_rows(text: str, schema: Schema) -> pd.DataFrame:
    """The rows of a JSON request, not checked yet."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"the body is not JSON: {error}") from None
    if isinstance(found, dict) and isinstance(found.get("columns"), list) and isinstance(found.get("data"), list):
        names = found["columns"]
        for number, row in enumerate(found["data"], 1):
            if not isinstance(row, list) or len(row) != len(names):
                raise DataError(f"row {number} of data does not have the {len(names)} values that columns names")
        found = [dict(zip(names, row, strict=True)) for row in found["data"]]
    elif isinstance(found, dict):
        found = found.get("instances")
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError('send {"instances": [{"column": value, ...}, ...]}')
    return pd.DataFrame(found, columns=None if found else schema.features)


def csv_rows(text: str, schema: Schema) -> pd.DataFrame:
    """The rows of a CSV request, not checked yet; its first line is a header if it names the columns."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    has_header = bool(rows) and set(rows[0]) >= set(schema.features)
    names = rows.pop(0) if has_header else schema.features
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise DataError(f"row {number} has {len(row)} cells: {len(names)} are needed: {', '.join(names)[:300]}")
    return pd.DataFrame(rows, columns=names)


def check_rows(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The schema's columns with the schema's kinds; raises DataError that names row and column."""
    if table.empty:
        raise DataError("the request has no rows")
    absent = [name for name in schema.features if name not in table.columns]
    if absent:
        raise DataError(f"column {absent[0]!r} is missing: {', '.join(schema.features)[:300]} are needed")
    checked: dict[str, pd.Series] = {}
    for name, kind in schema.columns.items():
        values = table[name]
        missing = values.isna() | values.isin(MISSING if kind == "number" else [""])
        if kind == "category":
            checked[name] = pd.Series(
                [None if gone else str(v) for v, gone in zip(values, missing, strict=True)], dtype=object
            )
            continue
        numbers = pd.to_numeric(values.where(~missing), errors="coerce").astype(float)
        bad = (numbers.isna() & ~missing) | np.isinf(numbers)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"row {row + 1}, column {name!r}: {shown(values.iloc[row])} is not a number")
        checked[name] = numbers
    return pd.DataFrame(checked)
