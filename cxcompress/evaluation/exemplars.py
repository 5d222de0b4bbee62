"""Images on which a compressed network disagrees with its original: pruning-identified exemplars.

    agreement = rank_agreement(original, compressed)         # Spearman an image (n,)
    chosen = lowest_agreement(agreement.rho, percent=5)      # bool (n,)
    prevalence_ratios(truth, chosen, patient_id)             # of each class, with intervals

After Hooker et al. (2019) and Holste et al. (2023): probabilities are averaged over seeds, each
image's classes are ranked by them, and the exemplars are the images whose ranking before and
after compression correlates least (5% at 90% sparsity). The prevalence ratio of a class is its
share among exemplars over its share among all other images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cxcompress.evaluation.bootstrap import PatientDraws, percentile_interval
from cxcompress.evaluation.estimates import TAIL, Estimate, reservations

MOST_COUNTED = 4
"""Findings an image from which on they are counted together."""

RANKING_BLOCK = 20_000
"""Images ranked at once."""


@dataclass(frozen=True)
class RankAgreement:
    """Spearman's ρ over the classes of each image, before and after compression.

    Args:
        rho: float64 `(n,)` in [−1, 1].
        constant: bool `(n,)`: one of the two says the same of all classes, so that there is no ρ.
            It is then set: 1 where both do (both know nothing), 0 where one does (one lost, or
            found, all order).
    """

    rho: NDArray[np.float64]
    constant: NDArray[np.bool_]


def rank_agreement(original: NDArray, compressed: NDArray) -> RankAgreement:
    """How alike two networks rank the classes of each image.

    Args:
        original, compressed: Scores `(n, c)`, finite; equal ones share the mean of their ranks.

    Raises:
        ValueError: If shapes differ, c is below 3 or a score is not finite.
    """
    if original.shape != compressed.shape or original.ndim != 2 or original.shape[1] < 3:
        raise ValueError("both must have the shape (images, classes) with 3 classes or more. "
                         f"Received: {original.shape} and {compressed.shape}")
    n = len(original)
    rho, constant = np.empty(n), np.zeros(n, bool)
    for start in range(0, n, RANKING_BLOCK):
        rows = slice(start, start + RANKING_BLOCK)
        x, y = np.asarray(original[rows], float), np.asarray(compressed[rows], float)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError("scores must be finite. Received: NaN or infinity")
        x, y = rankdata(x, axis=1), rankdata(y, axis=1)
        x -= x.mean(axis=1, keepdims=True)
        y -= y.mean(axis=1, keepdims=True)
        of_x, of_y = (x * x).sum(axis=1), (y * y).sum(axis=1)
        flat = (of_x == 0) | (of_y == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            rho[rows] = np.clip((x * y).sum(axis=1) / np.sqrt(of_x * of_y), -1, 1)
        rho[rows][flat] = np.where((of_x == 0) & (of_y == 0), 1.0, 0.0)[flat]
        constant[rows] = flat
    return RankAgreement(rho, constant)


@dataclass(frozen=True)
class Exemplars:
    """Which images were chosen.

    Args:
        chosen: bool `(n,)`.
        cutoff: The largest ρ among them.
        tied: Images of exactly that ρ that were not chosen: the order of images decided.
    """

    chosen: NDArray[np.bool_]
    cutoff: float
    tied: int


def lowest_agreement(rho: NDArray, percent: float = 5.0) -> Exemplars:
    """The floor(percent × n / 100) images of the lowest ρ; of equal ones the earlier.

    Raises:
        ValueError: If that is no image, or every one.
    """
    count = math.floor(percent * len(rho) / 100 + 1e-9)
    if not 0 < count < len(rho):
        raise ValueError(f"{percent:g}% of {len(rho)} images are {count}; choose at least one "
                         "and not all")
    order = np.argsort(rho, kind="stable")
    chosen = np.zeros(len(rho), bool)
    chosen[order[:count]] = True
    cutoff = float(rho[order[count - 1]])
    return Exemplars(chosen, cutoff, int(((rho == cutoff) & ~chosen).sum()))


def prevalence_ratios(
    has: NDArray, chosen: NDArray[np.bool_], patient_id: NDArray, *, resamples: int = 1000,
    seed: int = 0,
) -> list[Estimate]:
    """Share among the chosen images over the share among the others, of each property.

    Args:
        has: `(n, q)` in {0, 1}; NaN = unknown, left out of its column.
        chosen: bool `(n,)`.
        patient_id: str `(n,)`; draws take patients with all their images.
        resamples: Draws.
        seed: Of the draws.

    Returns:
        q estimates; `positives` counts the chosen images that have the property. The value is NaN
        where no other image has it. Where no chosen image has it the value is 0, its draws say
        nothing, and the upper end is the exact binomial bound for the share, over the others'.
    """
    names, patient = np.unique(np.asarray(patient_id, str), return_inverse=True)
    patient = patient.reshape(-1)
    has = np.asarray(has, np.float64)
    known = ~np.isnan(has)
    positive = has == 1
    draws = PatientDraws(len(names), resamples, seed)

    def sums(mask):
        table = np.zeros((len(names), mask.shape[1]))
        np.add.at(table, patient, mask)
        return table.T

    parts = [sums(part) for part in (positive & chosen[:, None], known & chosen[:, None],
                                     positive & ~chosen[:, None], known & ~chosen[:, None])]

    def ratio(counts):
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b, c, d = (part @ counts for part in parts)
            value = (a / b) / (c / d)
        return np.where(np.isfinite(value), value, np.nan)

    values = ratio(np.ones((len(names), 1)))[:, 0]
    drawn = draws.apply(ratio)
    estimates = []
    for column, value in enumerate(values):
        among, of = (int(parts[row][column].sum()) for row in (0, 1))
        counts = {"n": int(known[:, column].sum()), "positives": among, "patients": len(names)}
        if math.isnan(value):
            estimates.append(Estimate(value, math.nan, math.nan, **counts,
                                      method="undefined: no other image has it"))
            continue
        if among == 0:
            patients = int((parts[1][column] > 0).sum())
            others = parts[2][column].sum() / parts[3][column].sum()
            bound = 1 - TAIL ** (1 / patients) if of else math.nan
            estimates.append(Estimate(0.0, 0.0, float(bound / others), **counts,
                                      method=f"exact binomial: none of {patients} patients"))
            continue
        found = percentile_interval(drawn[column])
        method = f"bootstrap of {len(names)} patients, {resamples} draws"
        if math.isnan(found.low):
            method = f"interval undefined: {found.dropped} of {resamples} draws lack it"
        estimates.append(Estimate(float(value), found.low, found.high, **counts,
                                  method=method + reservations(len(names))))
    return estimates


def finding_counts(
    truth: NDArray, classes: Sequence[str], leave_out: Sequence[str] = ("No Finding",)
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """How many findings each image has, as columns for `prevalence_ratios`.

    Args:
        truth: `(n, c)` in {0, 1, NaN}; unknown counts as no.
        classes: The c class names.
        leave_out: Names that are no findings, whatever their case.

    Returns:
        Names of the numbers that occur ("0", "1", …, "4+") and a column `(n,)` of each.
    """
    skipped = {name.lower() for name in leave_out}
    columns = [row for row, name in enumerate(classes) if name.lower() not in skipped]
    count = np.nansum(np.asarray(truth, np.float64)[:, columns], axis=1).astype(int)
    count = np.minimum(count, MOST_COUNTED)
    present = np.unique(count)
    names = tuple(f"{number}+" if number == MOST_COUNTED else str(number) for number in present)
    return names, (count[:, None] == present).astype(np.float64)
