"""Features: the preprocessing that is fitted on the train split and stored in the model artifact.

Training, evaluation and inference all use it, so they cannot differ.
"""

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from data import Schema


def expand_dates(table: pd.DataFrame) -> pd.DataFrame:
    """Return five numbers for each date: days since 1970 with the time of day, month, day, weekday and hour."""
    # --- EDIT HERE: what matters in your dates, such as holidays or the days between two of them ---
    parts = {}
    for name in table.columns:
        date = pd.to_datetime(table[name]).astype("datetime64[us]")
        parts[f"{name} days"] = (date - pd.Timestamp(0)) / pd.Timedelta(days=1)
        for part in ("month", "day", "dayofweek", "hour"):
            parts[f"{name} {part}"] = getattr(date.dt, part)
    return pd.DataFrame(parts)


def make_preprocessing(schema: Schema) -> ColumnTransformer:
    """Return a transformer, not fitted yet, from a table with the schema's columns to a matrix of numbers."""
    numbers = [name for name, kind in schema.columns.items() if kind == "number"]
    categories = [name for name, kind in schema.columns.items() if kind == "category"]
    dates = [name for name, kind in schema.columns.items() if kind.startswith("date")]
    # --- EDIT HERE: scale, impute, combine or encode as your data needs it ---
    # XGBoost needs no scaling and accepts missing numbers. An unknown category becomes all zeros.
    return ColumnTransformer(
        [
            ("numbers", "passthrough", numbers),
            ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
            ("dates", FunctionTransformer(expand_dates), dates),
        ]
    )
