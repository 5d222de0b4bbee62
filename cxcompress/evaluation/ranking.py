"""AUROC, average precision and F1 of many scores at once, in linear time: for sweeps.

    treatment_metrics(log_odds, truth, thresholds)      # {"AP": (c,), "AUROC": …, "F1": …}

Scores are counted by value instead of sorted, which float16 allows (65,536 values). The numbers
are those of `metrics.py` and of scikit-learn; the intervals of a sweep come from its seeds, so
nothing here draws patients.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

METRICS = ("AP", "AP_excess", "AUROC", "F1")
"""Average precision, the same less what chance gives (at least 0), area under the ROC curve, and F1
at the thresholds."""


def float16_order(values: NDArray[np.float16]) -> NDArray[np.uint16]:
    """Whole numbers in the order of the values, 0 … 65535; −0 and 0 are one value.

    Args:
        values: float16, any shape, no NaN.
    """
    bits = (values + np.float16(0)).view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000).astype(np.uint16)


def ranking_metrics(scores: NDArray, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Average precision and AUROC of one class.

    Args:
        scores: `(n,)`, higher means more likely; equal ones are taken together. float16 is fast.
        truth: bool `(n,)`.

    Returns:
        Average precision (NaN without a positive), AUROC (NaN without either kind).
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives:
        return math.nan, math.nan
    if scores.dtype == np.float16:
        order = float16_order(scores)
        first, last = int(order.min()), int(order.max())
        group, count = order.astype(np.intp) - first, last - first + 1
    else:
        levels, group = np.unique(scores, return_inverse=True)
        group, count = group.reshape(-1), len(levels)
    # From the highest score down.
    shown = np.bincount(group, minlength=count)[::-1]
    hits = np.bincount(group[truth], minlength=count)[::-1]
    here = np.flatnonzero(hits)
    shown_until, hits_until = shown.cumsum()[here], hits[here].cumsum()
    precision = float((hits[here] * hits_until / shown_until).sum() / positives)
    if not negatives:
        return precision, math.nan
    misses = shown[here] - hits[here]
    below = negatives - (shown_until - hits_until)
    outranked = float((hits[here] * (below + misses / 2)).sum())
    return precision, outranked / (positives * negatives)


def chance_average_precision(positives: int, n: int) -> float:
    """Mean average precision of all rankings of n images; about positives / n when there are many.

    A positive at rank r has on average (positives − 1)(r − 1) / (n − 1) others above it, and every
    rank is equally likely; so with H the n-th harmonic number it is
    H / n + (positives − 1) / (n − 1) × (1 − H / n).
    """
    if not positives:
        return math.nan
    if n == 1:
        return 1.0
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return harmonic / n + (positives - 1) / (n - 1) * (1 - harmonic / n)


def f1(decision: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2 × true positives / (decided + true); NaN without a positive, 0 where none is found."""
    positives = int(truth.sum())
    if not positives:
        return math.nan
    return 2 * int((decision & truth).sum()) / (int(decision.sum()) + positives)


def treatment_metrics(
    log_odds: NDArray, truth: NDArray, thresholds: NDArray | None = None
) -> dict[str, NDArray[np.float64]]:
    """`METRICS` of every class for one set of predictions.

    Args:
        log_odds: `(n, c)`, log(p / (1 − p)); probabilities will do where thresholds fit them.
        truth: `(n, c)` in {0, 1}; NaN = unknown, left out of its class.
        thresholds: `(c,)` in the scores' own unit: a score at or above is "present". None: the
            class of the largest score is (multiclass).

    Returns:
        float64 `(c,)` each; NaN where a class has no positive image (AUROC: or no negative one).
    """
    c = truth.shape[1]
    known = ~np.isnan(truth)
    positive = truth == 1
    if thresholds is None:
        decision = np.zeros(log_odds.shape, bool)
        decision[np.arange(len(log_odds)), log_odds.argmax(axis=1)] = True
    else:
        decision = log_odds >= np.asarray(thresholds, log_odds.dtype)
    found = {name: np.full(c, np.nan) for name in METRICS}
    for column in range(c):
        rows = known[:, column]
        rows = slice(None) if rows.all() else rows
        column_truth = positive[rows, column]
        found["AP"][column], found["AUROC"][column] = ranking_metrics(
            log_odds[rows, column], column_truth)
        # Not below 0: constant scores have less than chance gives, since all their ties are taken
        # together, and the rarer the class the more so. Nothing left is nothing left.
        found["AP_excess"][column] = np.maximum(0.0, found["AP"][column]
                                                - chance_average_precision(
                                                    int(column_truth.sum()), len(column_truth)))
        found["F1"][column] = f1(decision[rows, column], column_truth)
    return found
