"""Are probabilities what they say? Temperature scaling, and the points of a calibration curve.

    temperature = fit_temperature(validation_predictions)
    scaled = with_temperature(test_predictions, temperature)
    bins = calibration_bins(truth, score)          # predicted, observed, interval, count

Reference: Guo et al. (2017), On calibration of modern neural networks.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, ndtri, softmax

from cxcompress.evaluation.estimates import TAIL
from cxcompress.evaluation.metrics import SMALLEST_PROBABILITY
from cxcompress.tasks.predictions import Predictions

REACH = 3.0
"""Temperatures between exp(−3) and exp(3) are tried."""

TINY = 1e-12
"""Probabilities are clipped to [this, 1 - this] before their logit is taken."""

BINS = 8
"""Bins of a calibration curve, with as many images in each."""

IMAGES_A_BIN = 25
"""Fewer images get fewer bins, at least 3."""


def fit_temperature(predictions: Predictions) -> float:
    """The temperature T that minimises the cross-entropy of probabilities made of logits / T.

    One number for all classes. Above 1 the model was too sure of itself. 1 where no label is known.

    Args:
        predictions: Of *validation* images.
    """
    known = ~np.isnan(predictions.truth)
    if predictions.task == "multiclass":
        known = np.repeat(known.all(axis=1, keepdims=True), known.shape[1], axis=1)
    if not known.any():
        return 1.0
    truth = np.where(known, predictions.truth, 0)

    def loss(log_temperature: float) -> float:
        score = with_temperature(predictions, math.exp(log_temperature)).score.clip(
            SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        each = truth * np.log(score)
        if predictions.task == "multilabel":
            each = each + (1 - truth) * np.log1p(-score)
        return float(-(each * known).sum())

    found = minimize_scalar(loss, bounds=(-REACH, REACH), method="bounded",
                            options={"xatol": 1e-4})
    return float(math.exp(found.x)) if found.fun < loss(0.0) else 1.0


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The record with its probabilities' logits divided by a temperature.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"a temperature is positive. Received: {temperature}")
    if temperature == 1:
        return predictions
    score = np.asarray(predictions.score, np.float64).clip(TINY, 1 - TINY)
    if predictions.task == "multiclass":
        return replace(predictions, score=softmax(np.log(score) / temperature, axis=1))
    return replace(predictions, score=expit(np.log(score / (1 - score)) / temperature))


def calibration_bins(truth: NDArray, score: NDArray, bins: int = BINS) -> list[dict[str, float]]:
    """Mean probability and observed frequency in bins of as many images each.

    Args:
        truth: bool `(n,)`.
        score: Probabilities `(n,)`.
        bins: At most as many; equal scores stay together.

    Returns:
        Mappings of `predicted`, `observed`, `low`, `high` (Wilson's 95% interval of the frequency,
        images taken as independent) and `count`, by rising probability.
    """
    bins = max(3, min(bins, len(score) // IMAGES_A_BIN))
    order = np.argsort(score, kind="stable")
    edges = np.unique(np.searchsorted(score[order], score[order][
        np.linspace(0, len(order), bins + 1).astype(int)[1:-1].clip(0, len(order) - 1)]))
    points = []
    for rows in np.split(order, edges):
        if not len(rows):
            continue
        low, high = wilson(int(truth[rows].sum()), len(rows))
        points.append({"predicted": float(score[rows].mean()),
                       "observed": float(truth[rows].mean()), "low": low, "high": high,
                       "count": len(rows)})
    return points


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's (1927) 95% interval of a share."""
    z = float(ndtri(1 - TAIL))
    share = successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * math.sqrt(
        share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))
