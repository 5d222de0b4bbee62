"""Models that draw density maps, judged on fields: cells found, paired, and patients' indices.

    judged = JudgedModel.open("pathonet-uCWS.h5", engine="runtime", plan="int8")
    found = judged.found(part, microns_per_pixel=0.25)
    record = judged.task.record_of_cells(found.cells, found.annotated, …)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxcompress import tasks
from cxcompress.data.collection import Part
from cxcompress.data.shidc import NUCLEI
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.pipeline.inputs import (
    FIELDS_AT_ONCE,
    THRESHOLD_FIELDS,
    evenly,
    input_size,
    open_model,
)
from cxcompress.runs import progress
from cxcompress.storage import is_container
from cxcompress.tasks.whole_fields import cells_of_field, network_scale

logger = logging.getLogger(__name__)

SAME_SCALE = 0.05
"""Relative difference of scales below which a field is resized whole."""
BATCH = 4


@dataclass(frozen=True)
class FoundCells:
    """Cells of n fields, in pixels of the network's input.

    Args:
        cells: n arrays float `(cells, 3)`: x, y, label_id.
        annotated: The same of the annotation.
        factors: Pixels of each field for one of the network's, `(n, 2)`: x, y.
    """

    cells: Sequence[NDArray[np.float64]]
    annotated: Sequence[NDArray[np.float64]]
    factors: NDArray[np.float64]


@dataclass(frozen=True)
class JudgedModel:
    """A network of density maps, whatever runs it.

    Args:
        path: Its file.
        engine: `"keras"` or `"runtime"`.
        plan: Of the runtime; empty for Keras.
        task: Classes of nuclei.
        preprocessing: From a field to an input.
        thresholds: Of its card; None where it has none.
        maps_of: From inputs to density maps.
        synthetic: Whether it was trained on generated fields.
    """

    path: Path
    engine: str
    plan: str
    task: tasks.NucleiTask
    preprocessing: Preprocessing
    thresholds: tuple[float, ...] | None
    maps_of: Callable[[NDArray], NDArray]
    synthetic: bool

    @classmethod
    def open(cls, path: str | Path, engine: str = "keras", plan: str = "auto",
             threads: int | None = None) -> JudgedModel:
        """Open a Keras model or a container.

        Args:
            path: The file. One that is no container runs in Keras, whatever the engine asked for.
            engine: `"keras"` or `"runtime"`.
            plan, threads: Of the runtime.

        Raises:
            InputError: If the file cannot be used, or does not draw density maps of nuclei.
        """
        path = Path(path)
        if engine == "runtime" and is_container(path):
            from cxcompress import runtime

            model = runtime.load(path, plan, threads)
            shape, card, maps_of, chosen = (
                model.output_shape, model.card, model.predict, model.plan)
            size, channels = model.input_shape[:2], model.input_shape[2]
        else:
            engine, chosen = "keras", ""
            keras_model, card, _ = open_model(path)
            size, channels = input_size(keras_model)
            shape = tuple(keras_model.outputs[0].shape[1:])

            def maps_of(inputs: NDArray) -> NDArray:
                return np.concatenate([
                    np.asarray(keras_model.predict_on_batch(inputs[start:start + BATCH]))
                    for start in range(0, len(inputs), BATCH)])

        if len(shape) != 3:
            raise InputError(f"{path}: gives outputs of shape {shape}, not density maps of nuclei")
        classes = card.classes if card and card.classes else NUCLEI
        if len(classes) != shape[-1]:
            raise InputError(f"{path}: draws {shape[-1]} maps, its card names {len(classes)} "
                             "classes")
        carded = bool(card and card.preprocessing)
        preprocessing = (Preprocessing.from_dict(card.preprocessing) if carded
                         else Preprocessing.preset("0-1", size, channels))
        if not carded:
            logger.info("%s: has no card; inputs of 0 to 1 are assumed", path)
        return cls(path, engine, chosen, tasks.get("nuclei", classes), preprocessing,
                   card.thresholds if card else None, maps_of, bool(card and card.synthetic))

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    def scale(self, image: NDArray, microns_per_pixel: float | None) -> float | None:
        """Pixels of the network's input for one of a field, where it is to be cut into tiles.

        None = the field is resized whole: its scale or the model's is unknown, or it is just as
        large as those of the training.
        """
        trained = self.preprocessing.microns_per_pixel
        if microns_per_pixel is None or trained is None:
            return None
        scale = network_scale(microns_per_pixel, trained)
        sides = [side * scale / target - 1 for side, target in
                 zip(image.shape[:2], self.preprocessing.size, strict=True)]
        return None if max(map(abs, sides)) < SAME_SCALE else scale

    def found(
        self, part: Part, microns_per_pixel: float | None = None,
        thresholds: Sequence[float] | None = None,
    ) -> FoundCells:
        """The cells of every field of a part.

        Args:
            part: Fields with their annotated cells.
            microns_per_pixel: Of the stored fields, where it is known.
            thresholds: Of the maps; default the card's, else the task's.
        """
        thresholds = self.thresholds if thresholds is None else thresholds
        cells, annotated, factors = [], [], []
        slices = np.array_split(np.arange(len(part)), max(1, math.ceil(
            len(part) / FIELDS_AT_ONCE)))
        for rows in progress(slices, self.name, total=len(slices)):
            some = part.select(rows)
            images = [some.images[row] for row in range(len(rows))]
            scales = [self.scale(image, microns_per_pixel) for image in images]
            whole = [row for row, scale in enumerate(scales) if scale is None]
            found: dict[int, NDArray] = {}
            if whole:
                outputs = self.maps_of(self.preprocessing.batch([images[row] for row in whole]))
                found = dict(zip(whole, self.task.findings(outputs, thresholds), strict=True))
            for row, (image, scale) in enumerate(zip(images, scales, strict=True)):
                size = self.preprocessing.size
                factor = (np.array([image.shape[1] / size[1], image.shape[0] / size[0]])
                          if scale is None else np.full(2, 1 / scale))
                if scale is not None:
                    found[row] = cells_of_field(image, self.maps_of, self.preprocessing, self.task,
                                                thresholds, scale) / (*factor, 1)
                cells.append(found[row])
                annotated.append(np.asarray(some.labels[row], float).reshape(-1, 3) / (*factor, 1))
                factors.append(factor)
        return FoundCells(cells, annotated, np.array(factors).reshape(-1, 2))

    def tuned_thresholds(self, val: Part, microns_per_pixel: float | None = None
                         ) -> tuple[float, ...]:
        """The thresholds with the highest F1 of each class on at most 64 validation fields.

        Raises:
            InputError: If these fields are of another scale than the model's.
        """
        fields = evenly(val, THRESHOLD_FIELDS)
        images = [fields.images[row] for row in range(len(fields))]
        if any(self.scale(image, microns_per_pixel) is not None for image in images):
            raise InputError(f"{self.path}: --tune needs validation fields as large as those of "
                             "the training; leave it out to use the card's thresholds")
        outputs = self.maps_of(self.preprocessing.batch(images))
        size = self.preprocessing.size
        labels = [(cells * (size[1] / image.shape[1], size[0] / image.shape[0], 1)).astype(int)
                  for cells, image in zip(fields.labels, images, strict=True)]
        return self.task.choose_thresholds(outputs, labels)
