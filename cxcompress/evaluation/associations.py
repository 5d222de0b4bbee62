"""Does one property of the classes go with another? Correlations that count classes, not pairs.

    associate(log_frequency, final_impact)              # c classes
    associate_pairs(forgetting_distance, overlap)       # c × c matrices of class pairs

Each gives Pearson's r and Spearman's ρ with a 95% interval and a permutation P. The unit is the
class: intervals come from a bootstrap that draws classes, and permutations exchange classes. For
pairs that is Mantel's (1967) test; treating the 190 pairs of 20 classes as 190 independent
observations would claim far too much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cxcompress.evaluation.bootstrap import PatientDraws, percentile_interval

FEWEST_CLASSES = 3
"""Correlations of fewer classes are not given."""

PERMUTATION_BLOCK = 1000


@dataclass(frozen=True)
class Correlation:
    """A correlation over classes.

    Args:
        value: r or ρ; NaN where one side is constant or there are fewer than 3 classes.
        low, high: 95% percentile interval of a bootstrap that draws classes.
        p: Two-sided permutation P, at least 1 / (permutations + 1).
        classes: Classes that it rests on.
    """

    value: float
    low: float
    high: float
    p: float
    classes: int


@dataclass(frozen=True)
class Association:
    """Pearson's r and Spearman's ρ of the same two properties."""

    pearson: Correlation
    spearman: Correlation

    def to_dict(self) -> dict[str, float]:
        """Flat: `pearson`, `pearson_low`, …, `spearman_p`, `classes`."""
        flat: dict[str, float] = {}
        for name in ("pearson", "spearman"):
            found = getattr(self, name)
            flat |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high,
                     f"{name}_p": found.p}
        return flat | {"classes": self.pearson.classes}


def associate(
    first: NDArray, second: NDArray, *, resamples: int = 1000, permutations: int = 9999,
    seed: int = 0,
) -> Association:
    """Correlations of two properties of c classes.

    Args:
        first, second: `(c,)`; classes with NaN in either are left out.
        resamples: Draws of classes.
        permutations: Of the second property.
        seed: Of both.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    rows = ~(np.isnan(first) | np.isnan(second))
    first, second = first[rows], second[rows]
    c = len(first)

    def permuted(orders):
        return second[orders]

    return _association(first, second, c, lambda counts: counts, permuted,
                        resamples, permutations, seed)


def associate_pairs(
    first: NDArray, second: NDArray, *, resamples: int = 1000, permutations: int = 9999,
    seed: int = 0,
) -> Association:
    """Correlations of two properties of the pairs of c classes.

    Args:
        first, second: Symmetric `(c, c)`; the diagonal does not count. Classes whose row is NaN
            are left out.
        resamples: Draws of classes; a class never pairs with itself.
        permutations: Of the classes of the second matrix.
        seed: Of both.
    """
    first, second = np.array(first, np.float64), np.array(second, np.float64)
    for matrix in (first, second):
        np.fill_diagonal(matrix, np.nan)
    kept = ~(np.isnan(first).all(axis=1) | np.isnan(second).all(axis=1))
    first, second = first[np.ix_(kept, kept)], second[np.ix_(kept, kept)]
    c = len(first)
    a, b = np.triu_indices(c, 1)

    def permuted(orders):
        return second[orders[:, a], orders[:, b]]

    return _association(first[a, b], second[a, b], c, lambda counts: counts[:, a] * counts[:, b],
                        permuted, resamples, permutations, seed)


def _association(first, second, classes: int, weights_of, permuted, resamples: int,
                 permutations: int, seed: int) -> Association:
    if classes < FEWEST_CLASSES:
        nothing = Correlation(math.nan, math.nan, math.nan, math.nan, classes)
        return Association(nothing, nothing)
    counts = np.concatenate(list(PatientDraws(classes, resamples, seed).blocks()), axis=1).T
    weights = weights_of(counts)
    ones = np.ones((1, len(first)))
    random = np.random.default_rng((seed, 1))
    orders = random.permuted(np.tile(np.arange(classes), (permutations, 1)), axis=1)
    found = {}
    for name, ranked in (("pearson", False), ("spearman", True)):
        def correlated(x, y, w, ranked=ranked):
            if ranked:
                x, y = weighted_midranks(x, w), weighted_midranks(y, w)
            return weighted_pearson(x, y, w)

        value = float(correlated(first, second, ones)[0])
        drawn = percentile_interval(correlated(first, second, weights))
        x = rankdata(first) if ranked else first
        exceeding = 0
        for start in range(0, permutations, PERMUTATION_BLOCK):
            y = permuted(orders[start:start + PERMUTATION_BLOCK])
            y = rankdata(y, axis=1) if ranked else y
            with np.errstate(invalid="ignore"):
                exceeding += int((np.abs(weighted_pearson(x, y, ones))
                                  >= abs(value) - 1e-12).sum())
        p = math.nan if math.isnan(value) else (1 + exceeding) / (1 + permutations)
        found[name] = Correlation(value, drawn.low, drawn.high, p, classes)
    return Association(found["pearson"], found["spearman"])


def weighted_midranks(values: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """Ranks of `values` `(m,)` if value j occurred `weights[i, j]` times: `(draws, m)`.

    Equal values share the mean of their ranks.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    group = np.repeat(np.arange(len(starts)), np.diff([*starts, len(values)]))
    sums = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = np.cumsum(sums, axis=1) - sums / 2 + 0.5
    result = np.empty(weights.shape)
    result[:, order] = ranks[:, group]
    return result


def weighted_pearson(x: NDArray, y: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """Pearson's r with observation weights; `(m,)` or `(draws, m)` each, to `(draws,)`.

    NaN where a side does not vary.
    """
    total = weights.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x - (weights * x).sum(axis=-1, keepdims=True) / total
        y = y - (weights * y).sum(axis=-1, keepdims=True) / total
        covariance = (weights * x * y).sum(axis=-1)
        of_x, of_y = (weights * x * x).sum(axis=-1), (weights * y * y).sum(axis=-1)
        r = covariance / np.sqrt(of_x * of_y)
    flat = (of_x <= 1e-24 * total[..., 0]) | (of_y <= 1e-24 * total[..., 0])
    return np.where(flat, np.nan, np.clip(r, -1, 1))
