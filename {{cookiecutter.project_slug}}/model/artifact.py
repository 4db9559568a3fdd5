"""A model as a folder: the booster, the fitted preprocessing and the schema, and how they predict together."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import joblib
import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray

import features  # noqa: F401 - a fitted preprocessing may refer to functions in it
from data import DataError, Schema, load_schema

BOOSTER, PREPROCESSING, SCHEMA = "model.ubj", "preprocessing.joblib", "schema.toml"
SEEN = "seen_rows.npy"  # the digests of the rows that it was trained on, sorted, uint64
CODE = ("inference.py", "artifact.py", "data.py", "features.py", SCHEMA)  # what an endpoint needs
# XGBoost fails if a parameter is set while another thread predicts (learner.cc: !need_configuration_).
PREDICTING = Lock()


@dataclass(frozen=True)
class Model:
    """A trained model."""

    schema: Schema
    preprocessing: Any
    booster: xgb.Booster

    def predict(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Return predictions for a table with the schema's columns.

        Binary: the probability of the last class, shape (rows,). Multiclass: a probability per class, shape
        (rows, classes). Regression: the value, shape (rows,).
        """
        matrix = self.preprocessing.transform(table[list(self.schema.columns)])
        with PREDICTING:
            self.booster.set_param({"nthread": threads(matrix.size)})
            predicted: NDArray[np.float32] = self.booster.inplace_predict(matrix.astype(np.float32))
        return predicted.astype(np.float64)


def threads(cells: int) -> int:
    """Return the number of threads for a matrix of that many cells: 1 for little data, else 0, one per core.

    On little data, threads mostly wait for each other; on a busy machine that takes many times the work itself.
    """
    return 1 if cells < 1_000_000 else 0


def save(model: Model, folder: Path) -> None:
    """Write the model into `folder`, with the code that serves it."""
    here = Path(__file__).parent
    (folder / "code").mkdir(parents=True, exist_ok=True)
    model.booster.save_model(folder / BOOSTER)
    joblib.dump(model.preprocessing, folder / PREPROCESSING)
    shutil.copyfile(here / SCHEMA, folder / SCHEMA)
    for name in CODE:
        shutil.copyfile(here / name, folder / "code" / name)


def load(folder: Path) -> Model:
    """Return the model in `folder`. Raises DataError if a file is missing."""
    for name in (BOOSTER, PREPROCESSING, SCHEMA):
        if not (folder / name).is_file():
            raise DataError(f"the model artifact has no {name}: model/train.py must write it")
    booster = xgb.Booster(model_file=folder / BOOSTER)
    return Model(load_schema(folder / SCHEMA), joblib.load(folder / PREPROCESSING), booster)


if __name__ == "__main__":  # evaluate.py scores a champion with the champion's own copy of this file
    model_folder, rows, output = map(Path, sys.argv[1:])
    np.save(output, load(model_folder).predict(pd.read_parquet(rows)))
