"""Metrics with their spread, named and shaped as in SageMaker Model Monitor's model-quality files.

A metric takes (target, prediction, weight), arrays with one row each, so a scikit-learn metric fits in as
`lambda y, p, w: fbeta_score(y, p > 0.5, beta=2, sample_weight=w)`. Binary: target 0 or 1, prediction the probability
of 1, or for the metrics in CALLS 1 for a row that is called positive and 0 for another. Multiclass: target a class's
number, prediction a row of probabilities. Regression: both are values.

Most are written in NumPy, because the bootstrap calls each a hundred times and scikit-learn's checks take longer. They
equal scikit-learn's: 0 for a precision, recall or f1 without rows to divide by; nan for an auc of one class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Metric = Callable[[Array, Array, Array], float]
ENOUGH = 20_000  # rows to resample


def _divide(a: float, b: float) -> float:
    return float(a / b) if b else 0.0


def _called(p: Array) -> Array:
    """Return the number of the most probable class, of equal ones the first: a probability of 0.5 is class 0."""
    return (p > 0.5).astype(int) if p.ndim == 1 else p.argmax(axis=1)


def _counted(score: Callable[[float, float, float, float], float]) -> Metric:
    """Return a metric from the weights of true positives, false positives, false negatives and true negatives."""

    def metric(y: Array, p: Array, w: Array) -> float:
        called, actual = p > 0.5, y == 1
        right, wrong = w * (called == actual), w * (called != actual)
        return score(right[called].sum(), wrong[called].sum(), wrong[~called].sum(), right[~called].sum())

    return metric


def _weighted(score: Metric) -> Metric:
    """Return the average of a binary metric over the classes, each against all others, weighted by their frequency."""

    def metric(y: Array, p: Array, w: Array) -> float:
        called, classes = _called(p), range(p.shape[1])
        scores = [score(y == k, called == k, w) for k in classes]
        return float(np.average(scores, weights=np.bincount(y, w, len(classes))))

    return metric


f1 = _counted(lambda tp, fp, fn, tn: _divide(2 * tp, 2 * tp + fp + fn))
precision = _counted(lambda tp, fp, fn, tn: _divide(tp, tp + fp))
recall = _counted(lambda tp, fp, fn, tn: _divide(tp, tp + fn))
true_negative_rate = _counted(lambda tp, fp, fn, tn: _divide(tn, tn + fp))


def accuracy(y: Array, p: Array, w: Array) -> float:
    """Return the share of rows that are called right."""
    return float(np.average(_called(p) == y, weights=w))


def auc(y: Array, p: Array, w: Array) -> float:
    """Return the area under the ROC curve: how likely a positive row scores above a negative one; ties count half."""
    order = np.argsort(p, kind="stable")
    y, p, w = y[order], p[order], w[order]
    first = np.flatnonzero(np.r_[True, p[1:] != p[:-1]])
    positive, negative = np.add.reduceat(w * (y == 1), first), np.add.reduceat(w * (y == 0), first)
    below = np.cumsum(negative) - negative
    pairs = float(positive.sum() * negative.sum())
    return float((positive * (below + negative / 2)).sum()) / pairs if pairs else float("nan")


def average_precision(y: Array, p: Array, w: Array) -> float:
    """Return the area under the precision-recall curve as a sum of steps; nan without a positive row."""
    order = np.argsort(-p, kind="stable")
    y, p, w = y[order], p[order], w[order]
    last = np.flatnonzero(np.r_[p[1:] != p[:-1], True])
    right, called = np.cumsum(w * (y == 1))[last], np.cumsum(w)[last]
    precision = np.divide(right, called, out=np.zeros(len(last)), where=called > 0)
    return float((np.diff(right, prepend=0.0) * precision).sum() / right[-1]) if right[-1] else float("nan")


def balanced_accuracy(y: Array, p: Array, w: Array) -> float:
    """Return the mean over the classes of the share of their rows that are called right."""
    rows, right = np.bincount(y, w), np.bincount(y, w * (_called(p) == y))
    return float((right[rows > 0] / rows[rows > 0]).mean())


def brier(y: Array, p: Array, w: Array) -> float:
    """Return the mean squared distance of the probabilities from the truth (of more classes, summed over them)."""
    return mse(y, p, w) if p.ndim == 1 else float(np.average(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1), weights=w))


def calibration_error(y: Array, p: Array, w: Array) -> float:
    """Return how far probabilities are from the share that is true: the mean over ten bins (Naeini et al., 2015)."""
    bins = np.minimum((p * 10).astype(int), 9)
    return float(np.abs(np.bincount(bins, w * (p - y))).sum() / w.sum())


def log_loss(y: Array, p: Array, w: Array) -> float:
    """Return the mean negative logarithm of the probability given to the true class, nan if one is not in 0 to 1."""
    given = np.where(y == 1, p, 1 - p) if p.ndim == 1 else p[np.arange(len(y)), y]
    eps = np.finfo(p.dtype).eps if p.min() >= 0 and p.max() <= 1 else np.nan
    return float(np.average(-np.log(np.clip(given, eps, 1 - eps)), weights=w))


def mse(y: Array, p: Array, w: Array) -> float:
    """Return the mean squared error."""
    return float(np.average((y - p) ** 2, weights=w))


def error_quantile(share: float) -> Metric:
    """Return a metric: the absolute error that this share of the rows does not exceed."""

    def metric(y: Array, p: Array, w: Array) -> float:
        error = np.abs(y - p)
        order = np.argsort(error, kind="stable")
        below = np.cumsum(w[order])
        return float(error[order][np.searchsorted(below, share * below[-1] * (1 - 1e-12))])

    return metric


def r2(y: Array, p: Array, w: Array) -> float:
    """Return the share of the target's variance that the prediction explains."""
    variance = mse(y, np.full(len(y), np.average(y, weights=w)), w)
    is_constant = len(np.unique(y[w > 0])) == 1  # its variance may be a little above 0 by rounding
    return float("nan") if is_constant or not variance else 1.0 - mse(y, p, w) / variance


# --- EDIT HERE: add your own metric to the table of your problem type; [gate] in mlops.toml can then name it ---
METRICS: dict[str, dict[str, Metric]] = {
    "binary_classification": {
        "accuracy": accuracy,
        "auc": auc,
        "average_precision": average_precision,
        "balanced_accuracy": balanced_accuracy,
        "brier": brier,
        "calibration_error": calibration_error,
        "f1": f1,
        "log_loss": log_loss,
        "precision": precision,
        "recall": recall,
        "true_negative_rate": true_negative_rate,
    },
    "multiclass_classification": {
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "brier": brier,
        "log_loss": log_loss,
        "weighted_f1": _weighted(f1),
        "weighted_precision": _weighted(precision),
        "weighted_recall": _weighted(recall),
    },
    "regression": {
        "error_p50": error_quantile(0.5),
        "error_p90": error_quantile(0.9),
        "mae": lambda y, p, w: float(np.average(np.abs(y - p), weights=w)),
        "mse": mse,
        "r2": r2,
        "rmse": lambda y, p, w: mse(y, p, w) ** 0.5,
    },
}
LOWER_IS_BETTER = {"brier", "calibration_error", "error_p50", "error_p90", "log_loss", "mae", "mse", "rmse"}
# Of two classes, these judge the class that is called, so the model's threshold matters to them.
CALLS = {"accuracy", "balanced_accuracy", "f1", "precision", "recall", "true_negative_rate"}
# --- end ---


def seen_by(name: str, p: Array, threshold: float) -> Array:
    """Return what a metric judges: of two classes, the calls for one in CALLS, else the predictions as they are."""
    return (p > threshold).astype(float) if p.ndim == 1 and name in CALLS else p


def measure(table: dict[str, Metric], y: Array, p: Array, threshold: float) -> dict[str, float]:
    """Return each metric's value, nan if a prediction is not finite: to a comparison, nan is one of the classes."""
    w, is_finite = np.ones(len(y)), bool(np.isfinite(p).all())
    return {name: metric(y, seen_by(name, p, threshold), w) if is_finite else np.nan for name, metric in table.items()}


def learned_nothing(y: Array, p: Array) -> Array:
    """Return the predictions, shaped as `p`, of a model that learned nothing: each class's share, or the mean."""
    if p.ndim == 2:
        return np.tile(np.bincount(y, minlength=p.shape[1]) / len(y), (len(y), 1))
    return np.full(len(y), y.mean())


def resample(rows: int, count: int, seed: int, most: int = ENOUGH) -> tuple[Array, list[Array], float]:
    """Return which rows a bootstrap (Efron, 1979) uses, how often each resample draws them, a factor for the spread.

    Of more than `most` rows, m are resampled and the spread is scaled by sqrt(m / n) (Bickel et al., 1997).
    """
    rng = np.random.default_rng(seed)
    used = np.arange(rows) if rows <= most else rng.choice(rows, most, replace=False)
    samples = [rng.integers(0, len(used), len(used)) for _ in range(count)]
    weights = [np.bincount(sample, minlength=len(used)).astype(float) for sample in samples]
    return used, weights, (len(used) / rows) ** 0.5


def bootstrap(
    table: dict[str, Metric], y: Array, p: Array, count: int, seed: int, threshold: float = 0.5
) -> dict[str, float]:
    """Return each metric's standard deviation over `count` resamples of the rows, nan where it is not defined."""
    used, weights, scale = resample(len(y), count, seed)
    y, p = y[used], p[used]
    seen = {name: seen_by(name, p, threshold) for name in table}
    values = {name: [metric(y, seen[name], weight) for weight in weights] for name, metric in table.items()}
    return {
        name: float(np.nanstd(found, ddof=1)) * scale if np.isfinite(found).any() else np.nan
        for name, found in values.items()
    }


def lowest_difference(metric: Metric, y: Array, p: Array, q: Array, confidence: float, count: int, seed: int) -> float:
    """Return the lower bound of metric(p) - metric(q): the true difference is above it with `confidence`.

    A paired bootstrap: each resample draws the same rows for both, so what is hard for both cancels out. Nan if fewer
    than half of the resamples have a value.
    """
    whole = metric(y, p, np.ones(len(y))) - metric(y, q, np.ones(len(y)))
    used, weights, scale = resample(len(y), count, seed)
    y, p, q = y[used], p[used], q[used]
    center = metric(y, p, np.ones(len(y))) - metric(y, q, np.ones(len(y)))
    found = np.array([metric(y, p, weight) - metric(y, q, weight) for weight in weights])
    found = found[np.isfinite(found)]
    if len(found) * 2 < count:
        return float("nan")
    return float(whole + scale * (np.quantile(found, 1 - confidence) - center))


def roc_curve(y: Array, p: Array) -> dict[str, list[float]]:
    """Return the ROC curve at 101 thresholds, with the names that SageMaker Studio draws."""
    thresholds = np.linspace(1.0, 0.0, 101)
    scores = {"true_positive_rates": np.sort(p[y == 1]), "false_positive_rates": np.sort(p[y == 0])}
    return {
        name: [float(1 - np.searchsorted(found, t, side="left") / max(1, len(found))) for t in thresholds]
        for name, found in scores.items()
    }


def confusion(y: Array, p: Array, classes: tuple[str, ...], threshold: float) -> dict[str, dict[str, int]]:
    """Return the number of rows by true class and, inside, by called class."""
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (y, _called(seen_by("accuracy", p, threshold))), 1)
    return {t: {c: int(counts[i, j]) for j, c in enumerate(classes)} for i, t in enumerate(classes)}
