"""Metrics with their spread, in the names and shapes of SageMaker Model Monitor's model-quality files.

A metric takes (target, prediction, weight), arrays with a row each, so a scikit-learn metric fits in as
`lambda y, p, w: fbeta_score(y, p > 0.5, beta=2, sample_weight=w)`. Binary: target 0 or 1, prediction the probability
of 1. Multiclass: target a class's number, prediction a row of probabilities. Regression: both values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ENOUGH = 20_000  # rows to resample
Metric = Callable[[Array, Array, Array], float]


@dataclass(frozen=True)
class Definition:
    """A metric and which way is better."""

    function: Metric
    greater_is_better: bool = True


def _divide(a: float, b: float) -> float:
    return float(a / b) if b else 0.0


def _positives(y: Array, p: Array, w: Array) -> tuple[float, float, float]:
    """Weights of the true positives, the predicted positives and the actual positives."""
    hit = p > 0.5
    return float(w[hit & (y == 1)].sum()), float(w[hit].sum()), float(w[y == 1].sum())


def accuracy(y: Array, p: Array, w: Array) -> float:
    """The share of rows with the right class."""
    return float(np.average((p > 0.5) == (y == 1), weights=w))


def precision(y: Array, p: Array, w: Array) -> float:
    """Of the rows called positive, the share that is; 0 if none is called so."""
    true, predicted, _ = _positives(y, p, w)
    return _divide(true, predicted)


def recall(y: Array, p: Array, w: Array) -> float:
    """Of the positive rows, the share called so."""
    true, _, actual = _positives(y, p, w)
    return _divide(true, actual)


def true_negative_rate(y: Array, p: Array, w: Array) -> float:
    """Of the negative rows, the share called so."""
    return recall(1 - y, 1 - p, w)


def f1(y: Array, p: Array, w: Array) -> float:
    """The harmonic mean of precision and recall."""
    true, predicted, actual = _positives(y, p, w)
    return _divide(2 * true, predicted + actual)


def auc(y: Array, p: Array, w: Array) -> float:
    """The area under the ROC curve: how likely a positive row scores above a negative one, ties counting half."""
    order = np.argsort(p, kind="stable")
    y, p, w = y[order], p[order], w[order]
    first = np.flatnonzero(np.r_[True, p[1:] != p[:-1]])
    positive, negative = np.add.reduceat(w * (y == 1), first), np.add.reduceat(w * (y == 0), first)
    below = np.cumsum(negative) - negative
    pairs = float(positive.sum() * negative.sum())
    return float((positive * (below + negative / 2)).sum()) / pairs if pairs else float("nan")


def log_loss(y: Array, p: Array, w: Array) -> float:
    """The mean negative logarithm of the probability given to the true class."""
    given = np.where(y == 1, p, 1 - p) if p.ndim == 1 else p[np.arange(len(y)), y]
    return float(np.average(-np.log(np.clip(given, 1e-15, 1.0)), weights=w))


def multiclass_accuracy(y: Array, p: Array, w: Array) -> float:
    """The share of rows with the right class."""
    return float(np.average(p.argmax(axis=1) == y, weights=w))


def _weighted(score: Callable[[float, float, float], float]) -> Metric:
    """A per-class score (true positives, predicted, actual) averaged by how common each class is."""

    def metric(y: Array, p: Array, w: Array) -> float:
        classes, called = p.shape[1], p.argmax(axis=1)
        true = np.bincount(y[called == y], w[called == y], classes)
        predicted, actual = np.bincount(called, w, classes), np.bincount(y, w, classes)
        scores = [score(*each) for each in zip(true, predicted, actual, strict=True)]
        return float(np.average(scores, weights=actual))

    return metric


def mae(y: Array, p: Array, w: Array) -> float:
    """The mean absolute error, in the target's unit."""
    return float(np.average(np.abs(y - p), weights=w))


def mse(y: Array, p: Array, w: Array) -> float:
    """The mean squared error."""
    return float(np.average((y - p) ** 2, weights=w))


def rmse(y: Array, p: Array, w: Array) -> float:
    """The root of the mean squared error, in the target's unit."""
    return float(mse(y, p, w) ** 0.5)


def r2(y: Array, p: Array, w: Array) -> float:
    """The share of the target's variance that the prediction explains."""
    variance = float(np.average((y - np.average(y, weights=w)) ** 2, weights=w))
    return 1.0 - mse(y, p, w) / variance if variance else float("nan")


# --- edit here: add your own metric to the table of your problem type; the gate in mlops.toml can then name it ---
METRICS: dict[str, dict[str, Definition]] = {
    "binary_classification": {
        "accuracy": Definition(accuracy),
        "auc": Definition(auc),
        "f1": Definition(f1),
        "precision": Definition(precision),
        "recall": Definition(recall),
        "true_negative_rate": Definition(true_negative_rate),
        "log_loss": Definition(log_loss, greater_is_better=False),
    },
    "multiclass_classification": {
        "accuracy": Definition(multiclass_accuracy),
        "weighted_f1": Definition(_weighted(lambda true, called, actual: _divide(2 * true, called + actual))),
        "weighted_precision": Definition(_weighted(lambda true, called, actual: _divide(true, called))),
        "weighted_recall": Definition(_weighted(lambda true, called, actual: _divide(true, actual))),
        "log_loss": Definition(log_loss, greater_is_better=False),
    },
    "regression": {
        "mae": Definition(mae, greater_is_better=False),
        "mse": Definition(mse, greater_is_better=False),
        "rmse": Definition(rmse, greater_is_better=False),
        "r2": Definition(r2),
    },
}


def measure(table: dict[str, Definition], y: Array, p: Array) -> dict[str, float]:
    """Each metric's value."""
    weight = np.ones(len(y))
    return {name: definition.function(y, p, weight) for name, definition in table.items()}


def bootstrap(table: dict[str, Definition], y: Array, p: Array, resamples: int, seed: int) -> dict[str, float]:
    """Each metric's standard deviation over resamples of the rows (Efron, 1979); nan where it is not defined.

    Of more than 20,000 rows a part of m is resampled, and the spread scaled by sqrt(m / n) (Bickel et al., 1997).
    """
    rng = np.random.default_rng(seed)
    scale = 1.0
    if len(y) > ENOUGH:
        part = rng.choice(len(y), ENOUGH, replace=False)
        y, p, scale = y[part], p[part], (ENOUGH / len(y)) ** 0.5
    values: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(resamples):
        weight = np.bincount(rng.integers(0, len(y), len(y)), minlength=len(y)).astype(float)
        for name, definition in table.items():
            values[name].append(definition.function(y, p, weight))
    return {
        name: float(np.nanstd(found, ddof=1)) * scale if np.isfinite(found).any() else np.nan
        for name, found in values.items()
    }


def roc_curve(y: Array, p: Array) -> dict[str, list[float]]:
    """The ROC curve at 101 thresholds, in the names that SageMaker Studio draws."""
    thresholds = np.linspace(1.0, 0.0, 101)
    positive, negative = np.sort(p[y == 1]), np.sort(p[y == 0])
    rates = {"true_positive_rates": positive, "false_positive_rates": negative}
    return {
        name: [float(1 - np.searchsorted(scores, t, side="left") / max(1, len(scores))) for t in thresholds]
        for name, scores in rates.items()
    }


def confusion(y: Array, p: Array, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Rows by true class and, inside, by predicted class."""
    called = (p > 0.5).astype(int) if p.ndim == 1 else p.argmax(axis=1)
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (y, called), 1)
    return {t: {c: int(counts[i, j]) for j, c in enumerate(classes)} for i, t in enumerate(classes)}
