"""A number with its 95% interval, and the exact bounds for when nothing went wrong in a sample.

    Estimate(0.91, 0.88, 0.94, n=624, positives=390, patients=624, method="DeLong")
    all_successes_low((46,))         # 0.923: 46 of 46 right still allows 7.7% wrong
    lost_positives_bound(100)        # 0.0295: the rule of three
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

ALPHA = 0.05
TAIL = ALPHA / 2
FEW_PATIENTS = 30
"""Intervals from fewer patients than this are flagged in their `method`."""


@dataclass(frozen=True)
class Estimate:
    """A value and its two-sided 95% interval.

    Args:
        value: The point value; NaN = undefined on these images.
        low, high: The interval; NaN = undefined, `method` says why.
        n: Images (with known truth) that it rests on.
        positives: Positive labels among them.
        patients: Patients among them.
        method: How the interval was made, and every reservation about it.
    """

    value: float
    low: float
    high: float
    n: int
    positives: int
    patients: int
    method: str

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"undefined ({self.method})"
        if math.isnan(self.low):
            return f"{self.value:.3f} (interval undefined)"
        return f"{self.value:.3f} (95% interval {self.low:.3f} to {self.high:.3f})"

    def to_dict(self) -> dict[str, float | int | str | None]:
        """The fields, with None for NaN so that JSON readers take it."""
        return without_nan(asdict(self))


def without_nan(value: Any) -> Any:
    """`value` (nested dicts, lists, numbers) with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def reservations(patients: int) -> str:
    """What `method` must add for this number of patients; empty for enough."""
    if patients < FEW_PATIENTS:
        return f"; fewer than {FEW_PATIENTS} patients: interval unreliable"
    return ""


def all_successes_low(trials: Sequence[int], *, independent: bool = False) -> float:
    """Exact lower end of the 95% interval of a mean of proportions, all of which were 1.

    For one proportion it is Clopper and Pearson's (1934): 0.025^(1/trials). For a mean over
    several, the smallest mean that still gives "no failure at all" a chance of 2.5%, if their
    trials are independent; else each proportion gets its share of the 2.5% (Bonferroni).

    Args:
        trials: Trials of each proportion, all successes; each >= 1.
        independent: Whether no trial counts for two proportions.

    Raises:
        ValueError: If a number of trials is below 1 or there is none.
    """
    counts = np.asarray(trials, dtype=np.float64)
    if not counts.size or counts.min() < 1:
        raise ValueError(f"trials must be at least 1. Received: {tuple(trials)}")
    if not independent:
        return float(np.mean((TAIL / counts.size) ** (1 / counts)))
    # Minimise the mean of p subject to sum(trials * log p) = log(0.025), p <= 1: the Lagrange
    # conditions give p = min(1, multiplier * trials), and the sum rises with the multiplier.
    low, high = 0.0, 1 / counts.min()
    for _ in range(200):
        middle = (low + high) / 2
        proportions = np.minimum(1, middle * counts)
        if middle == 0 or (counts * np.log(proportions)).sum() < math.log(TAIL):
            low = middle
        else:
            high = middle
    return float(np.minimum(1, high * counts).mean())


def lost_positives_bound(patients: int) -> float:
    """Largest share of positives that may be lost where none of `patients` was: 1 − 0.05^(1/n).

    The exact one-sided 95% bound, about 3/n (Hanley and Lippman-Hand 1983, "If nothing goes
    wrong, is everything all right?"). 1 for no patients.
    """
    return 1.0 if patients < 1 else 1 - ALPHA ** (1 / patients)
