"""A model as a folder: preprocessing, estimator and schema, and how they predict together."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import estimator  # noqa: F401 - what is stored may refer to classes and functions in these two
import features  # noqa: F401
from data import DataError, Schema, load_schema

FITTED, SCHEMA = "model.joblib", "schema.toml"
SEEN = "seen_rows.npy"  # the digests of the rows that it was trained on, sorted, uint64
CODE = ("inference.py", "artifact.py", "data.py", "estimator.py", "features.py", SCHEMA)  # for an endpoint


@dataclass(frozen=True)
class Model:
    """A trained model. Of two classes, it calls a row the last one if its probability is above `threshold`."""

    schema: Schema
    preprocessing: Any
    estimator: Any
    threshold: float = 0.5

    def predict(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Return predictions for a table with the schema's columns. Raises DataError for another shape than these.

        Binary: the probability of the last class, shape (rows,). Multiclass: a probability per class, shape
        (rows, classes). Regression: the value, shape (rows,).
        """
        matrix = self.preprocessing.transform(table[list(self.schema.columns)])
        is_classification, classes = self.schema.is_classification, len(self.schema.classes)
        found = self.estimator.predict_proba(matrix) if is_classification else self.estimator.predict(matrix)
        predicted, shape = np.asarray(found), (len(table), classes) if is_classification else (len(table),)
        if predicted.shape != shape or predicted.dtype.kind != "f":
            what = f"{predicted.dtype} of shape {predicted.shape}, not floats of shape {shape}"
            raise DataError(f"the estimator predicts {what}: correct model/estimator.py")
        predicted = predicted[:, 1] if classes == 2 else predicted
        return predicted.astype(np.float64)


def save(model: Model, folder: Path) -> None:
    """Write the model into `folder`, with the code that serves it."""
    here = Path(__file__).parent
    (folder / "code").mkdir(parents=True, exist_ok=True)
    joblib.dump((model.preprocessing, model.estimator, model.threshold), folder / FITTED)
    shutil.copyfile(here / SCHEMA, folder / SCHEMA)
    for name in CODE:
        shutil.copyfile(here / name, folder / "code" / name)


def load(folder: Path) -> Model:
    """Return the model in `folder`. Raises DataError if a file is missing or cannot be read."""
    for name in (FITTED, SCHEMA):
        if not (folder / name).is_file():
            raise DataError(f"the model artifact has no {name}: model/train.py must write it")
    try:
        fitted = joblib.load(folder / FITTED)
    except Exception as error:  # a damaged file, or a library or class that is not there
        raise DataError(f"{FITTED} in the model artifact cannot be read: {type(error).__name__}: {error}") from None
    return Model(load_schema(folder / SCHEMA), *fitted)


if __name__ == "__main__":  # evaluate.py scores a champion with the champion's own copy of this file
    from pyarrow import parquet  # here, because an endpoint imports this file and needs no Parquet

    model_folder, rows, output = map(Path, sys.argv[1:])
    table = parquet.read_table(rows).to_pandas()  # not by pandas: Arrow may hang with an open file, its issue 50482
    np.save(output, load(model_folder).predict(table))
