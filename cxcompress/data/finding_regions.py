"""Where the findings of an image are, for judging where a network looks.

    regions = open_regions("synthetic:cxr", part, classes, size=128, seed=1)
    regions[0].row, regions[0].finding, regions[0].mask       # bool (128, 128)

Known of generated radiographs, whose findings were drawn, and of the NIH ChestX-ray14 images that
radiologists drew boxes on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Part
from cxcompress.data.nih_boxes import SIDE, TABLE_NAME, read_boxes
from cxcompress.data.synthetic_cxr import radiograph
from cxcompress.errors import InputError


@dataclass(frozen=True)
class FindingRegion:
    """One finding of one image.

    Args:
        row: Of the image in its part.
        image_id, patient_id: Whose.
        finding: The class.
        mask: bool `(size, size)`, True where it is; several places of one finding are one mask.
    """

    row: int
    image_id: str
    patient_id: str
    finding: str
    mask: NDArray[np.bool_]


def open_regions(
    data_path: str | os.PathLike, part: Part, classes: Sequence[str], size: int, seed: int = 0,
) -> list[FindingRegion]:
    """The regions of all labelled findings of a part that are known.

    Args:
        data_path: `synthetic:cxr…`, or a folder of NIH ChestX-ray14 with `BBox_List_2017.csv`.
        part: Of the collection that `data_path` opened as.
        classes: The label columns.
        size: Pixels a side of the masks; NIH's boxes are drawn on 1,024.
        seed: Of generated radiographs.

    Raises:
        InputError: If the data tell nothing of where findings are.
    """
    if str(data_path).startswith("synthetic:cxr"):
        return _drawn(part, classes, size, seed)
    if (Path(data_path) / TABLE_NAME).is_file():
        return _boxed(Path(data_path), part, classes, size)
    raise InputError(f"--data_path {data_path}: does not say where findings are; give "
                     f"synthetic:cxr, or a folder of NIH ChestX-ray14 with {TABLE_NAME}")


def _drawn(part: Part, classes: Sequence[str], size: int, seed: int) -> list[FindingRegion]:
    found = []
    for row, image_id in enumerate(part.image_id):
        one = radiograph(str(image_id), seed)
        for column, name in enumerate(classes):
            if name in one.findings and part.labels[row, column] == 1:
                found.append(FindingRegion(row, str(image_id), str(part.patient_id[row]), name,
                                           one.region(name, size)))
    return found


def _boxed(folder: Path, part: Part, classes: Sequence[str], size: int) -> list[FindingRegion]:
    boxes = read_boxes(folder / TABLE_NAME)
    names = {name.replace("_", " "): name for name in classes}
    found = []
    for row, image_id in enumerate(part.image_id):
        masks: dict[str, NDArray[np.bool_]] = {}
        for box in boxes.get(str(image_id), ()):
            if box.finding in names:
                mask = masks.setdefault(names[box.finding], np.zeros((size, size), bool))
                here = box.scaled(size / SIDE)
                mask[int(here.y):max(int(np.ceil(here.y + here.height)), int(here.y) + 1),
                     int(here.x):max(int(np.ceil(here.x + here.width)), int(here.x) + 1)] = True
        found += [FindingRegion(row, str(image_id), str(part.patient_id[row]), name, mask)
                  for name, mask in masks.items()]
    return found
