"""What a model said of every image, beside what is true: the record that all metrics read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ABOUT = "about_"
"""Before the names of what is known of the images, in a saved record."""


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
        about: What else is known of each image, arrays `(n,)` by name (`"view"`, `"sex"`,
            `"age"`), for subgroups; may be empty.

    Raises:
        ValueError: If shapes disagree.
    """

    image_id: NDArray
    patient_id: NDArray
    classes: tuple[str, ...]
    truth: NDArray
    score: NDArray
    task: str = "multiclass"
    about: Mapping[str, NDArray] = field(default_factory=dict)

    def __post_init__(self):
        n, c = len(self.image_id), len(self.classes)
        for name in ("truth", "score"):
            if getattr(self, name).shape != (n, c):
                raise ValueError(f"{name} must have shape {(n, c)}. "
                                 f"Received: {getattr(self, name).shape}")
        if len(self.patient_id) != n:
            raise ValueError(f"patient_id must have length {n}. Received: {len(self.patient_id)}")
        for name, values in self.about.items():
            if len(values) != n:
                raise ValueError(f"about[{name!r}] must have length {n}. Received: {len(values)}")

    def select(self, rows: NDArray) -> Predictions:
        """The record of some images: int positions or a mask `(n,)`."""
        return Predictions(
            self.image_id[rows], self.patient_id[rows], self.classes, self.truth[rows],
            self.score[rows], self.task,
            {name: values[rows] for name, values in self.about.items()})

    def save(self, path: str | os.PathLike) -> None:
        """Write the record to an `.npz` that `load` reads (no pickle)."""
        about: dict[str, Any] = {f"{ABOUT}{name}": values for name, values in self.about.items()}
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                image_id=np.asarray(self.image_id, dtype=str),
                patient_id=np.asarray(self.patient_id, dtype=str),
                classes=np.asarray(self.classes, dtype=str),
                truth=self.truth, score=self.score, task=np.asarray(self.task),
                **about,
            )

    @classmethod
    def load(cls, path: str | os.PathLike) -> Predictions:
        """Read a record that `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                arrays["image_id"], arrays["patient_id"],
                tuple(str(name) for name in arrays["classes"]),
                arrays["truth"], arrays["score"], str(arrays["task"]),
                {name.removeprefix(ABOUT): arrays[name] for name in arrays.files
                 if name.startswith(ABOUT)},
            )
