"""What a model found of every annotated cell: the record that all metrics of nuclei read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

COUNTS = ("tp", "fp", "fn", "true_count", "predicted_count")


@dataclass(frozen=True)
class CellMatches:
    """Cells matched in n fields, for c cell classes.

    Args:
        image_id: str `(n,)`.
        patient_id: str `(n,)`; equal to `image_id` where patients are unknown.
        classes: The c class names, in the order of the maps.
        tp: int `(n, c)`: annotated cells that were found.
        fp: int `(n, c)`: found cells that are none, or are annotated as another class.
        fn: int `(n, c)`: annotated cells that were missed.
        true_count, predicted_count: int `(n, c)`: tp + fn and tp + fp.

    Raises:
        ValueError: If shapes disagree or counts contradict each other.
    """

    image_id: NDArray
    patient_id: NDArray
    classes: tuple[str, ...]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    true_count: NDArray[np.int64]
    predicted_count: NDArray[np.int64]
    task: ClassVar[str] = "nuclei"

    def __post_init__(self):
        shape = (len(self.image_id), len(self.classes))
        for name in COUNTS:
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}. "
                                 f"Received: {getattr(self, name).shape}")
        if len(self.patient_id) != shape[0]:
            raise ValueError(f"patient_id must have length {shape[0]}. "
                             f"Received: {len(self.patient_id)}")
        if not (np.array_equal(self.tp + self.fn, self.true_count)
                and np.array_equal(self.tp + self.fp, self.predicted_count)):
            raise ValueError("true_count is tp + fn and predicted_count tp + fp. Received: others")

    def save(self, path: str | os.PathLike) -> None:
        """Write the record to an `.npz` that `load` reads (no pickle)."""
        with open(path, "wb") as file:
            np.savez_compressed(
                file, image_id=np.asarray(self.image_id, str),
                patient_id=np.asarray(self.patient_id, str),
                classes=np.asarray(self.classes, str), task=np.asarray(self.task),
                **{name: getattr(self, name) for name in COUNTS})

    @classmethod
    def load(cls, path: str | os.PathLike) -> CellMatches:
        """Read a record that `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["image_id"], arrays["patient_id"],
                       tuple(str(name) for name in arrays["classes"]),
                       *(arrays[name] for name in COUNTS))

    @classmethod
    def joined(cls, records: list[CellMatches]) -> CellMatches:
        """Records of the same classes as one, in order."""
        joined = {name: np.concatenate([getattr(record, name) for record in records])
                  for name in ("image_id", "patient_id", *COUNTS)}
        return cls(classes=records[0].classes, **joined)
