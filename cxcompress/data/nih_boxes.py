"""Where 984 findings of NIH ChestX-ray14 lie: radiologists' boxes, `BBox_List_2017.csv`.

    boxes = read_boxes("ChestX-ray14/BBox_List_2017.csv")
    boxes["00013118_008.png"][0].scaled(224 / 1024)     # in pixels of a 224-pixel input

Reference: Wang et al. (2017), ChestX-ray8, section 3.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from cxcompress.errors import InputError

TABLE_NAME = "BBox_List_2017.csv"
SIDE = 1024
"""Pixels a side of the pictures that the boxes are drawn on."""

ALIASES = {"Infiltrate": "Infiltration"}


@dataclass(frozen=True)
class Box:
    """One finding's rectangle, in pixels of the 1024×1024 picture, from its upper left corner."""

    finding: str
    x: float
    y: float
    width: float
    height: float

    def scaled(self, factor: float) -> Box:
        """The box in a picture resized by `factor`."""
        return Box(self.finding, *(factor * value for value in (self.x, self.y, self.width,
                                                                self.height)))


def read_boxes(path: str | PathLike) -> dict[str, list[Box]]:
    """The boxes of each image, by NIH's file name.

    The table's header has six names for nine cells (`Image Index,Finding Label,Bbox [x,y,w,h],,,`),
    so cells count by their place.

    Raises:
        InputError: If the file cannot be read, or a box is not four numbers inside the picture.
    """
    table = Path(path)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not a table that can be read ({error})") from error
    if not rows or rows[0][:2] != ["Image Index", "Finding Label"]:
        raise InputError(f"{table}: not NIH's bounding boxes; its header begins "
                         f"{','.join(rows[0][:2]) if rows else 'nowhere'}")
    boxes: dict[str, list[Box]] = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            x, y, width, height = (float(cell) for cell in row[2:6])
        except ValueError as error:
            raise InputError(f"{table}: line {number} is no box ({error})") from error
        if min(x, y) < 0 or min(width, height) <= 0 or max(x + width, y + height) > SIDE + 1:
            raise InputError(f"{table}: line {number}: {x:g},{y:g},{width:g},{height:g} is no box "
                             f"inside {SIDE}x{SIDE} pixels")
        finding = row[1].strip().replace("_", " ")
        boxes.setdefault(row[0], []).append(
            Box(ALIASES.get(finding, finding), x, y, width, height))
    return boxes
