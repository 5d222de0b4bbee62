"""A record of predictions made ready for metrics: checked, patients numbered, decisions taken.

    ready = ReadyRecord.of(predictions, thresholds=(0.4, 0.2))
    ready.patient            # int (n,): the patient of each image, 0 ... patients - 1
    original, compressed = align(original, compressed)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxcompress.tasks.multilabel import threshold_vector
from cxcompress.tasks.predictions import Predictions


@dataclass(frozen=True)
class ReadyRecord:
    """What every metric reads: the images with at least one known label.

    Args:
        classes: The c class names.
        task: `"multiclass"` or `"multilabel"`.
        known: bool `(n, c)`: truth is known.
        truth: bool `(n, c)`; False where unknown.
        score: float64 `(n, c)`.
        decision: bool `(n, c)`.
        patient: int `(n,)`, 0 … patients − 1 in the order of sorted patient ids, so that
            nothing depends on the order of the images.
        patients: Number of patients.
    """

    classes: tuple[str, ...]
    task: str
    known: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]
    decision: NDArray[np.bool_]
    patient: NDArray[np.intp]
    patients: int

    @classmethod
    def of(cls, predictions: Predictions, thresholds: Sequence[float] | None = None) -> ReadyRecord:
        """Check `predictions` and make them ready.

        Args:
            predictions: Record of n images.
            thresholds: Multilabel: one a class, default 0.5. Multiclass: None; the largest
                score decides.

        Raises:
            ValueError: If no label is known, a score is not finite, truth is not 0, 1 or NaN,
                or multiclass truth is not one-hot.
        """
        truth = np.asarray(predictions.truth, dtype=np.float64)
        score = np.asarray(predictions.score, dtype=np.float64)
        known = ~np.isnan(truth)
        if not np.isfinite(score).all():
            bad = int((~np.isfinite(score)).any(axis=1).sum())
            raise ValueError(f"scores must be finite. Received: NaN or infinity in {bad} images")
        if not np.isin(truth[known], (0, 1)).all():
            raise ValueError("truth must be 0, 1 or NaN. Received: "
                             f"{np.setdiff1d(truth[known], (0, 1))[:3]}")
        if predictions.task == "multiclass":
            if thresholds is not None:
                raise ValueError("the multiclass task has no thresholds. "
                                 f"Received: {tuple(thresholds)}")
            known = np.repeat(known.all(axis=1, keepdims=True), known.shape[1], axis=1)
            if (np.where(known, truth, 0).sum(axis=1) != known[:, 0]).any():
                raise ValueError("multiclass truth must have exactly one 1 a row")
            decision = np.zeros(score.shape, bool)
            decision[np.arange(len(score)), score.argmax(axis=1)] = True
        elif predictions.task == "multilabel":
            decision = score >= threshold_vector(thresholds, score.shape[1])
        else:
            raise ValueError("task must be multiclass or multilabel. "
                             f"Received: {predictions.task!r}")
        rows = known.any(axis=1)
        if not rows.any():
            raise ValueError("a record needs at least one image with a known label. "
                             f"Received: {len(truth)} images, none known")
        names, patient = np.unique(np.asarray(predictions.patient_id, str)[rows],
                                   return_inverse=True)
        truth = known & (truth == 1)
        return cls(predictions.classes, predictions.task, known[rows], truth[rows], score[rows],
                   decision[rows], patient.reshape(-1), len(names))

    @property
    def positive_patients(self) -> NDArray[np.intp]:
        """Patients with at least one positive image, of each class `(c,)`."""
        return self._patients_with(self.truth)

    @property
    def negative_patients(self) -> NDArray[np.intp]:
        """Patients with at least one negative image, of each class `(c,)`."""
        return self._patients_with(self.known & ~self.truth)

    def _patients_with(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        return np.array([len(np.unique(self.patient[column])) for column in mask.T], dtype=np.intp)

    def patient_sums(self, values: NDArray) -> NDArray[np.float64]:
        """Sums over each patient's images: `(n, q)` to `(q, patients)`."""
        rows = np.arange(len(self.patient))
        member = sparse.csr_array((np.ones(len(rows)), (self.patient, rows)),
                                  shape=(self.patients, len(rows)))
        return np.ascontiguousarray((member @ np.asarray(values, dtype=np.float64)).T)


def align(original: Predictions, compressed: Predictions) -> tuple[Predictions, Predictions]:
    """Both records in the original's order of images.

    Raises:
        ValueError: If they differ in classes, task, images, patients or truth, or if image ids
            repeat in different orders.
    """
    for name in ("classes", "task"):
        ours, theirs = getattr(original, name), getattr(compressed, name)
        if ours != theirs:
            raise ValueError(f"both records must have the same {name}. "
                             f"Received: {ours} and {theirs}")
    first, second = (np.asarray(record.image_id, str) for record in (original, compressed))
    if not np.array_equal(first, second):
        missing = np.setxor1d(first, second)
        if len(first) != len(second) or len(missing):
            raise ValueError(f"both records must hold the same images. Received: {len(first)} and "
                             f"{len(second)} images, {len(missing)} in only one of them"
                             + (f", e.g. {missing[0]!r}" if len(missing) else ""))
        if len(np.unique(first)) != len(first):
            raise ValueError("image ids repeat and the records' orders differ: cannot align them")
        order = np.argsort(second)[np.argsort(np.argsort(first))]
        compressed = replace(
            compressed, image_id=second[order],
            patient_id=np.asarray(compressed.patient_id)[order],
            truth=compressed.truth[order], score=compressed.score[order],
            about={name: np.asarray(values)[order]
                   for name, values in compressed.about.items()},
        )
    if not np.array_equal(np.asarray(original.patient_id, str),
                          np.asarray(compressed.patient_id, str)):
        raise ValueError("both records must name the same patient for each image")
    if not np.array_equal(original.truth, compressed.truth, equal_nan=True):
        raise ValueError("both records must hold the same truth for each image")
    return original, compressed
