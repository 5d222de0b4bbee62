"""How well found values agree with annotated ones, for every draw of patients at once.

All functions take found and annotated values `(patients,)` and counts `(patients, draws)`, how
often each patient is taken, and give one number a draw `(draws,)`; NaN = undefined.

References:
    McGraw and Wong (1996), Forming inferences about some intraclass correlation coefficients,
    Psychological Methods 1:30-46: ICC(A,1).
    Cohen (1968), Weighted kappa, Psychological Bulletin 70:213-220.
    Bland and Altman (1986), Statistical methods for assessing agreement between two methods of
    clinical measurement, Lancet 327:307-310.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPREAD = 1.96
"""Standard deviations from the mean difference to a limit of agreement."""


def root_mean_square_error(found: NDArray, annotated: NDArray, counts: NDArray) -> NDArray:
    """√ of the mean squared difference, in the unit of the values."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.square(found - annotated) @ counts / counts.sum(axis=0))


def bias(found: NDArray, annotated: NDArray, counts: NDArray) -> NDArray:
    """Mean of found − annotated."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (found - annotated) @ counts / counts.sum(axis=0)


def limits_of_agreement(
    found: NDArray, annotated: NDArray, counts: NDArray
) -> tuple[NDArray, NDArray]:
    """Mean difference ∓ 1.96 standard deviations of the differences (n − 1)."""
    number, difference = counts.sum(axis=0), found - annotated
    middle = bias(found, annotated, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.square(difference) @ counts - number * np.square(middle)
        spread = SPREAD * np.sqrt(np.maximum(squares, 0) / np.where(number > 1, number - 1, np.nan))
    return middle - spread, middle + spread


def intraclass_correlation(found: NDArray, annotated: NDArray, counts: NDArray) -> NDArray:
    """ICC(A,1): absolute agreement of single measurements, two-way."""
    number = counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = found @ counts / number, annotated @ counts / number
        whole = (first + second) / 2
        rows = 2 * (np.square((found + annotated) / 2) @ counts - number * np.square(whole))
        columns = number * (np.square(first - whole) + np.square(second - whole))
        total = ((np.square(found) + np.square(annotated)) @ counts
                 - 2 * number * np.square(whole))
        freedom = np.where(number > 1, number - 1, np.nan)
        between, error = rows / freedom, np.maximum(total - rows - columns, 0) / freedom
        bottom = between + error + 2 * (columns - error) / number
        return np.where(bottom > 1e-12, (between - error) / bottom, np.nan)


def weighted_kappa(
    found: NDArray, annotated: NDArray, counts: NDArray, classes: int
) -> NDArray:
    """Cohen's κ of classes 0 … classes − 1, disagreement weighted by its square."""
    one, other = np.eye(classes)[found], np.eye(classes)[annotated]
    observed = np.einsum("pi,pj->pij", one, other).reshape(len(found), -1).T @ counts
    weights = np.square(np.subtract.outer(np.arange(classes), np.arange(classes))).reshape(-1)
    expected = np.einsum("id,jd->ijd", one.T @ counts, other.T @ counts).reshape(
        classes**2, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        bottom = weights @ expected / counts.sum(axis=0)
        return np.where(bottom > 0, 1 - weights @ observed / bottom, np.nan)


def same_class(found: NDArray, annotated: NDArray, counts: NDArray) -> NDArray:
    """Share of patients whose class is right."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (found == annotated).astype(float) @ counts / counts.sum(axis=0)
