"""What a network forgets as it is compressed harder, class by class, over several seeds.

    metrics = SweepMetrics("L1", levels, seeds, classes, {"AP": array, …})
    change = relative_change(metrics.values["AP"])           # (seeds, levels, classes)
    curves = forgettability_curves(change)                   # median and interval over seeds
    first_drop(curves.median, levels, drop=0.2)              # a level or None for each class
    first_significant_drop(metrics.values["AP"], levels)     # Welch's test, Holm's correction
    forgettability_distance(curves.median)                   # FCD (classes, classes)

Definitions after Holste et al., "How does pruning impact long-tailed multi-label medical image
classifiers?" (2023). The relative change is Δ = (m − m₀) / m₀ of the same seed; the
forgettability curve of a class is the median of Δ over seeds at each level; its final impact the
last value; FCD the Euclidean distance of two curves.

The relative change of average precision has a floor that depends on frequency: a class of half of
the images cannot fall below 0.5, a rare one can fall to nearly 0. So rare classes lose more by this
measure even where all classes lose all that was learnt. `AP_excess`, average precision less what
chance gives (`ranking.chance_average_precision`) and at least 0, has the same floor, −100%, for
every class.

`paper_compat` adds their 10⁻¹² to the
denominator, where otherwise a change from 0 is undefined, and takes their co-occurrence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation.comparison import holm
from cxcompress.evaluation.estimates import ALPHA
from cxcompress.evaluation.seed_intervals import median_interval, welch_p

PAPER_EPSILON = 1e-12
DROP = 0.2
"""Relative loss that counts as a drop."""


@dataclass(frozen=True)
class SweepMetrics:
    """Metrics of one series of treatments over seeds.

    Args:
        series: Its name, e.g. `"L1"`.
        levels: From the mildest to the hardest, without the original.
        seeds: The s seeds.
        classes: The c class names.
        values: By metric: float64 `(s, 1 + levels, c)`, the original first; NaN = undefined.
        bytes: float64 `(1 + levels,)`: median size of the treated network.
    """

    series: str
    levels: tuple[float, ...]
    seeds: tuple[int, ...]
    classes: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]
    bytes: NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """Medians over seeds with their intervals.

    Args:
        median, low, high: `(levels, …)`; low and high NaN with one seed.
        confidence: Of the intervals: at least 0.95 from 6 seeds on, less below.
    """

    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: float


def relative_change(
    values: NDArray, *, paper_compat: bool = False
) -> NDArray[np.float64]:
    """Δ = (m − m₀) / m₀ against the same seed's original.

    Args:
        values: `(seeds, 1 + levels, …)`, the original first.
        paper_compat: Divide by m₀ + 10⁻¹², so that 0 to 0 is no change instead of undefined.

    Returns:
        `(seeds, levels, …)`; NaN where the original is not above 0 or undefined.
    """
    original = values[:, :1]
    with np.errstate(invalid="ignore"):
        base = original + PAPER_EPSILON if paper_compat else np.where(original > 0, original,
                                                                      np.nan)
    return (values[:, 1:] - original) / base


def forgettability_curves(change: NDArray) -> Curves:
    """Median over seeds of the relative change, at each level (and of each class).

    Args:
        change: `(seeds, levels, …)`.
    """
    return Curves(*median_interval(change))


def first_drop(
    curves: NDArray, levels: Sequence[float], drop: float = DROP
) -> list[float | None]:
    """The mildest level at which each class has lost more than `drop`; None where none does.

    Args:
        curves: `(levels, classes)` relative changes.
        levels: From the mildest to the hardest.
        drop: Relative loss, e.g. 0.2.
    """
    with np.errstate(invalid="ignore"):
        below = np.asarray(curves) < -drop
    return [levels[int(np.argmax(column))] if column.any() else None for column in below.T]


@dataclass(frozen=True)
class SignificantDrop:
    """Whether a metric fell, level by level.

    Args:
        first: The mildest level at which it is lower with corrected p < 0.05, or None; one a
            class.
        p: `(levels, classes)`, corrected; NaN with one seed.
    """

    first: list[float | None]
    p: NDArray[np.float64]


def first_significant_drop(values: NDArray, levels: Sequence[float]) -> SignificantDrop:
    """Where each class first differs from the original by Welch's test, corrected by Holm.

    Args:
        values: `(seeds, 1 + levels, classes)`, the original first. For the mean over classes give
            one column.
        levels: From the mildest to the hardest.

    The correction counts all levels of all classes given.
    """
    original, treated = values[:, :1], values[:, 1:]
    p = welch_p(treated, np.broadcast_to(original, treated.shape))
    corrected = np.reshape(holm(p.ravel().tolist()), p.shape)
    with np.errstate(invalid="ignore"):
        fell = (corrected < ALPHA) & (treated.mean(axis=0) < original.mean(axis=0))
    return SignificantDrop(
        [levels[int(np.argmax(column))] if column.any() else None for column in fell.T],
        corrected)


def mean_over_classes(values: NDArray) -> NDArray[np.float64]:
    """Mean over the classes that are defined throughout: `(…, classes)` to `(…)`."""
    defined = ~np.isnan(values).any(axis=tuple(range(values.ndim - 1)))
    if not defined.any():
        return np.full(values.shape[:-1], np.nan)
    return values[..., defined].mean(axis=-1)


def forgettability_distance(curves: NDArray) -> NDArray[np.float64]:
    """FCD: Euclidean distances of the classes' curves.

    Args:
        curves: `(levels, classes)`.

    Returns:
        Symmetric `(classes, classes)`; NaN where a curve is undefined at some level.
    """
    difference = curves[:, :, None] - curves[:, None, :]
    return np.sqrt((difference**2).sum(axis=0))


def cooccurrence(truth: NDArray) -> NDArray[np.int64]:
    """Images that have both findings `(c, c)`; the diagonal counts each. Unknown counts as no.

    Args:
        truth: `(n, c)` in {0, 1, NaN}.
    """
    known = np.nan_to_num(np.asarray(truth, np.float64))
    return np.rint(known.T @ known).astype(np.int64)


def frequencies(counts: NDArray, *, paper_compat: bool = False) -> NDArray[np.float64]:
    """How many images have each finding `(c,)`.

    Args:
        counts: `cooccurrence`.
        paper_compat: Its column sums, which count an image once for each of its findings.
    """
    return np.asarray(counts.sum(axis=0) if paper_compat else np.diag(counts), np.float64)


def overlap(counts: NDArray, *, paper_compat: bool = False) -> NDArray[np.float64]:
    """Intersection over union of the images of two findings (Jaccard), `(c, c)`.

    Args:
        counts: `cooccurrence`.
        paper_compat: With column sums in place of counts, which makes it smaller.
    """
    n = frequencies(counts, paper_compat=paper_compat)
    union = n[:, None] + n[None, :] - counts
    return np.divide(counts, union, out=np.full(union.shape, np.nan), where=union > 0)


def log_frequency_difference(n: NDArray) -> NDArray[np.float64]:
    """|log nₐ − log n_b| `(c, c)`, natural; NaN for findings that no image has."""
    with np.errstate(divide="ignore"):
        logarithm = np.where(n > 0, np.log(n), np.nan)
    return np.abs(logarithm[:, None] - logarithm[None, :])


def frequency_groups(
    n: NDArray, cuts: tuple[float, float] | None = None
) -> dict[str, NDArray[np.intp]]:
    """Head, medium and tail: positions of the classes in each.

    Args:
        n: Training images of each class `(c,)`.
        cuts: Head has more than the first, tail fewer than the second (CXR-LT: 1000, 100).
            None: thirds of the classes, by frequency.
    """
    if cuts is None:
        parts = np.array_split(np.argsort(-n, kind="stable"), 3)
        return dict(zip(("head", "medium", "tail"), (np.sort(part) for part in parts),
                        strict=True))
    head, tail = cuts
    return {"head": np.flatnonzero(n > head),
            "medium": np.flatnonzero((n <= head) & (n >= tail)),
            "tail": np.flatnonzero(n < tail)}


def at_bytes(curves: NDArray, sizes: NDArray, wanted: float) -> NDArray[np.float64] | None:
    """Curves at a size between two levels, linear in log bytes.

    Args:
        curves: `(1 + levels, …)`, the original (all 0) first.
        sizes: Bytes `(1 + levels,)`.
        wanted: Bytes.

    Returns:
        `(…)`; None outside the sizes measured.
    """
    order = np.argsort(sizes, kind="stable")
    ordered = np.log(np.asarray(sizes, np.float64)[order])
    place = np.log(wanted)
    if not ordered[0] - 1e-12 <= place <= ordered[-1] + 1e-12:
        return None
    above = int(np.clip(np.searchsorted(ordered, place), 1, len(order) - 1))
    low, high = order[above - 1], order[above]
    span = ordered[above] - ordered[above - 1]
    share = 0.0 if span == 0 else np.clip((place - ordered[above - 1]) / span, 0, 1)
    return (1 - share) * curves[low] + share * curves[high]
