"""Metrics of a record, each with its value and 95% interval.

    estimates = evaluate(predictions, thresholds=card.thresholds)
    estimates["auroc:Effusion"].low

Keys: `accuracy`, `balanced_accuracy`, `auroc_macro`, `average_precision_macro`, `cross_entropy`,
`calibration_error`, then `auroc:<class>` and `average_precision:<class>` for each class.

| metric | multiclass | multilabel |
|---|---|---|
| accuracy | images whose most probable class is true | of all known labels, those decided rightly |
| balanced accuracy | mean recall of the classes present | mean of (sensitivity + specificity) / 2 |
| AUROC, average precision | each class against the rest; mean | each class; mean |
| cross-entropy | log loss, nats | mean binary cross-entropy of the known labels, nats |
| calibration error | of the most probable class | mean over classes of each probability's |

AUROC has its own intervals (`auroc.py`); all others come from draws of patients (`bootstrap.py`).
A share whose draws all agree on 100% or 0% gets an exact binomial interval over patients instead,
since 46 right of 46 does not prove 100%. `method` says which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxcompress.evaluation.auroc import ENOUGH_FOR_VARIANCE, auroc_estimates
from cxcompress.evaluation.bootstrap import (
    Compute,
    PatientDraws,
    percentile_interval,
)
from cxcompress.evaluation.estimates import Estimate, all_successes_low, reservations
from cxcompress.evaluation.records import ReadyRecord
from cxcompress.tasks.cell_matches import CellMatches
from cxcompress.tasks.predictions import Predictions

CALIBRATION_BINS = 15
"""Equal-width bins of probability for the calibration error (Guo et al. 2017)."""

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are clipped to [this, 1 - this] before the logarithm, as Keras does."""


@dataclass(frozen=True)
class Statistic:
    """One or more values as a function of how often each patient is taken.

    Args:
        names: Keys of the q values.
        compute: Counts `(patients, draws)` to values `(q, draws)`, NaN = undefined.
        n, positives: Images and positive labels behind each value.
        trials: For each value that is a mean of shares, the patients behind each share, for the
            exact interval at 100% and 0%; empty for anything else.
        independent: Whether no patient counts for two of these shares.
        note: Added to every value's `method`.
    """

    names: tuple[str, ...]
    compute: Compute
    n: tuple[int, ...]
    positives: tuple[int, ...]
    trials: tuple[tuple[int, ...], ...]
    independent: bool = False
    note: str = ""


def evaluate(
    predictions: Predictions | CellMatches,
    *,
    thresholds: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every metric of a record with its 95% interval.

    Args:
        predictions: The record of n images and c classes; NaN truth is left out. A record of
            nuclei has the metrics of `cell_metrics.py`.
        thresholds: Multilabel: one a class, default 0.5. Multiclass: None. Nuclei: not used, since
            the record holds cells found.
        resamples: Draws of patients.
        seed: Of those draws.

    Returns:
        Estimates by key, see the module's docstring. What the images cannot tell (the AUROC of a
        class without positives) is NaN, and its `method` says why.

    Raises:
        ValueError: If the record cannot be used (`ReadyRecord.of`).
    """
    if isinstance(predictions, CellMatches):
        from cxcompress.evaluation.cell_metrics import evaluate_cells

        return evaluate_cells(predictions, resamples=resamples, seed=seed)
    record = ReadyRecord.of(predictions, thresholds)
    estimates = auroc_estimates(record)
    draws = PatientDraws(record.patients, resamples, seed)
    for statistic in statistics(record):
        estimates |= estimate(statistic, record, draws)
    first = ("accuracy", "balanced_accuracy", "auroc_macro", "average_precision_macro",
             "cross_entropy", "calibration_error")
    return {key: estimates[key] for key in first} | estimates


def statistics(record: ReadyRecord) -> tuple[Statistic, ...]:
    """The metrics of `evaluate` that are bootstrapped, as statistics of one record."""
    return (accuracy(record), balanced_accuracy(record), average_precision(record),
            cross_entropy(record), calibration_error(record))


def values(statistic: Statistic, record: ReadyRecord) -> NDArray[np.float64]:
    """The plain values `(q,)`: every patient taken once."""
    return statistic.compute(np.ones((record.patients, 1)))[:, 0]


def estimate(
    statistic: Statistic, record: ReadyRecord, draws: PatientDraws
) -> dict[str, Estimate]:
    """The statistic's values with intervals from `draws`."""
    drawn = draws.apply(statistic.compute)
    estimates = {}
    for row, (name, value) in enumerate(
        zip(statistic.names, values(statistic, record), strict=True)
    ):
        low, high, method = interval(
            float(value), drawn[row], statistic.trials[row], statistic.independent,
            record.patients,
        )
        estimates[name] = Estimate(
            float(value), low, high, statistic.n[row], statistic.positives[row],
            record.patients, method + statistic.note,
        )
    return estimates


def interval(
    value: float, drawn: NDArray, trials: tuple[int, ...], independent: bool, patients: int
) -> tuple[float, float, str]:
    """Low, high and method of one bootstrapped value.

    Args:
        value: The plain value.
        drawn: Its value in each draw `(resamples,)`.
        trials: See `Statistic`.
        independent: See `Statistic`.
        patients: Patients that were drawn from.
    """
    if math.isnan(value):
        return math.nan, math.nan, "undefined on these images"
    if patients < 2:
        return math.nan, math.nan, "interval undefined: one patient"
    found = percentile_interval(drawn)
    if math.isnan(found.low):
        return (math.nan, math.nan, f"interval undefined: {found.dropped} of {len(drawn)} draws "
                                    "of patients lack a class")
    if found.constant and trials and value in (0.0, 1.0):
        edge = all_successes_low(trials, independent=independent)
        method = f"exact binomial on patients (all draws give {value:.0%})"
        method += reservations(patients)
        return (edge, 1.0, method) if value == 1 else (0.0, 1 - edge, method)
    method = f"bootstrap of {patients} patients, {len(drawn)} draws"
    if found.dropped:
        method += f", {found.dropped} undefined ones dropped"
    if found.constant:
        method += ", all the same"
    return min(found.low, value), max(found.high, value), method + reservations(patients)


def accuracy(record: ReadyRecord) -> Statistic:
    """Share of right decisions: of images (multiclass) or of known labels (multilabel)."""
    right = (record.decision == record.truth) & record.known
    if record.task == "multiclass":
        right, known = right.all(axis=1), record.known[:, 0]
    else:
        right, known = right.sum(axis=1), record.known.sum(axis=1)
    sums = record.patient_sums(np.stack([right, known], axis=1))
    note = "; of all known labels" if record.task == "multilabel" else ""

    def compute(counts):
        return quotient(*(sums @ counts))[None]

    return Statistic(("accuracy",), compute, (len(record.score),), (int(record.truth.sum()),),
                     ((record.patients,),), note=note)


def balanced_accuracy(record: ReadyRecord) -> Statistic:
    """Mean recall of the classes (multiclass) or of (sensitivity + specificity) / 2 (multilabel).

    Classes without a positive image (multilabel: or without a negative one) are left out.
    """
    positive_patients = record.positive_patients
    trials: tuple[int, ...]
    if record.task == "multiclass":
        used = np.flatnonzero(positive_patients)
        of = record.truth[:, used]
        right = of & record.decision[:, used]
        trials = tuple(map(int, positive_patients[used]))
    else:
        negative_patients = record.negative_patients
        used = np.flatnonzero((positive_patients > 0) & (negative_patients > 0))
        truth, known = record.truth[:, used], record.known[:, used]
        of = np.concatenate([truth, known & ~truth], axis=1)
        decision = record.decision[:, used]
        right = of & np.concatenate([decision, ~decision], axis=1)
        trials = (*map(int, positive_patients[used]), *map(int, negative_patients[used]))
    right_sums, of_sums = record.patient_sums(right), record.patient_sums(of)
    count = len(record.classes)
    note = f"; mean of {len(used)} of {count} classes" if len(used) < count else ""

    def compute(counts):
        if not len(used):
            return np.full((1, counts.shape[1]), np.nan)
        return quotient(right_sums @ counts, of_sums @ counts).mean(axis=0, keepdims=True)

    return Statistic(("balanced_accuracy",), compute, (len(record.score),),
                     (int(record.truth.sum()),), (trials,),
                     independent=record.task == "multiclass", note=note)


def average_precision(record: ReadyRecord) -> Statistic:
    """Average precision of each class, and their mean.

    Mean over the positives of the precision at each one's score, equal scores taken together (as
    scikit-learn does). The mean is over the classes with at least two positive and two negative
    patients, as for AUROC. At a perfect ranking the exact interval bounds the share of positives
    that a negative outranks.
    """
    curves = [_precision_curve(record, column) for column in range(len(record.classes))]
    positive_patients = record.positive_patients
    used = np.flatnonzero(np.minimum(positive_patients, record.negative_patients)
                          >= ENOUGH_FOR_VARIANCE)

    def compute(counts):
        each = np.stack([curve(counts) for curve in curves])
        if not len(used):
            return np.concatenate([np.full((1, counts.shape[1]), np.nan), each])
        return np.concatenate([each[used].mean(axis=0, keepdims=True), each])

    positives = tuple(map(int, record.truth.sum(axis=0)))
    trials = tuple((int(count),) if count else () for count in positive_patients)
    return Statistic(
        ("average_precision_macro", *(f"average_precision:{name}" for name in record.classes)),
        compute,
        (len(record.score), *map(int, record.known.sum(axis=0))),
        (sum(positives[column] for column in used), *positives),
        (tuple(int(positive_patients[column]) for column in used), *trials),
    )


def _precision_curve(record: ReadyRecord, column: int) -> Compute:
    """Average precision of one class as a function of counts, `(patients, draws)` to `(draws,)`.

    Precision is only needed where there are positives. So images are cut, from the highest score
    down, into segments that each end with a group of equal scores that holds positives; weights
    of segments are then linear in the counts.
    """
    rows = np.flatnonzero(record.known[:, column])
    score = record.score[rows, column]
    order = rows[np.argsort(-score, kind="stable")]
    truth = record.truth[order, column]
    group = np.unique(-record.score[order, column], return_inverse=True)[1].reshape(-1)
    ends = np.unique(group[truth])
    segment = np.searchsorted(ends, group)
    patient = record.patient[order]
    reached = segment < len(ends)
    shape = (len(ends), record.patients)

    def weights(chosen):
        ones = np.ones(int(chosen.sum()))
        return sparse.csr_array((ones, (segment[chosen], patient[chosen])), shape=shape)

    everything, positives = weights(reached), weights(truth)

    def compute(counts):
        if not len(ends):
            return np.full(counts.shape[1], np.nan)
        hits = positives @ counts
        found = np.cumsum(hits, axis=0)
        hits *= found
        shown = np.cumsum(everything @ counts, axis=0)
        np.maximum(shown, 1, out=shown)      # nothing shown: hits is 0 there too
        hits /= shown
        return quotient(hits.sum(axis=0), found[-1])

    return compute


def cross_entropy(record: ReadyRecord) -> Statistic:
    """Log loss (multiclass) or mean binary cross-entropy of the known labels, in nats."""
    score = record.score.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if record.task == "multiclass":
        known = record.known[:, 0].astype(float)
        loss = -(np.log(score) * record.truth).sum(axis=1)
    else:
        known = record.known.sum(axis=1)
        each = np.where(record.truth, np.log(score), np.log1p(-score))
        loss = -(each * record.known).sum(axis=1)
    sums = record.patient_sums(np.stack([loss, known], axis=1))

    def compute(counts):
        return quotient(*(sums @ counts))[None]

    return Statistic(("cross_entropy",), compute, (len(record.score),),
                     (int(record.truth.sum()),), ((),))


def calibration_error(record: ReadyRecord) -> Statistic:
    """Expected calibration error: mean over bins of |mean probability − share that is true|.

    15 equal-width bins weighted by images (Guo et al. 2017): of the largest probability
    (multiclass), or of each class's probability with the mean over classes (multilabel). With
    few images in a bin it is too large, for a perfectly calibrated model too.
    """
    if record.task == "multiclass":
        score = record.score.max(axis=1, keepdims=True)
        right = (record.truth & record.decision).any(axis=1, keepdims=True)
        known = np.ones(score.shape, bool)
    else:
        score, right, known = record.score, record.truth, record.known
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1).clip(0)
    image, column = np.nonzero(known)
    shape = (score.shape[1] * CALIBRATION_BINS, record.patients)
    cell = column * CALIBRATION_BINS + bins[image, column]
    patient = record.patient[image]
    gaps = sparse.csr_array(((score - right)[image, column], (cell, patient)), shape=shape)
    sizes = record.patient_sums(known)
    has = sizes.sum(axis=1) > 0

    def compute(counts):
        gap = np.abs(gaps @ counts).reshape(-1, CALIBRATION_BINS, counts.shape[1]).sum(axis=1)
        return quotient(gap[has], sizes[has] @ counts).mean(axis=0, keepdims=True)

    return Statistic(("calibration_error",), compute, (len(record.score),),
                     (int(record.truth.sum()),), ((),))


def quotient(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    """Quotient with NaN where the denominator is 0."""
    return np.divide(numerator, denominator, where=denominator > 0,
                     out=np.full(np.shape(numerator), np.nan))
