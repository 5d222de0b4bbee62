"""The area under the ROC curve, its variance, and the variance of a difference.

    parts = auroc_parts(truth, score, patient, patients)     # one class of one model
    parts.value, parts.variance_and_freedom()
    (compressed_parts - original_parts).variance_and_freedom()    # the paired difference

DeLong et al. (1988) write an AUROC as a mean of placements, one for each positive and one for
each negative image, so its variance is that of two means, and a paired difference is a difference
of placements. Obuchowski (1997) sums the placements over each patient's images first. With one
image a patient the two agree exactly, so there is only one code. Placements come from midranks in
O(n log n) (Sun and Xu 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from cxcompress.evaluation.estimates import (
    TAIL,
    Estimate,
    all_successes_low,
    reservations,
)
from cxcompress.evaluation.records import ReadyRecord

ENOUGH_FOR_VARIANCE = 2
"""Positive and negative patients that a variance needs at least."""


def midranks(values: NDArray) -> NDArray[np.float64]:
    """Ranks 1 … n of `values` `(n,)`, equal values sharing the mean of theirs."""
    _, position, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[position.reshape(-1)]


@dataclass(frozen=True)
class AurocParts:
    """An AUROC (or a difference of two on the same images) split by patient.

    Args:
        value: The AUROC, or the difference.
        of_positives: float64 `(patients,)`: sums over each patient's positive images of
            placement − value.
        of_negatives: The same over negative images.
        positives, negatives: Images.
        positive_patients, negative_patients: Patients with at least one such image.
        patients: Patients with either.
    """

    value: float
    of_positives: NDArray[np.float64]
    of_negatives: NDArray[np.float64]
    positives: int
    negatives: int
    positive_patients: int
    negative_patients: int
    patients: int

    def __sub__(self, other: AurocParts) -> AurocParts:
        """The paired difference; both must come from the same images."""
        return AurocParts(
            self.value - other.value, self.of_positives - other.of_positives,
            self.of_negatives - other.of_negatives, self.positives, self.negatives,
            self.positive_patients, self.negative_patients, self.patients,
        )

    @property
    def estimable(self) -> bool:
        """Whether there are patients enough for a variance."""
        return min(self.positive_patients, self.negative_patients) >= ENOUGH_FOR_VARIANCE

    @property
    def disjoint_pairs(self) -> int:
        """Most pairs of a positive and a negative image with no patient in two pairs."""
        return min(self.positive_patients, self.negative_patients, self.patients // 2)

    def variance_and_freedom(self) -> tuple[float, float]:
        """Variance (Obuchowski 1997) and degrees of freedom (Welch–Satterthwaite).

        Both NaN with fewer than two positive or two negative patients.
        """
        if not self.estimable:
            return math.nan, math.nan
        k10, k01, k = self.positive_patients, self.negative_patients, self.patients
        scaled_positives = self.of_positives / self.positives
        scaled_negatives = self.of_negatives / self.negatives
        from_positives = k10 / (k10 - 1) * (scaled_positives @ scaled_positives)
        from_negatives = k01 / (k01 - 1) * (scaled_negatives @ scaled_negatives)
        shared = k / (k - 1) * (scaled_positives @ scaled_negatives)
        variance = max(0.0, float(from_positives + from_negatives + 2 * shared))
        spread = from_positives**2 / (k10 - 1) + from_negatives**2 / (k01 - 1)
        freedom = (from_positives + from_negatives) ** 2 / spread if spread > 0 else k - 1
        return variance, float(freedom)

    def influence(self) -> NDArray[np.float64]:
        """Each patient's part in the value's deviation `(patients,)`: its sum of squares is the
        variance, exactly so with one image a patient."""
        k10, k01 = self.positive_patients, self.negative_patients
        return (math.sqrt(k10 / (k10 - 1)) / self.positives * self.of_positives
                + math.sqrt(k01 / (k01 - 1)) / self.negatives * self.of_negatives)


def auroc_parts(
    truth: NDArray[np.bool_], score: NDArray, patient: NDArray, patients: int
) -> AurocParts:
    """The AUROC of `score` against `truth`, ties counting one half, split by patient.

    Args:
        truth: bool `(n,)`.
        score: float `(n,)`, higher means more likely positive.
        patient: int `(n,)`, 0 … patients − 1.
        patients: Length of the per-patient vectors.

    Returns:
        `AurocParts`; the value is NaN without a positive or without a negative image.
    """
    positive_of, negative_of = patient[truth], patient[~truth]
    positives, negatives = len(positive_of), len(negative_of)
    counts = (positives, negatives, len(np.unique(positive_of)), len(np.unique(negative_of)),
              len(np.unique(patient)))
    if not positives or not negatives:
        return AurocParts(math.nan, np.zeros(patients), np.zeros(patients), *counts)
    together = midranks(score)
    of_positives = (together[truth] - midranks(score[truth])) / negatives
    of_negatives = 1 - (together[~truth] - midranks(score[~truth])) / positives
    # The rank sum is a whole number of halves, so this value is exact, as the means are not.
    value = (together[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return AurocParts(
        float(value),
        np.bincount(positive_of, of_positives - value, patients).astype(np.float64),
        np.bincount(negative_of, of_negatives - value, patients).astype(np.float64),
        *counts,
    )


def auroc_parts_by_class(record: ReadyRecord) -> list[AurocParts]:
    """`auroc_parts` of each class against the rest, over the images where it is known."""
    parts = []
    for column in range(len(record.classes)):
        rows = record.known[:, column]
        parts.append(auroc_parts(record.truth[rows, column], record.score[rows, column],
                                 record.patient[rows], record.patients))
    return parts


def macro_variance_and_freedom(parts: Sequence[AurocParts]) -> tuple[float, float]:
    """Variance and degrees of freedom of the mean of several classes' AUROCs (or differences).

    The classes share images, so their covariances count: each patient's influences are averaged
    over the classes before they are squared, which is DeLong's covariance matrix summed up. The
    degrees of freedom are the fewest that the classes' own allow (their variances taken as fully
    dependent).

    Args:
        parts: The classes, each `estimable`, over the same patients.
    """
    mean_influence = np.mean([part.influence() for part in parts], axis=0)
    own = [part.variance_and_freedom() for part in parts]
    total = sum(variance for variance, _ in own)
    spread = sum(variance / math.sqrt(freedom) for variance, freedom in own)
    freedom = (total / spread) ** 2 if spread > 0 else own[0][1]
    return float(mean_influence @ mean_influence), float(freedom)


def distinct_rankings(record: ReadyRecord) -> int:
    """Classes whose AUROCs can differ: both classes of a two-class problem rank the same."""
    if record.task == "multiclass" and len(record.classes) == 2:
        return 1
    return len(record.classes)


def auroc_estimates(record: ReadyRecord) -> dict[str, Estimate]:
    """AUROC of each class (`"auroc:<class>"`) and their mean (`"auroc_macro"`) with intervals.

    Intervals are DeLong's on the logit scale (Pepe 2003), with Student's t, and so
    stay inside (0, 1). Where every positive outranks every negative the variance is 0 and says
    nothing: disjoint pairs of a positive and a negative patient are then independent trials that
    all succeeded, and the interval is the exact binomial one for them. The mean is taken over
    classes with at least two positive and two negative patients.
    """
    all_parts = auroc_parts_by_class(record)
    estimates = {}
    for name, part in zip(record.classes, all_parts, strict=True):
        low, high, method = auroc_interval(part.value, *part.variance_and_freedom(), [part], 1)
        if math.isnan(part.value):
            missing = "positive" if not part.positives else "negative"
            method = f"undefined: no {missing} image"
        elif not part.estimable:
            method = "interval undefined: fewer than 2 positive or 2 negative patients"
        if part.patients > 0 and not math.isnan(low):
            method += _clustering(part) + reservations(part.patients)
        estimates[f"auroc:{name}"] = Estimate(
            part.value, low, high, part.positives + part.negatives, part.positives,
            part.patients, method,
        )
    return {"auroc_macro": mean_auroc(record, record.classes, all_parts)} | estimates


def mean_auroc(
    record: ReadyRecord, names: Sequence[str], all_parts: Sequence[AurocParts]
) -> Estimate:
    """The mean AUROC of some classes, with its interval.

    Args:
        record: That the parts are of.
        names: Of these classes.
        all_parts: Theirs; those that are not `estimable` are left out, and named.
    """
    used = [part for part in all_parts if part.estimable]
    n = len(record.score)
    positives = sum(part.positives for part in used)
    if not used:
        return Estimate(math.nan, math.nan, math.nan, n, positives, record.patients,
                        "undefined: no class has 2 positive and 2 negative patients")
    value = float(np.mean([part.value for part in used]))
    rankings = min(len(used), distinct_rankings(record))
    low, high, method = auroc_interval(
        value, *macro_variance_and_freedom(used), used[:rankings], rankings)
    method += _clustering(max(used, key=lambda part: part.patients))
    method += left_out(names, all_parts) + reservations(record.patients)
    return Estimate(value, low, high, n, positives, record.patients, method)


def left_out(classes: Sequence[str], parts: Sequence[AurocParts]) -> str:
    """Says which classes a mean leaves out for want of patients; empty if none."""
    names = [name for name, part in zip(classes, parts, strict=True) if not part.estimable]
    if not names:
        return ""
    return (f"; mean of {len(classes) - len(names)} of {len(classes)} classes, without "
            f"{', '.join(names)} (fewer than 2 positive or 2 negative patients)")


def t_interval(value: float, variance: float, freedom: float) -> tuple[float, float]:
    """`value` ± Student's t × standard error."""
    reach = float(stdtrit(freedom, 1 - TAIL)) * math.sqrt(variance)
    return value - reach, value + reach


def t_test(difference: float, variance: float, freedom: float) -> float:
    """Two-sided p-value of `difference` against 0."""
    if math.isnan(variance):
        return math.nan
    if variance == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(difference) / math.sqrt(variance)))


def _clustering(part: AurocParts) -> str:
    if part.positives + part.negatives > part.patients:
        return ", clustered by patient (Obuchowski)"
    return ""


def auroc_interval(
    value: float, variance: float, freedom: float, parts: Sequence[AurocParts], classes: int
) -> tuple[float, float, str]:
    """Low, high and method of an AUROC or a mean of AUROCs."""
    if math.isnan(value) or math.isnan(variance):
        return math.nan, math.nan, ""
    if value in (0.0, 1.0):
        pairs = tuple(part.disjoint_pairs for part in parts)
        edge = all_successes_low(pairs)
        method = f"exact binomial on {min(pairs)} disjoint pairs of patients (perfect ranking)"
        if classes > 1:
            method = f"exact binomial on disjoint pairs, Bonferroni over {classes} classes"
        return (edge, 1.0, method) if value == 1 else (0.0, 1 - edge, method)
    if variance == 0:
        return value, value, "DeLong (all placements equal: constant scores)"
    scale = value * (1 - value)
    low, high = t_interval(math.log(value / (1 - value)), variance / scale**2, freedom)
    return (1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high)),
            f"DeLong, logit scale, t with {freedom:.1f} degrees of freedom")
