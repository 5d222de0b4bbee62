"""Metrics of a record of nuclei, each with its value and 95% interval.

Keys: `f1_macro`, `ki67_absolute_error`, then `f1:<class>`, `precision:<class>` and
`recall:<class>`. Cells are pooled over the fields of the patients drawn. The Ki-67 index of a
patient is positive / (positive + negative tumour nuclei), pooled over the patient's fields; its
error is |found − annotated|, averaged over the patients that have such nuclei. All intervals come
from draws of patients (`bootstrap.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation.bootstrap import PatientDraws
from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.metrics import interval
from cxcompress.tasks.cell_matches import CellMatches

ABSOLUTE_ERROR = "ki67_absolute_error"


class ReadyCells:
    """A record of nuclei with its counts summed by patient.

    Args:
        record: Matched cells of n fields.

    Attributes:
        tp, fp, fn, true, predicted: float `(patients, c)`.
        patients: Number of patients, sorted by name.
    """

    def __init__(self, record: CellMatches):
        names, patient = np.unique(np.asarray(record.patient_id, str), return_inverse=True)
        self.record, self.patients = record, len(names)

        def by_patient(counts: NDArray) -> NDArray[np.float64]:
            sums = np.zeros((len(names), counts.shape[1]))
            np.add.at(sums, patient.reshape(-1), counts)
            return sums

        self.tp, self.fp, self.fn, self.true, self.predicted = (
            by_patient(getattr(record, name))
            for name in ("tp", "fp", "fn", "true_count", "predicted_count"))
        true, found = _ki67_index(self.true), _ki67_index(self.predicted)
        self.ki67_error = np.abs(np.where(np.isnan(found), 0, found) - true)

    def names(self) -> list[str]:
        """Keys of `values`, in its order."""
        classes = self.record.classes
        return ["f1_macro", *([ABSOLUTE_ERROR] if len(classes) >= 2 else []),
                *(f"{metric}:{name}" for metric in ("f1", "precision", "recall")
                  for name in classes)]

    def values(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Every metric where each patient is taken `counts` times.

        Args:
            counts: `(patients, draws)`.

        Returns:
            `(q, draws)`; NaN = undefined.
        """
        tp, fp, fn = (sums.T @ counts for sums in (self.tp, self.fp, self.fn))
        with np.errstate(divide="ignore", invalid="ignore"):
            f1 = np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)
            precision, recall = tp / (tp + fp), tp / (tp + fn)
            rows = [f1.mean(axis=0, keepdims=True)]
            if len(self.record.classes) >= 2:
                known = ~np.isnan(self.ki67_error)
                rows.append((np.where(known, self.ki67_error, 0) @ counts
                             / (known.astype(float) @ counts))[None])
        return np.concatenate([*rows, f1, precision, recall])


def _ki67_index(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive / (positive + negative) of each patient; NaN without either."""
    if counts.shape[1] < 2:
        return np.full(len(counts), np.nan)
    with np.errstate(invalid="ignore"):
        return counts[:, 0] / (counts[:, 0] + counts[:, 1])


def evaluate_cells(
    record: CellMatches, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Every metric of a record of nuclei with its 95% interval.

    Args:
        record: Matched cells.
        resamples: Draws of patients.
        seed: Of those draws.
    """
    ready = ReadyCells(record)
    values = ready.values(np.ones((ready.patients, 1)))[:, 0]
    drawn = PatientDraws(ready.patients, resamples, seed).apply(ready.values)
    estimates = {}
    for row, name in enumerate(ready.names()):
        low, high, method = interval(float(values[row]), drawn[row], (), False, ready.patients)
        estimates[name] = Estimate(float(values[row]), low, high, len(record.image_id),
                                   cells_of(ready, name), ready.patients, method)
    return estimates


def cells_of(ready: ReadyCells, name: str) -> int:
    """Annotated cells behind a metric: of its class, or of all."""
    classes = ready.record.classes
    chosen = name.partition(":")[2]
    columns = [classes.index(chosen)] if chosen in classes else list(range(len(classes)))
    return int(ready.true[:, columns].sum())


def paired_values(
    original: CellMatches, compressed: CellMatches, resamples: int, seed: int
) -> tuple[ReadyCells, NDArray, NDArray, NDArray]:
    """Values of both records `(q,)` and drawn differences `(q, resamples)`, same draws for both.

    Raises:
        ValueError: If the records are not of the same fields, patients, classes and annotations.
    """
    same = (original.classes == compressed.classes and all(
        np.array_equal(getattr(original, name), getattr(compressed, name))
        for name in ("image_id", "patient_id", "true_count")))
    if not same:
        raise ValueError("both records must hold the same fields, patients, classes and "
                         "annotated cells. Received: different ones")
    before, after = ReadyCells(original), ReadyCells(compressed)
    once = np.ones((before.patients, 1))
    drawn = PatientDraws(before.patients, resamples, seed).apply(
        lambda counts: after.values(counts) - before.values(counts))
    return before, before.values(once)[:, 0], after.values(once)[:, 0], drawn


def patients_with(ready: ReadyCells, name: str) -> int:
    """Patients with annotated cells of the metric's class; fewest of any class for the mean."""
    counts = (ready.true > 0).sum(axis=0)
    chosen = name.partition(":")[2]
    if chosen in ready.record.classes:
        return int(counts[ready.record.classes.index(chosen)])
    return int(counts.min()) if counts.size else 0
