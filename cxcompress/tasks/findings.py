"""What a model finds in images: a probability and a yes or no for each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Findings:
    """The findings of n images for c classes.

    Args:
        classes: The c class names, in column order.
        scores: float64 `(n, c)`, probabilities.
        decisions: bool `(n, c)`; exactly one True a row for the multiclass task.

    Raises:
        ValueError: If shapes disagree.
    """

    classes: tuple[str, ...]
    scores: NDArray[np.float64]
    decisions: NDArray[np.bool_]

    def __post_init__(self):
        c = len(self.classes)
        if self.scores.ndim != 2 or self.scores.shape[1] != c:
            raise ValueError(f"scores must have shape (n, {c}). Received: {self.scores.shape}")
        if self.decisions.shape != self.scores.shape:
            raise ValueError(f"decisions must have the scores' shape {self.scores.shape}. "
                             f"Received: {self.decisions.shape}")
