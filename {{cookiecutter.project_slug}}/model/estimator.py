"""The estimator: XGBoost, which stops early and keeps the best round. Replace `fit` to use another library.

What follows the * in its signature are the hyperparameters: the same names are below [hyperparameters] in mlops.toml,
and a default is an integer, a decimal or a text. `fit` returns an object with scikit-learn's methods: for a
classification `predict_proba(matrix)`, shape (rows, classes), else `predict(matrix)`, shape (rows,). joblib stores it.
"""

import re
from threading import Lock
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from xgboost import collective

from data import DataError, Rows, Schema

OBJECTIVES = {
    "binary_classification": {"objective": "binary:logistic", "eval_metric": ["error", "logloss"]},
    "multiclass_classification": {"objective": "multi:softprob", "eval_metric": ["merror", "mlogloss"]},
    "regression": {"objective": "reg:squarederror", "eval_metric": ["mae", "rmse"]},
}  # early stopping watches the last metric: a loss still improves where accuracy or auc stand still
# XGBoost fails if a parameter is set while another thread predicts (learner.cc: !need_configuration_).
PREDICTING = Lock()


def fit(
    train: Rows,
    validation: Rows,
    schema: Schema,
    *,
    num_round: int = 200,
    max_depth: int = 4,
    eta: float = 0.1,
    min_child_weight: float = 1.0,
    subsample: float = 1.0,
    colsample_bytree: float = 1.0,
    reg_lambda: float = 1.0,
    early_stopping_rounds: int = 20,
    seed: int = 42,
) -> Any:
    """Return the estimator, fitted on `train`. Raises DataError for a hyperparameter that XGBoost does not take."""
    for name, value in (("num_round", num_round), ("early_stopping_rounds", early_stopping_rounds)):
        if value < 1:  # XGBoost accepts 0, but then has no best round
            raise DataError(f"{name} must be at least 1, not {value}: correct [hyperparameters]")
    from hosts import all_hosts  # here, because an endpoint imports this file and has one host

    nthread = threads(train.matrix)
    parameters = {
        "max_depth": max_depth,
        "eta": eta,
        "min_child_weight": min_child_weight,
        "subsample": subsample,
        "colsample_bytree": colsample_bytree,
        "reg_lambda": reg_lambda,
        "seed": seed,
        "tree_method": "hist",
        "nthread": nthread,
        **OBJECTIVES[schema.problem_type],
    }
    if schema.problem_type == "multiclass_classification":
        parameters["num_class"] = len(schema.classes)
    try:
        with all_hosts():
            rank, count = collective.get_rank(), collective.get_world_size()  # 0 and 1 on a single host
            matrices: dict[str, xgb.DMatrix] = {}
            for name, rows in (("train", train), ("validation", validation)):
                if len(rows.target) < count:
                    raise DataError(f"the {name} set has {len(rows.target)} rows for {count} hosts: use fewer hosts")
                matrices[name] = xgb.QuantileDMatrix(
                    rows.matrix[rank::count].astype(np.float32),
                    label=rows.target[rank::count],
                    weight=rows.weight[rank::count],
                    ref=matrices.get("train"),
                    nthread=nthread,
                )
            booster = xgb.train(
                parameters,
                matrices["train"],
                num_boost_round=num_round,
                evals=[(matrix, name) for name, matrix in matrices.items()],
                verbose_eval=False,
                callbacks=[LogRounds(), xgb.callback.EarlyStopping(rounds=early_stopping_rounds, save_best=True)],
            )
    except xgb.core.XGBoostError as error:
        raise DataError(f"XGBoost: {reason(error)}") from None
    print(f"kept {booster.num_boosted_rounds()} rounds")
    return BoostedTrees(booster)


class BoostedTrees:
    """An XGBoost model with scikit-learn's methods. It is stored in XGBoost's own format."""

    def __init__(self, booster: xgb.Booster) -> None:
        self.booster = booster

    def __getstate__(self) -> bytes:
        return bytes(self.booster.save_raw("ubj"))

    def __setstate__(self, state: bytes) -> None:
        self.booster = xgb.Booster(model_file=bytearray(state))

    def predict(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return the values of a regression, shape (rows,). Of two classes, it is the probability of the last."""
        with PREDICTING:
            self.booster.set_param({"nthread": threads(matrix)})
            found: NDArray[Any] = self.booster.inplace_predict(matrix.astype(np.float32))
        return found

    def predict_proba(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return a probability for each class, shape (rows, classes)."""
        found = self.predict(matrix)
        return found if found.ndim == 2 else np.column_stack([1 - found, found])

    def contributions(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return the mean size of each feature's contribution to a prediction (TreeSHAP), shape (features,)."""
        self.booster.set_param({"nthread": threads(matrix)})
        found = self.booster.predict(xgb.DMatrix(matrix.astype(np.float32), nthread=1), pred_contribs=True)
        each = np.abs(found[..., :-1]).reshape(len(matrix), -1, matrix.shape[1])  # rows, classes, features
        sizes: NDArray[Any] = each.mean(axis=0).sum(axis=0)
        return sizes


class LogRounds(xgb.callback.TrainingCallback):
    """A log line per round, with each metric."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Print the round's metrics. The result tells XGBoost whether to stop."""
        values = [f"{data}-{name}={log[-1]:.5f}" for data, logs in evals_log.items() for name, log in logs.items()]
        print(f"[{epoch}] {' '.join(values)}")
        return False


def threads(matrix: NDArray[Any]) -> int:
    """Return the number of threads for a matrix: 1 for little data, else 0, one per core.

    On little data, threads mostly wait for each other; on a busy machine that takes many times the work itself.
    """
    return 1 if matrix.size < 1_000_000 else 0


def reason(error: Exception) -> str:
    """Return the informative line of an XGBoost error, without the place in XGBoost's code.

    It is the first line; help follows. When a host is lost there is a list instead, from the outermost call inwards,
    whose last line is the cause.
    """
    lines = [line.strip() for line in str(error).partition("Stack trace:")[0].splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("- [")]
    line = re.sub(r"^(\[[\d:]+\] \S+:\d+: |- \[[^\]]*\]: )", "", (causes or lines[:1])[-1])
    return f"another host of this job failed or was lost, and its log says why: {line}" if causes else line
