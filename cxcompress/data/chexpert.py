"""CheXpert: the folder as it is downloaded (`train.csv`, `valid.csv`, perhaps `test.csv`).

    collection = open_chexpert("CheXpert-v1.0-small")

Frontal radiographs only. Of the 14 labels 1 is positive; 0 and a blank (not mentioned) are
negative; -1 (uncertain) is unknown, NaN, and neither trains nor counts. `test.csv` is the test
part and `valid.csv` the val part; without a `test.csv`, `valid.csv` is the test part, since its
labels are the radiologists', and there is no val part.

Reference: Irvin et al. (2019), CheXpert.
"""

from __future__ import annotations

import csv
import logging
import re
from os import PathLike
from pathlib import Path

import numpy as np

from cxcompress.data.collection import Collection, Part
from cxcompress.data.image_folder import ImageFiles
from cxcompress.errors import InputError

logger = logging.getLogger(__name__)

CHEXPERT = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity",
            "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax",
            "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices")
"""The 14 observations, in CheXpert's order."""

VALUES = {"": 0.0, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "-1": np.nan, "-1.0": np.nan}


def is_chexpert(folder: Path) -> bool:
    """Whether a folder holds CheXpert's tables."""
    return any((folder / name).is_file() for name in ("train.csv", "valid.csv"))


def open_chexpert(path: str | PathLike) -> Collection:
    """Open a CheXpert folder as a multilabel collection.

    Raises:
        InputError: If a table cannot be read or none of its pictures is there.
    """
    folder = Path(path)
    parts = {name: _part(folder, folder / f"{name}.csv") for name in ("train", "valid", "test")
             if (folder / f"{name}.csv").is_file()}
    if not parts:
        raise InputError(f"{path}: has no train.csv or valid.csv")
    val, test = parts.get("valid"), parts.get("test")
    if test is None:
        val, test = None, val
    return Collection(str(path), "multilabel", CHEXPERT, parts.get("train"), val, test,
                      patients_known=True,
                      credit="CheXpert (Irvin et al. 2019), Stanford research use agreement.")


def _part(folder: Path, table: Path) -> Part:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file)
                    if row.get("Frontal/Lateral", "Frontal") == "Frontal"]
        records = [(row["Path"], [VALUES[(row[name] or "").strip()] for name in CHEXPERT])
                   for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InputError(f"{table}: not CheXpert's columns or values ({error!r})") from error
    files = [_find(folder, name) for name, _ in records]
    present = [row for row, file in enumerate(files) if file is not None]
    if not present:
        raise InputError(f"{table}: none of its {len(records)} frontal pictures is in the folder")
    if len(present) < len(records):
        logger.info("%s: %d of %d frontal pictures are there and used", table, len(present),
                    len(records))
    names = [records[row][0] for row in present]
    patients = [re.search(r"patient\d+", name) for name in names]
    if None in patients:
        raise InputError(f"{table}: {names[patients.index(None)]} names no patient")
    return Part(ImageFiles([files[row] for row in present]),
                np.array([records[row][1] for row in present], np.float32), np.array(names),
                np.array([patient[0] for patient in patients]))


def _find(folder: Path, name: str) -> Path | None:
    """The picture of a table's path, which begins with the name that the folder first had."""
    below = Path(*Path(name).parts[1:])
    return next((file for file in (folder / below, folder / name) if file.is_file()), None)
