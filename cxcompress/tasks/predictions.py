"""What a model said of every image, beside what is true: the record that all metrics read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Predictions:
    """Scores of n images for c classes.

    Args:
        image_id: str `(n,)`.
        patient_id: str `(n,)`; equal to `image_id` where patients are unknown.
        classes: The c class names, in column order.
        truth: float `(n, c)` in {0, 1}; one-hot rows for the multiclass task; NaN = unknown.
        score: float `(n, c)`, probabilities: rows sum to 1 for multiclass, each in [0, 1]
            for multilabel.
        task: `"multiclass"` or `"multilabel"`.

    Raises:
        ValueError: If shapes disagree.
    """

    image_id: NDArray
    patient_id: NDArray
    classes: tuple[str, ...]
    truth: NDArray
    score: NDArray
    task: str = "multiclass"

    def __post_init__(self):
        n, c = len(self.image_id), len(self.classes)
        for name in ("truth", "score"):
            if getattr(self, name).shape != (n, c):
                raise ValueError(f"{name} must have shape {(n, c)}. "
                                 f"Received: {getattr(self, name).shape}")
        if len(self.patient_id) != n:
            raise ValueError(f"patient_id must have length {n}. Received: {len(self.patient_id)}")

    def save(self, path) -> None:
        """Write the record to an `.npz` that `load` reads (no pickle)."""
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                image_id=np.asarray(self.image_id, dtype=str),
                patient_id=np.asarray(self.patient_id, dtype=str),
                classes=np.asarray(self.classes, dtype=str),
                truth=self.truth, score=self.score, task=np.asarray(self.task),
            )

    @classmethod
    def load(cls, path) -> Predictions:
        """Read a record that `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                arrays["image_id"], arrays["patient_id"],
                tuple(str(name) for name in arrays["classes"]),
                arrays["truth"], arrays["score"], str(arrays["task"]),
            )
