"""The multiclass task: every image has exactly one class.

    task = MulticlassTask(("covid", "normal"))
    task.findings(outputs).decisions                       # the most probable class of each row
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
from cxcompress.tasks.probabilities import multiclass_probabilities


@dataclass(frozen=True)
class MulticlassTask:
    """One class of c an image.

    Args:
        classes: The c class names, in the order of the model's outputs.
        from_logits: Whether the model gives logits; None guesses from the numbers
            (`tasks.probabilities`).
    """

    classes: tuple[str, ...]
    from_logits: bool | None = None
    name: ClassVar[str] = "multiclass"

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))

    def findings(self, outputs: ArrayLike, thresholds: Sequence[float] | None = None) -> Findings:
        """The most probable class of each image (the first of equals).

        Args:
            outputs: Model outputs `(n, c)`; `(n, 1)` for two classes and one sigmoid.
            thresholds: None or empty: this task decides by the largest probability.

        Raises:
            InputError: If the outputs' width does not match the classes.
            ValueError: If thresholds are given.
        """
        if thresholds is not None and len(thresholds):
            raise ValueError(f"the multiclass task has no thresholds. Received: {thresholds}")
        scores = multiclass_probabilities(outputs, self.classes, self.from_logits)
        decisions = np.zeros(scores.shape, bool)
        if scores.size:
            decisions[np.arange(len(scores)), scores.argmax(axis=1)] = True
        return Findings(self.classes, scores, decisions)

    def record(
        self, outputs: ArrayLike, labels: ArrayLike, image_id: ArrayLike, patient_id: ArrayLike
    ) -> Predictions:
        """What the model said beside what is true.

        Args:
            outputs: Model outputs `(n, c)`; `(n, 1)` for two classes and one sigmoid.
            labels: One-hot `(n, c)`; a row of NaN = unknown.
            image_id, patient_id: str `(n,)`.

        Raises:
            InputError: If the outputs' width does not match the classes.
        """
        scores = multiclass_probabilities(outputs, self.classes, self.from_logits)
        return Predictions(
            np.asarray(image_id, dtype=str), np.asarray(patient_id, dtype=str), self.classes,
            np.asarray(labels, dtype=np.float64), scores, self.name,
        )
