"""The one shape in which every image collection reaches the rest of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.intake import Intake
from cxcompress.errors import InputError


@dataclass(frozen=True)
class Part:
    """One part (train, val or test) of a collection.

    Args:
        images: Either uint8 `(n, h, w, c)`, or a sequence of length n that reads an image when
            asked, each uint8 or uint16, `(h, w)` or `(h, w, c)`, sizes may differ.
        labels: float32 `(n, classes)` in {0, 1} (one-hot for multiclass; NaN = unknown), or for
            nuclei a sequence of n int arrays `(cells, 3)`: x, y in pixels, label_id
            (1 = immunopositive, 2 = immunonegative, 3 = tumour-infiltrating lymphocyte).
        image_id: str `(n,)`.
        patient_id: str `(n,)`; equal to `image_id` where patients are unknown.
        about: What else is known of each image, arrays `(n,)` by name: `"view"` (str, `"PA"`,
            `"AP"`, …), `"sex"` (str, `"F"`, `"M"`), `"age"` (float, years); "" and NaN = unknown.
    """

    images: Sequence | NDArray
    labels: NDArray | Sequence[NDArray]
    image_id: NDArray
    patient_id: NDArray
    about: Mapping[str, NDArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image_id)

    def select(self, rows: NDArray) -> Part:
        """The part that holds only `rows` (int positions), in that order; images stay lazy."""
        if isinstance(self.images, np.ndarray):
            images = self.images[rows]
        else:
            images = Selection(self.images, rows)
        if isinstance(self.labels, np.ndarray):
            labels = self.labels[rows]
        else:
            labels = [self.labels[row] for row in rows]
        return Part(images, labels, self.image_id[rows], self.patient_id[rows],
                    {name: values[rows] for name, values in self.about.items()})


@dataclass(frozen=True)
class Selection(Sequence):
    """A lazy view of some items of a sequence."""

    items: Sequence
    rows: NDArray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int):
        return self.items[int(self.rows[position])]


@dataclass(frozen=True)
class Collection:
    """A collection of labelled images.

    Args:
        name: As the user gave it, e.g. `"synthetic:cxr"` or a path.
        task: `"multiclass"`, `"multilabel"`, `"nuclei"`, or `"unlabelled"`: images alone.
        classes: Class names in label order; none where unlabelled.
        train, val, test: The parts; None where the collection has none.
        patients_known: Whether `patient_id` is more than a copy of `image_id`.
        synthetic: Whether the images are generated; every report says so.
        credit: Whom to credit and under which terms; may be empty.
        microns_per_pixel: Of all stored images, where it is known; slides only.
        intake: What was counted and left out when a label table was read; None for collections
            without one.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    train: Part | None
    val: Part | None
    test: Part | None
    patients_known: bool = False
    synthetic: bool = False
    credit: str = ""
    microns_per_pixel: float | None = None
    intake: Intake | None = None

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that are there, by name, in the order train, val, test."""
        return {name: part for name in ("train", "val", "test")
                if (part := getattr(self, name)) is not None}

    @property
    def title(self) -> str:
        """The name without the folders it lies in: what a model card may tell others."""
        return self.name if ":" in self.name else Path(self.name).name

    def in_class_order(self, classes: Sequence[str]) -> Collection:
        """The same collection with its label columns in the order of `classes`.

        Raises:
            InputError: If these are not the collection's classes.
        """
        if sorted(classes) != sorted(self.classes):
            raise InputError(f"{self.name}: has the classes {','.join(self.classes)}, not "
                             f"{','.join(classes)}; give --classes with the collection's names, "
                             "in the order of the model's outputs")
        if tuple(classes) == tuple(self.classes):
            return self
        if self.task == "nuclei":
            raise InputError(f"{self.name}: cells are numbered in the order "
                             f"{','.join(self.classes)}, and so must the model's maps be; leave "
                             "--classes out")
        columns = [self.classes.index(name) for name in classes]

        def reordered(part: Part | None) -> Part | None:
            return part and replace(part, labels=part.labels[:, columns])

        return replace(self, classes=tuple(classes), train=reordered(self.train),
                       val=reordered(self.val), test=reordered(self.test))
