"""The decision between two classes: the probability above which a row is called the last one, the positive class."""

import numpy as np
from numpy.typing import NDArray

from data import Schema


def choose_threshold(y: NDArray[np.int64], p: NDArray[np.float64], schema: Schema) -> float:
    """Return the threshold that `decision` in schema.toml asks for, from the target and probabilities of rows.

    "f2" is the threshold with the highest F-beta, here of beta 2; `{ miss = 20, false_alarm = 1 }` that with the lowest
    cost, if a positive row that is called negative costs 20 and the reverse 1. Of equal ones, that nearest to 0.5.
    """
    rule = schema.decision
    if not isinstance(rule, str | dict):
        return float(rule)
    order = np.argsort(-p, kind="stable")
    y, p = y[order], p[order]
    last = np.flatnonzero(np.r_[p[1:] != p[:-1], True])  # of rows with one probability, all are called or none
    hits, called = np.r_[0, np.cumsum(y)[last]], np.r_[0, last + 1]
    if isinstance(rule, str):  # van Rijsbergen, Information Retrieval, 1979, chapter 7
        beta2 = float(rule[1:]) ** 2
        score = (1 + beta2) * hits / np.maximum(1, beta2 * y.sum() + called)
    else:
        score = -1.0 * (rule["miss"] * (y.sum() - hits) + rule["false_alarm"] * (called - hits))
    upper, lower = np.r_[1.0, p[last]], np.r_[p[last], 0.0]  # between the two: the rows above are called
    middle = (upper + lower) / 2
    thresholds = np.where(middle < upper, middle, lower)
    if p[-1] == 0:
        score[-1] = -np.inf  # no threshold calls a row whose probability is 0
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])
