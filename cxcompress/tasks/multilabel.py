"""The multilabel task: every class is present or absent by itself.

    task = MultilabelTask(("Effusion", "Mass"))
    task.findings(outputs, thresholds=(0.4, 0.2)).decisions
    record = task.record(outputs, labels, image_id, patient_id)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from cxcompress.tasks.findings import Findings
from cxcompress.tasks.predictions import Predictions
from cxcompress.tasks.probabilities import multilabel_probabilities

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class MultilabelTask:
    """c independent findings an image.

    Args:
        classes: The c class names, in the order of the model's outputs.
        from_logits: Whether the model gives logits; None guesses from the numbers
            (`tasks.probabilities`).
    """

    classes: tuple[str, ...]
    from_logits: bool | None = None
    name: ClassVar[str] = "multilabel"

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))

    def findings(self, outputs: ArrayLike, thresholds: Sequence[float] | None = None) -> Findings:
        """Present where the probability is at least the class's threshold.

        Args:
            outputs: Model outputs `(n, c)`.
            thresholds: One a class, in [0, 1]; default 0.5 for all.

        Raises:
            InputError: If the outputs' width does not match the classes.
            ValueError: If there is not one threshold a class.
        """
        scores = multilabel_probabilities(outputs, self.classes, self.from_logits)
        return Findings(self.classes, scores,
                        scores >= threshold_vector(thresholds, len(self.classes)))

    def record(
        self, outputs: ArrayLike, labels: ArrayLike, image_id: ArrayLike, patient_id: ArrayLike
    ) -> Predictions:
        """What the model said beside what is true.

        Args:
            outputs: Model outputs `(n, c)`.
            labels: `(n, c)` in {0, 1}; NaN = unknown.
            image_id, patient_id: str `(n,)`.

        Raises:
            InputError: If the outputs' width does not match the classes.
        """
        scores = multilabel_probabilities(outputs, self.classes, self.from_logits)
        labels = np.asarray(labels, dtype=np.float64)
        return Predictions(
            np.asarray(image_id, dtype=str), np.asarray(patient_id, dtype=str), self.classes,
            labels[:, None] if labels.ndim == 1 else labels, scores, self.name,
        )


def threshold_vector(thresholds: Sequence[float] | None, count: int) -> np.ndarray:
    """Thresholds as float64 `(count,)`; 0.5 for each where None is given.

    Raises:
        ValueError: If there is not one finite threshold a class.
    """
    if thresholds is None:
        return np.full(count, DEFAULT_THRESHOLD)
    vector = np.asarray(thresholds, dtype=np.float64)
    if vector.shape != (count,) or not np.isfinite(vector).all():
        raise ValueError(f"thresholds must be {count} finite numbers. Received: {thresholds}")
    return vector
