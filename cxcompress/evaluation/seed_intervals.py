"""What several seeds say together: medians with intervals, and tests of a difference.

    median, low, high, confidence = median_interval(values)          # over the first axis
    p = welch_p(after, before)                                       # over the first axis

The interval of a median is that of order statistics: it needs no assumption about the seeds'
distribution. With n seeds the range from least to most holds the median with probability
1 − 2^(1 − n), so 95% needs 6 seeds; with fewer the range is given and its confidence said.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import binom

from cxcompress.evaluation.estimates import ALPHA


def order_statistics(n: int) -> tuple[int, float]:
    """Which values from either end bound the median of n, and with what confidence.

    Returns:
        The rank (0 = the extremes) of the shortest symmetric interval that has at least 95%,
        or the extremes where none has; and its confidence. 0 and 0 for n = 1.
    """
    if n < 2:
        return 0, 0.0
    rank = 0
    while rank + 1 < (n + 1) // 2 and 1 - 2 * binom.cdf(rank + 1, n, 0.5) >= 1 - ALPHA:
        rank += 1
    return rank, float(1 - 2 * binom.cdf(rank, n, 0.5))


def median_interval(
    values: NDArray,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Median over the first axis with its interval.

    Args:
        values: `(seeds, …)`; NaN = undefined for that seed, left out.

    Returns:
        Median, low and high `(…)`: NaN where every seed is, low and high also with one seed; and
        the confidence of the intervals where all seeds are defined.
    """
    values = np.asarray(values, np.float64)
    ordered = np.sort(values, axis=0)  # NaN last
    count = (~np.isnan(values)).sum(axis=0)
    total = len(values)
    ranks = np.array([order_statistics(n)[0] for n in range(total + 1)])

    def taken(position):
        inside = np.clip(position, 0, total - 1)
        return np.take_along_axis(ordered, inside[None], axis=0)[0]

    median = (taken((count - 1) // 2) + taken(count // 2)) / 2
    rank = ranks[count]
    low = np.where(count > 1, taken(rank), np.nan)
    high = np.where(count > 1, taken(count - 1 - rank), np.nan)
    nothing = count == 0
    return (np.where(nothing, np.nan, median), low, high, order_statistics(total)[1])


def welch_p(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """Two-sided p-values of Welch's (1947) t-test, over the first axis.

    Args:
        first, second: `(n, …)` and `(m, …)`, no NaN in use.

    Returns:
        `(…)`; NaN with fewer than two values on a side or where one is NaN. Where neither side
        varies: 1 for equal means, 0 for others.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    n, m = len(first), len(second)
    difference = first.mean(axis=0) - second.mean(axis=0)
    if min(n, m) < 2:
        return np.full(np.shape(difference), np.nan)
    of_first, of_second = first.var(axis=0, ddof=1) / n, second.var(axis=0, ddof=1) / m
    variance = of_first + of_second
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(difference) / np.sqrt(variance)
        freedom = variance**2 / (of_first**2 / (n - 1) + of_second**2 / (m - 1))
        p = 2 * stdtr(freedom, -t)
    constant = np.where(difference == 0, 1.0, 0.0)
    return np.where(np.isnan(difference), math.nan, np.where(variance == 0, constant, p))
