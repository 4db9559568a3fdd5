"""Features: the preprocessing that is fitted on the train split and travels inside the model artifact.

Training, evaluation and inference all go through it, so there is no skew between them.
"""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder

from data import Schema


def make_preprocessing(schema: Schema) -> ColumnTransformer:
    """A scikit-learn transformer from a table with the schema's columns to a matrix of numbers; not fitted yet."""
    numbers = [name for name, kind in schema.columns.items() if kind == "number"]
    categories = [name for name, kind in schema.columns.items() if kind == "category"]
    # --- edit here: scale, impute, combine or encode as your data needs it ---
    # XGBoost wants no scaling and takes missing numbers as they are; an unknown category becomes all zeros.
    return ColumnTransformer(
        [
            ("numbers", "passthrough", numbers),
            ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
        ]
    )
