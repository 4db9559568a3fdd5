"""A model as a folder: the booster, the fitted preprocessing and the schema, and how the three predict."""

from __future__ import annotations

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
# A parameter that is set while another thread predicts makes XGBoost fail (learner.cc: !need_configuration_).
PREDICTING = Lock()


@dataclass(frozen=True)
class Model:
    """A trained model."""

    schema: Schema
    preprocessing: Any
    booster: xgb.Booster

    def predict(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Predictions for a table with the schema's columns.

        Binary: the probability of the last class, shape (rows,). Multiclass: a probability per class, shape
        (rows, classes). Regression: the value, shape (rows,).
        """
        matrix = self.preprocessing.transform(table[self.schema.features])
        with PREDICTING:
            self.booster.set_param({"nthread": threads(matrix.size)})
            predicted: NDArray[np.float32] = self.booster.inplace_predict(matrix.astype(np.float32))
        return predicted.astype(np.float64)


def threads(cells: int) -> int:
    """How many threads to work on a matrix of that many cells: 0 is one per core.

    On little data threads mostly wait for each other, and on a busy machine that takes many times the work itself.
    """
    return 1 if cells < 1_000_000 else 0


def save(model: Model, folder: Path) -> None:
    """Write the model into `folder`, with the code that serves it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.booster.save_model(folder / BOOSTER)
    joblib.dump(model.preprocessing, folder / PREPROCESSING)
    here = Path(__file__).parent
    shutil.copyfile(here / SCHEMA, folder / SCHEMA)
    (folder / "code").mkdir(exist_ok=True)
    for name in ("inference.py", "artifact.py", "data.py", "features.py", SCHEMA):
        shutil.copyfile(here / name, folder / "code" / name)


def load(folder: Path) -> Model:
    """The model in `folder`; raises DataError if it is not one."""
    for name in (BOOSTER, PREPROCESSING, SCHEMA):
        if not (folder / name).is_file():
            raise DataError(f"the model artifact has no {name}: model/train.py must write it")
    booster = xgb.Booster(model_file=folder / BOOSTER)
    return Model(load_schema(folder / SCHEMA), joblib.load(folder / PREPROCESSING), booster)


if __name__ == "__main__":  # a later evaluate.py scores this model with this very code: MODEL ROWS.parquet OUT.npy
    folder, rows, out = map(Path, sys.argv[1:])
    np.save(out, load(folder).predict(pd.read_parquet(rows)))
