"""What a radiology journal asks of a multilabel classifier: per class, averaged, by group.

    estimates = evaluate_cxr(test, thresholds=choose_thresholds(validation),
                             groups=class_groups(classes, train_positives))
    estimates["sensitivity:Effusion"].low, estimates["average_precision_tail"].value

Keys are `<metric>:<class>`, `<metric>_macro` (mean over classes), `<metric>_micro` (all labels
pooled) and, with groups, `<metric>_head`, `_medium`, `_tail`:

| metric | per class | macro, groups | micro |
|---|---|---|---|
| `auroc` | DeLong | DeLong with the classes' covariances | bootstrap |
| `average_precision` | bootstrap | bootstrap | bootstrap |
| `f1`, `sensitivity`, `specificity` at the thresholds | bootstrap | bootstrap | bootstrap |
| `brier`, `calibration_error` | bootstrap | bootstrap | bootstrap |

The bootstrap draws patients, with all their images. A class without a positive (or without a
negative) image in the record has no AUROC, average precision, F1 or sensitivity: NaN, and `method`
says why; averages are over the classes with at least two positive and two negative patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxcompress.evaluation.auroc import (
    ENOUGH_FOR_VARIANCE,
    auroc_estimates,
    auroc_parts_by_class,
    mean_auroc,
)
from cxcompress.evaluation.bootstrap import Compute, PatientDraws
from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.metrics import (
    CALIBRATION_BINS,
    Statistic,
    average_precision,
    estimate,
    quotient,
)
from cxcompress.evaluation.records import ReadyRecord
from cxcompress.tasks.predictions import Predictions

GROUPS = ("head", "medium", "tail")
GROUP_CUTS = (100, 1000)
"""Training images below which a class is of the tail, and above which it is of the head (Holste et
al. 2022)."""

METRICS = ("auroc", "average_precision", "f1", "sensitivity", "specificity", "brier",
           "calibration_error")


def class_groups(
    classes: Sequence[str], train_positives: Sequence[int], cuts: tuple[int, int] = GROUP_CUTS
) -> dict[str, tuple[str, ...]]:
    """Head, medium and tail classes by their positives in training; empty groups are left out.

    Args:
        classes: Names.
        train_positives: Positive training images of each.
        cuts: Tail below the first, head above the second.
    """
    low, high = cuts
    kinds = ["tail" if count < low else "head" if count > high else "medium"
             for count in train_positives]
    groups = {group: tuple(name for name, kind in zip(classes, kinds, strict=True)
                           if kind == group) for group in GROUPS}
    return {group: names for group, names in groups.items() if names}


def evaluate_cxr(
    predictions: Predictions,
    *,
    thresholds: Sequence[float] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    metrics: Sequence[str] = METRICS,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The metrics of a multilabel record, see the module's docstring.

    Args:
        predictions: n images, c classes; NaN truth is left out.
        thresholds: One a class, chosen on validation; default 0.5.
        groups: Class names by group (`class_groups`).
        metrics: Some of `METRICS`; rankings take nearly all the time.
        resamples, seed: Of the draws of patients.

    Raises:
        ValueError: If the record is not multilabel or cannot be used.
    """
    if predictions.task != "multilabel":
        raise ValueError(f"these metrics are for multilabel records. Received: {predictions.task}")
    record = ReadyRecord.of(predictions, thresholds)
    columns = {"macro": list(range(len(record.classes)))} | {
        group: [record.classes.index(name) for name in names]
        for group, names in (groups or {}).items()}
    draws = PatientDraws(record.patients, resamples, seed)
    found: dict[str, Estimate] = {}
    wanted = [decisions(record, columns), errors(record, columns)]
    if {"auroc", "average_precision"}.intersection(metrics):
        found = auroc_estimates(record)
        parts = auroc_parts_by_class(record)
        for group, some in columns.items():
            found[f"auroc_{group}"] = mean_auroc(
                record, [record.classes[column] for column in some],
                [parts[column] for column in some])
        wanted += [_averaged(record, average_precision(record), columns),
                   _pooled_ranking(_pooled(record))]
    for statistic in wanted:
        found |= estimate(statistic, record, draws)
    names = [*(f"_{kind}" for kind in ("macro", "micro", *(groups or {}))),
             *(f":{name}" for name in record.classes)]
    return {f"{metric}{name}": found[f"{metric}{name}"] for metric in metrics for name in names}


def _enough(record: ReadyRecord) -> NDArray[np.bool_]:
    """Classes that averages are taken over `(c,)`."""
    return np.minimum(record.positive_patients, record.negative_patients) >= ENOUGH_FOR_VARIANCE


def _mean_names(metric: str, columns: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    return tuple(f"{metric}_{group}" for group in columns)


def _means(values: NDArray, enough: NDArray, columns: Mapping[str, Sequence[int]]) -> NDArray:
    """Means of `values` `(c, draws)` over the usable classes of each group: `(groups, draws)`."""
    rows = []
    for some in columns.values():
        used = [column for column in some if enough[column]]
        rows.append(values[used].mean(axis=0) if used else np.full(values.shape[1], np.nan))
    return np.stack(rows)


def _averaged(
    record: ReadyRecord, statistic: Statistic, columns: Mapping[str, Sequence[int]]
) -> Statistic:
    """`average_precision` with the means of groups instead of its own mean."""
    enough, groups = _enough(record), len(columns)

    def compute(counts):
        each = statistic.compute(counts)[1:]
        return np.concatenate([_means(each, enough, columns), each])

    positives = [sum(statistic.positives[1 + column] for column in some)
                 for some in columns.values()]
    return Statistic(
        (*_mean_names("average_precision", columns), *statistic.names[1:]), compute,
        (*(len(record.score),) * groups, *statistic.n[1:]), (*positives, *statistic.positives[1:]),
        (*((),) * groups, *statistic.trials[1:]))


def _pooled(record: ReadyRecord) -> ReadyRecord:
    """All labels of all classes as one class, each still its patient's."""
    image, column = np.nonzero(record.known)
    values = {name: getattr(record, name)[image, column][:, None]
              for name in ("known", "truth", "score", "decision")}
    return replace(record, classes=("all labels",), patient=record.patient[image], **values)


def _pooled_ranking(pooled: ReadyRecord) -> Statistic:
    """AUROC and average precision of the pooled labels."""
    precision = average_precision(pooled)
    area = _area(pooled)
    labels, positives = len(pooled.score), int(pooled.truth.sum())

    def compute(counts):
        return np.stack([area(counts), precision.compute(counts)[1]])

    return Statistic(("auroc_micro", "average_precision_micro"), compute, (labels, labels),
                     (positives, positives), ((), ()))


def _area(record: ReadyRecord) -> Compute:
    """AUROC of the first class as a function of counts, `(patients, draws)` to `(draws,)`.

    The area is the mean, over positives, of the share of negatives below (ties one half). As for
    average precision, images are cut into segments that each end at scores with positives.
    """
    truth, score = record.truth[:, 0], record.score[:, 0]
    order = np.argsort(score, kind="stable")
    truth, score, patient = truth[order], score[order], record.patient[order]
    levels = np.unique(score[truth])
    # Even places: negatives strictly between two levels of positives; odd: level with one.
    place = np.searchsorted(levels, score, "left") + np.searchsorted(levels, score, "right")
    shape = (2 * len(levels) + 1, record.patients)

    def weights(chosen):
        return sparse.csr_array((np.ones(int(chosen.sum())), (place[chosen], patient[chosen])),
                                shape=shape)

    negatives, positives = weights(~truth), weights(truth)[1::2]

    def compute(counts):
        if not len(levels):
            return np.full(counts.shape[1], np.nan)
        below = negatives @ counts
        total = below.sum(axis=0)
        level = below[1::2]
        lower = np.cumsum(below, axis=0)[1::2] - level / 2
        hits = positives @ counts
        return quotient((hits * lower).sum(axis=0), hits.sum(axis=0) * total)

    return compute


def decisions(record: ReadyRecord, columns: Mapping[str, Sequence[int]]) -> Statistic:
    """F1, sensitivity and specificity of each class, of groups and of all labels."""
    negative = record.known & ~record.truth
    kinds = (record.truth & record.decision, record.truth & ~record.decision,
             negative & record.decision, negative & ~record.decision)
    sums = [record.patient_sums(kind) for kind in kinds]
    enough = _enough(record)

    def rates(tp, fn, fp, tn):
        sensitivity, specificity = quotient(tp, tp + fn), quotient(tn, tn + fp)
        f1 = np.where(tp + fn > 0, quotient(2 * tp, 2 * tp + fn + fp), np.nan)
        return f1, sensitivity, specificity

    def compute(counts):
        cells = [table @ counts for table in sums]
        each = rates(*cells)
        micro = rates(*(cell.sum(axis=0, keepdims=True) for cell in cells))
        return np.concatenate([np.concatenate([_means(values, enough, columns), pooled, values])
                               for values, pooled in zip(each, micro, strict=True)])

    classes, images = record.classes, len(record.score)
    names: list[str] = []
    n: list[int] = []
    positives: list[int] = []
    trials: list[tuple[int, ...]] = []
    for metric in ("f1", "sensitivity", "specificity"):
        names += [*_mean_names(metric, columns), f"{metric}_micro",
                  *(f"{metric}:{name}" for name in classes)]
        n += [images] * (len(columns) + 1) + list(map(int, record.known.sum(axis=0)))
        positives += [int(record.truth[:, list(some)].sum()) for some in columns.values()]
        positives += [int(record.truth.sum()), *map(int, record.truth.sum(axis=0))]
        # Shares of patients: exact intervals where all or none are right. F1 is no share.
        each = {"sensitivity": record.positive_patients,
                "specificity": record.negative_patients}.get(metric)
        trials += [()] * (len(columns) + 1)
        trials += [() if each is None or not each[column] else (int(each[column]),)
                   for column in range(len(classes))]
    return Statistic(tuple(names), compute, tuple(n), tuple(positives), tuple(trials))


def errors(record: ReadyRecord, columns: Mapping[str, Sequence[int]]) -> Statistic:
    """Brier score (mean squared error of the probability) and calibration error (ECE).

    ECE in 15 equal-width bins weighted by images (Guo et al. 2017); with few images in a bin it is
    too large, for a perfectly calibrated model too. Both are defined without a positive image, and
    averages of them are over all classes with known labels.
    """
    squared = record.patient_sums(record.known * np.square(record.score - record.truth))
    sizes = record.patient_sums(record.known)
    image, column = np.nonzero(record.known)
    score = record.score[image, column]
    gap = score - record.truth[image, column]
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1).clip(0)
    count = len(record.classes)
    gaps = sparse.csr_array(
        (gap, (column * CALIBRATION_BINS + bins, record.patient[image])),
        shape=(count * CALIBRATION_BINS, record.patients))
    known = record.known.any(axis=0)

    def compute(counts):
        here = sizes @ counts
        total = here.sum(axis=0, keepdims=True)
        off = squared @ counts
        distance = (gaps @ counts).reshape(count, CALIBRATION_BINS, -1)
        brier = quotient(off, here)
        ece = quotient(np.abs(distance).sum(axis=1), here)
        pooled = (quotient(off.sum(axis=0, keepdims=True), total),
                  quotient(np.abs(distance.sum(axis=0)).sum(axis=0, keepdims=True), total))
        return np.concatenate([np.concatenate([_means(values, known, columns), micro, values])
                               for values, micro in zip((brier, ece), pooled, strict=True)])

    names, n, positives = [], [], []
    for metric in ("brier", "calibration_error"):
        names += [*_mean_names(metric, columns), f"{metric}_micro",
                  *(f"{metric}:{name}" for name in record.classes)]
        n += [len(record.score)] * (len(columns) + 1) + list(map(int, record.known.sum(axis=0)))
        positives += [int(record.truth[:, list(some)].sum()) for some in columns.values()]
        positives += [int(record.truth.sum()), *map(int, record.truth.sum(axis=0))]
    return Statistic(tuple(names), compute, tuple(n), tuple(positives), ((),) * len(names))
