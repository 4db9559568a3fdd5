"""Random targets and predictions: each metric is scikit-learn's, and none is a good value where it is not defined."""

import math
import random
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from campaigns.campaign import Campaign, Case
from campaigns.in_project import project_cases

NOT_NUMBERS = [math.nan, math.inf, -math.inf]


def judges(sk: Any, np: Any, classes: int) -> dict[str, dict[str, Any]]:
    """Return scikit-learn's metrics, as functions of target, prediction and weight. 0.5 itself is the first class."""

    def called(name: str, **options: Any) -> Any:
        return lambda y, p, w: getattr(sk, name)(
            y, p > 0.5 if p.ndim == 1 else p.argmax(axis=1), sample_weight=w, **options
        )

    def plain(name: str, **options: Any) -> Any:
        return lambda y, p, w: getattr(sk, name)(y, p, sample_weight=w, **options)

    def calibration_error(y: Any, p: Any, w: Any) -> float:  # which scikit-learn does not have
        bins = [np.minimum((p * 10).astype(int), 9) == k for k in range(10)]
        return float(sum(abs((w[b] * (p[b] - y[b])).sum()) for b in bins) / w.sum())

    def error_quantile(share: float) -> Any:
        return lambda y, p, w: np.quantile(np.abs(y - p), share, method="inverted_cdf", weights=w)

    log_loss = plain("log_loss", labels=range(classes))
    brier = plain("brier_score_loss", labels=range(classes), scale_by_half=classes == 2)
    weighted = {"average": "weighted", "labels": range(classes)}
    return {
        "binary_classification": {
            "accuracy": called("accuracy_score"),
            "auc": plain("roc_auc_score"),
            "average_precision": plain("average_precision_score"),
            "balanced_accuracy": called("balanced_accuracy_score"),
            "brier": brier,
            "calibration_error": calibration_error,
            "f1": called("f1_score"),
            "log_loss": log_loss,
            "precision": called("precision_score"),
            "recall": called("recall_score"),
            "true_negative_rate": called("recall_score", pos_label=0),
        },
        "multiclass_classification": {
            "accuracy": called("accuracy_score"),
            "balanced_accuracy": called("balanced_accuracy_score"),
            "brier": brier,
            "log_loss": log_loss,
            "weighted_f1": called("f1_score", **weighted),
            "weighted_precision": called("precision_score", **weighted),
            "weighted_recall": called("recall_score", **weighted),
        },
        "regression": {
            "error_p50": error_quantile(0.5),
            "error_p90": error_quantile(0.9),
            "mae": plain("mean_absolute_error"),
            "mse": plain("mean_squared_error"),
            "r2": plain("r2_score", force_finite=False),
            "rmse": plain("root_mean_squared_error"),
        },
    }


def cases(scratch: Path) -> Case:
    """Return a case: one target, prediction and weight, through every metric of a problem type."""
    metrics, np, sk = map(import_module, ("metrics", "numpy", "sklearn.metrics"))
    warnings.simplefilter("ignore")

    def value(metric: Any, *arrays: Any) -> float:
        try:
            return float(metric(*arrays))
        except (ValueError, ZeroDivisionError, IndexError):  # the last of scikit-learn, if all weights are 0
            return math.nan

    def case(chance: random.Random) -> None:
        rng = np.random.default_rng(chance.getrandbits(32))
        problem = chance.choice(list(metrics.METRICS))
        rows, classes = chance.choice([1, 2, 3, 10, 100, 1000]), 2 if problem[0] == "b" else chance.randint(3, 6)
        p = rng.random((rows, classes)) ** chance.choice([1, 8]) + 1e-9
        p = p / p.sum(axis=1, keepdims=True)
        y = rng.choice(rng.choice(classes, chance.randint(1, classes), replace=False), rows)
        if problem == "regression":
            y, p = (rng.normal(chance.choice([0, 1e6]), chance.choice([0, 0.1, 1]), rows) for _ in "yp")
        elif chance.random() < 0.5:  # few different values: ties, 0 and 1, and one half
            p = np.eye(classes)[rng.integers(0, classes, rows)] * chance.choice([1, 0.5])
            p = p + (1 - p.sum(axis=1, keepdims=True)) / classes
        p = (p[:, 1] if problem[0] == "b" else p).astype(chance.choice([np.float64, np.float32]))
        if chance.random() < 0.1:
            p = np.repeat(p[:1], rows, axis=0)  # constant
        if problem == "regression" and chance.random() < 0.1:
            p = y.copy()
        w = chance.choice([np.ones(rows), rng.random(rows), rng.integers(0, 3, rows) * 1.0, np.zeros(rows)])
        judge = judges(sk, np, classes)[problem]
        assert judge.keys() == metrics.METRICS[problem].keys()
        for name, metric in metrics.METRICS[problem].items():
            ours, theirs = value(metric, y, p, w), value(judge[name], y, p, w)
            if not w.any() and math.isnan(ours):
                continue  # scikit-learn has 0 for some of these
            if name == "r2" and len(np.unique(y[w > 0])) < 2:
                theirs = math.nan  # no variance to explain
            if name == "average_precision" and not w[y == 1].any():
                theirs = math.nan  # scikit-learn has 0, as if a model had failed
            close = math.isclose(ours, theirs, rel_tol=1e-5 if p.dtype == np.float32 else 1e-9, abs_tol=1e-9)
            assert close or (math.isnan(ours) and math.isnan(theirs)), f"{problem} {name}: {ours}, not {theirs}"
        if problem != "regression":
            theirs = sk.confusion_matrix(y, p > 0.5 if p.ndim == 1 else p.argmax(axis=1), labels=range(classes))
            ours = metrics.confusion(y, p, tuple(map(str, range(classes))), 0.5)
            assert [list(row.values()) for row in ours.values()] == theirs.tolist()
        p[chance.randrange(rows)] = chance.choice(NOT_NUMBERS)
        assert not any(map(math.isfinite, metrics.measure(metrics.METRICS[problem], y, p, 0.5).values()))

    return case


CAMPAIGN = Campaign(
    *("metrics", "a metric is scikit-learn's, and no number where it is not defined", 5000, 100),
    partial(project_cases, module="metrics"),
)
