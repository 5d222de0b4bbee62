"""Decision thresholds, and which decisions changed between the original and the compressed model.

    thresholds = choose_thresholds(validation_predictions)
    changes = audit_decisions(original, compressed, old_thresholds, thresholds)

AUROC does not see probabilities that shifted as a whole; thresholds do. So the audit shows the
compressed model at the original's thresholds and at thresholds chosen again for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation.bootstrap import PatientDraws
from cxcompress.evaluation.estimates import Estimate, without_nan
from cxcompress.evaluation.metrics import Statistic, estimate, quotient
from cxcompress.evaluation.records import ReadyRecord, align
from cxcompress.tasks.multilabel import DEFAULT_THRESHOLD, threshold_vector
from cxcompress.tasks.predictions import Predictions


def choose_thresholds(predictions: Predictions) -> tuple[float, ...]:
    """The threshold of each class that has the largest sensitivity + specificity − 1 (Youden 1950).

    Each lies halfway between two neighbouring scores, so that small changes of the scores change
    no decision; of equal maxima the highest is taken. A class without a positive or a negative
    image, or with no threshold better than none, keeps 0.5.

    Args:
        predictions: Multilabel record of *validation* images.

    Returns:
        One threshold a class; "present" means score >= threshold.

    Raises:
        ValueError: If the record is not multilabel.
    """
    if predictions.task != "multilabel":
        raise ValueError("only the multilabel task has thresholds. "
                         f"Received: {predictions.task!r}")
    record = ReadyRecord.of(predictions)
    return tuple(
        _youden(record.truth[known, column], record.score[known, column])
        for column, known in enumerate(record.known.T)
    )


def _youden(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return DEFAULT_THRESHOLD
    levels, group = np.unique(score, return_inverse=True)
    group = group.reshape(-1)
    # Of scores at or above each level: what a threshold just below that level would call present.
    hits = np.bincount(group, truth, len(levels))[::-1].cumsum()[::-1] / positives
    alarms = np.bincount(group, ~truth, len(levels))[::-1].cumsum()[::-1] / negatives
    gain = (hits - alarms)[1:]
    if not gain.size or gain.max() <= 0:
        return DEFAULT_THRESHOLD
    best = np.flatnonzero(gain >= gain.max() - 1e-12)[-1]
    return float((levels[best] + levels[best + 1]) / 2)


@dataclass(frozen=True)
class OperatingPoint:
    """A model at a threshold.

    Args:
        threshold: None for the multiclass task, which decides by the largest probability.
        sensitivity, specificity: With 95% intervals (bootstrap of patients).
    """

    threshold: float | None
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class ChangedDecisions:
    """Images of one class that the compressed model decides otherwise than the original.

    Args:
        lost_positives: Positive images found before and missed now.
        gained_positives: Missed before and found now.
        new_false_alarms: Negative images that were right before.
        removed_false_alarms: Negative images that are right now.
    """

    lost_positives: int
    gained_positives: int
    new_false_alarms: int
    removed_false_alarms: int


@dataclass(frozen=True)
class DecisionAudit:
    """The decisions of one class before and after compression.

    Args:
        name: The class.
        positives, negatives: Images.
        original: The original model at the original threshold.
        compressed: The compressed model at the original threshold.
        changed: Between those two.
        compressed_new: The compressed model at the newly chosen threshold, or None.
        changed_new: Between `original` and `compressed_new`, or None.
    """

    name: str
    positives: int
    negatives: int
    original: OperatingPoint
    compressed: OperatingPoint
    changed: ChangedDecisions
    compressed_new: OperatingPoint | None = None
    changed_new: ChangedDecisions | None = None

    def summary(self) -> list[str]:
        """One line for each threshold of the compressed model."""
        lines = [self._line("", self.compressed, self.changed)]
        if self.compressed_new and self.changed_new:
            lines.append(self._line(" at its new threshold", self.compressed_new, self.changed_new))
        return lines

    def _line(self, where: str, point: OperatingPoint, changed: ChangedDecisions) -> str:
        at = "" if point.threshold is None else f" ({point.threshold:.3f})"
        return (
            f"{self.name}{where}{at}: sensitivity {self.original.sensitivity.value:.3f} -> "
            f"{point.sensitivity.value:.3f}, specificity {self.original.specificity.value:.3f} -> "
            f"{point.specificity.value:.3f}; {changed.lost_positives} positives lost and "
            f"{changed.gained_positives} gained of {self.positives}, "
            f"{changed.new_false_alarms} false alarms more and {changed.removed_false_alarms} "
            f"fewer of {self.negatives}"
        )

    def to_dict(self) -> dict:
        """Nested dicts and numbers, None for undefined."""
        return without_nan(asdict(self))


def audit_decisions(
    original: Predictions,
    compressed: Predictions,
    thresholds: Sequence[float] | None = None,
    new_thresholds: Sequence[float] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[DecisionAudit, ...]:
    """Sensitivity, specificity and changed decisions of each class.

    Args:
        original, compressed: Records of the same images.
        thresholds: The original's; multilabel only, default 0.5.
        new_thresholds: Chosen for the compressed model on validation; multilabel only.
        resamples, seed: Of the draws of patients.

    Raises:
        ValueError: If the records do not match (`align`).
    """
    original, compressed = align(original, compressed)
    before = ReadyRecord.of(original, thresholds)
    draws = PatientDraws(before.patients, resamples, seed)
    records = [before, ReadyRecord.of(compressed, thresholds)]
    limits: list[Sequence[float] | None] = [thresholds, thresholds]
    if new_thresholds is not None:
        records.append(ReadyRecord.of(compressed, new_thresholds))
        limits.append(new_thresholds)
    points = [_operating_points(record, limit, draws)
              for record, limit in zip(records, limits, strict=True)]
    changes = [_changes(before, record) for record in records]
    audits = []
    for column, name in enumerate(before.classes):
        new = (points[2][column], changes[2][column]) if len(records) > 2 else (None, None)
        positives = int(before.truth[:, column].sum())
        audits.append(DecisionAudit(
            name, positives, int(before.known[:, column].sum()) - positives,
            points[0][column], points[1][column], changes[1][column], *new,
        ))
    return tuple(audits)


def _changes(before: ReadyRecord, after: ReadyRecord) -> list[ChangedDecisions]:
    truth, negative = before.truth, before.known & ~before.truth
    lost, gained = before.decision & ~after.decision, after.decision & ~before.decision
    counts = ((truth & lost), (truth & gained), (negative & gained), (negative & lost))
    return [ChangedDecisions(*map(int, row))
            for row in np.stack([count.sum(axis=0) for count in counts], axis=1)]


def _operating_points(
    record: ReadyRecord, thresholds: Sequence[float] | None, draws: PatientDraws
) -> list[OperatingPoint]:
    negative = record.known & ~record.truth
    of = np.concatenate([record.truth, negative], axis=1)
    right = of & np.concatenate([record.decision, ~record.decision], axis=1)
    right_sums, of_sums = record.patient_sums(right), record.patient_sums(of)
    sizes = tuple(map(int, of.sum(axis=0)))
    count = len(record.classes)
    patients = (*record.positive_patients, *record.negative_patients)
    statistic = Statistic(
        tuple(f"{index}" for index in range(2 * count)),
        lambda counts: quotient(right_sums @ counts, of_sums @ counts),
        sizes, (*sizes[:count], *(0,) * count),
        tuple((int(trials),) if trials else () for trials in patients),
    )
    found = list(estimate(statistic, record, draws).values())
    limits: Sequence[float | None] = [None] * count
    if record.task == "multilabel":
        limits = threshold_vector(thresholds, count).tolist()
    return [OperatingPoint(limits[column], found[column], found[column + count])
            for column in range(count)]
