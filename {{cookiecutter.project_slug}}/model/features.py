"""Features: the preprocessing that is fitted on the train split and stored in the model artifact.

Training, evaluation and inference all use it, so they cannot differ.
"""

from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder

from data import Schema


def make_preprocessing(schema: Schema) -> ColumnTransformer:
    """Return a transformer, not fitted yet, from a table with the schema's columns to a matrix of numbers."""
    numbers = [name for name, kind in schema.columns.items() if kind == "number"]
    categories = [name for name, kind in schema.columns.items() if kind == "category"]
    # --- EDIT HERE: scale, impute, combine or encode as your data needs it ---
    # XGBoost needs no scaling and accepts missing numbers. An unknown category becomes all zeros.
    return ColumnTransformer(
        [
            ("numbers", "passthrough", numbers),
            ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
        ]
    )
