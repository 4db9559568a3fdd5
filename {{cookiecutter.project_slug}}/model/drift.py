"""How the values of each column are distributed: train.py stores it in the artifact, report.py adds the test rows."""

from typing import Any

import numpy as np
import pandas as pd

from data import Schema

ROWS = 50_000  # to look at
VALUES = 20  # of a category, the most frequent ones; the others are counted together


def profile(tables: dict[str, pd.DataFrame], schema: Schema) -> dict[str, Any]:
    """Return for each column its bins, by the train split, and how many cells of each split are in them."""
    found = {}
    for name in (*schema.columns, schema.target):
        column = tables["train"][name].dropna()
        column = column.iloc[:: max(1, len(column) // ROWS)]
        if schema.kinds[name] == "number":
            bins: list[Any] = np.unique(np.quantile(column, np.linspace(0.1, 0.9, 9))).tolist() if len(column) else []
        else:
            counts = column.astype(str).value_counts()
            bins = sorted(counts.index, key=lambda value: (-counts[value], value))[:VALUES]
        found[name] = {"bins": bins, "counts": {split: count(part[name], bins) for split, part in tables.items()}}
    return found


def count(column: pd.Series, bins: list[Any]) -> list[int]:
    """Return how many of the column's cells are in each bin, in no bin of a category, and last how many are missing."""
    column = column.iloc[:: max(1, len(column) // ROWS)]
    known = column.dropna()
    if pd.api.types.is_numeric_dtype(known):
        places = np.searchsorted(bins, known.to_numpy(dtype=float), side="right")
    else:
        at = {value: place for place, value in enumerate(bins)}
        places = known.astype(str).map(at).fillna(len(bins)).to_numpy(dtype=int)
    return [*np.bincount(places, minlength=len(bins) + 1).tolist(), len(column) - len(known)]


def shift(before: list[int], after: list[int]) -> tuple[float, float]:
    """Return the population stability index of two lists of counts, and what chance exceeds once in a thousand times.

    Of two samples of one distribution the index is like chi-squared / rows, whose quantile is Wilson and Hilferty's.
    """
    a, b = np.array(before, dtype=float), np.array(after, dtype=float)
    used = a + b > 0
    p, q = ((each[used] + 0.5) / (each[used] + 0.5).sum() for each in (a, b))
    free = max(1, int(used.sum()) - 1)
    quantile = free * (1 - 2 / (9 * free) + 3.09 * (2 / (9 * free)) ** 0.5) ** 3
    by_chance = quantile * (1 / max(1, a.sum()) + 1 / max(1, b.sum()))
    return float(((p - q) * np.log(p / q)).sum()), float(by_chance)
