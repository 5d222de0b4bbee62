"""HAM10000: dermatoscopic images of seven kinds of skin lesions, split by lesion.

    collection = open_ham10000("HAM10000")

The folder as it is published: `HAM10000_metadata.csv` (or `.tab`, or without a suffix) with the
columns `lesion_id`, `image_id` and `dx`, and the JPEGs anywhere below it
(`HAM10000_images_part_1/`, `HAM10000_images_part_2/`). 10,015 images show 7,470 lesions, some from
several sides, so images of one lesion never fall on both sides of a split: a fifth of the lesions,
always the same, is the test part.

Reference: Tschandl et al. (2018), "The HAM10000 dataset", Scientific Data 5:180161.
"""

from __future__ import annotations

import csv
import logging
from os import PathLike
from pathlib import Path

import numpy as np

from cxcompress.data.collection import Collection, Part
from cxcompress.data.image_folder import ImageFiles
from cxcompress.data.splits import hold_out
from cxcompress.errors import InputError

logger = logging.getLogger(__name__)

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
"""Actinic keratoses, basal cell carcinoma, benign keratosis, dermatofibroma, melanoma, naevi,
vascular lesions."""
COLUMNS = ("lesion_id", "image_id", "dx")
TEST_SHARE = 0.2
CREDIT = "HAM10000 (Tschandl et al. 2018), CC BY-NC-SA 4.0."


def is_ham10000(folder: Path) -> bool:
    """Whether a folder holds the published table."""
    return _table(folder) is not None


def open_ham10000(path: str | PathLike) -> Collection:
    """Open a HAM10000 folder as a multiclass collection; lesions stand for patients.

    Raises:
        InputError: If the table cannot be read, names an unknown diagnosis, or none of its
            pictures is there.
    """
    folder = Path(path)
    table = _table(folder)
    if table is None:
        raise InputError(f"{path}: has no HAM10000_metadata.csv")
    rows = _rows(table)
    files = {file.stem: file for file in sorted(folder.rglob("*"))
             if file.suffix.lower() in (".jpg", ".jpeg", ".png")}
    present = [row for row in rows if row["image_id"] in files]
    if not present:
        raise InputError(f"{table}: none of its {len(rows)} pictures is in the folder, the first "
                         f"is {rows[0]['image_id']}.jpg")
    if len(present) < len(rows):
        logger.info("%s: %d of %d pictures are there and used", table, len(present), len(rows))
    labels = np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(row["dx"]) for row in present]]
    everything = Part(
        ImageFiles([files[row["image_id"]] for row in present]), labels,
        np.array([row["image_id"] for row in present]),
        np.array([row["lesion_id"] for row in present]))
    train, test = hold_out(everything, TEST_SHARE, 0, patients_known=True)
    return Collection(str(path), "multiclass", CLASSES, train, None, test, patients_known=True,
                      credit=CREDIT)


def _table(folder: Path) -> Path | None:
    for name in ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata"):
        if (folder / name).is_file():
            return folder / name
    return None


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter="\t" if "\t" in head else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not a table that can be read ({error})") from error
    if not rows or any(column not in rows[0] for column in COLUMNS):
        raise InputError(f"{table}: needs rows with the columns {', '.join(COLUMNS)}")
    for number, row in enumerate(rows, start=2):
        row["dx"] = (row["dx"] or "").strip().strip('"').lower()
        if row["dx"] not in CLASSES:
            raise InputError(f"{table}, line {number}: diagnosis {row['dx']!r}; expected one of "
                             f"{', '.join(CLASSES)}")
        if not row["lesion_id"] or not row["image_id"]:
            raise InputError(f"{table}, line {number}: has no lesion_id or image_id")
    return rows
