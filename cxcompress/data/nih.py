"""NIH ChestX-ray14 and NIH-CXR-LT: the folder as it is downloaded, or a part of it.

    collection = open_nih("ChestX-ray14")

The folder holds one label table (`Data_Entry_2017.csv`, `Data_Entry_2017_v2020.csv`, Kaggle's
`sample_labels.csv`, or NIH-CXR-LT's three `…_labels_{train,val,test}.csv`) and the PNGs anywhere
below it. Rows without a picture are left out and counted. ChestX-ray14's `test_list.txt` makes the
test part; without it a fifth of the patients, always the same for the same rows.

References: Wang et al. (2017), ChestX-ray8; Holste et al. (2022), long-tailed classification of
thorax diseases.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from cxcompress.data.collection import Collection, Part
from cxcompress.data.image_folder import ImageFiles
from cxcompress.data.splits import hold_out
from cxcompress.data.synthetic_cxr import CXR14
from cxcompress.errors import InputError

logger = logging.getLogger(__name__)

LONG_TAILED = re.compile(r".*labels_(train|val|test)\.csv", re.IGNORECASE)

CREDIT = "NIH Clinical Center, ChestX-ray14 (Wang et al. 2017); free to use, credit asked."


def is_nih(folder: Path) -> bool:
    """Whether a folder holds one of NIH's label tables."""
    return bool(_tables(folder))


def open_nih(path: str | PathLike) -> Collection:
    """Open a folder of NIH ChestX-ray14 as a multilabel collection.

    Raises:
        InputError: If the table cannot be read or no listed picture is there.
    """
    folder = Path(path)
    tables = _tables(folder)
    if not tables:
        raise InputError(f"{path}: has no label table of NIH ChestX-ray14 (Data_Entry_2017.csv)")
    files = {file.name: file for file in folder.rglob("*.png")}
    long_tailed = {LONG_TAILED.fullmatch(table.name)[1].lower(): table for table in tables
                   if LONG_TAILED.fullmatch(table.name)}
    if long_tailed:
        classes = tuple(name for name in _rows(next(iter(long_tailed.values())))[0]
                        if name not in ("id", "subj_id"))
        parts = {part: _part(table, files, classes, _multi_hot_row) for part, table
                 in long_tailed.items()}
        return Collection(str(path), "multilabel", classes,
                          *(parts.get(part) for part in ("train", "val", "test")),
                          patients_known=True, credit=CREDIT)
    everything = _part(tables[0], files, CXR14, _listed_row)
    collection = Collection(str(path), "multilabel", CXR14, None, None, None, patients_known=True,
                            credit=CREDIT)
    test_list = folder / "test_list.txt"
    if test_list.is_file():
        tests = np.isin(everything.image_id, test_list.read_text("utf-8").split())
        train, test = (everything.select(np.flatnonzero(rows)) for rows in (~tests, tests))
        return replace(collection, train=train if len(train) else None,
                       test=test if len(test) else None)
    train, test = hold_out(everything, 0.2, 0, patients_known=True)
    logger.info("%s: no test_list.txt; %d images of a fifth of the patients are the test part",
                path, len(test))
    return replace(collection, train=train, test=test)


def _tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.csv")
                  if re.fullmatch(r"Data_Entry_2017.*|sample_labels", file.stem)
                  or (LONG_TAILED.fullmatch(file.name) and "nih" in file.name.lower()))


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not a table that can be read ({error})") from error
    if not rows:
        raise InputError(f"{table}: holds no row")
    return rows


def _listed_row(row: dict, classes: Iterable[str]) -> tuple[str, str, list[float]]:
    found = {name.replace("_", " ") for name in row["Finding Labels"].split("|")}
    return row["Image Index"], row["Patient ID"], [float(name in found) for name in classes]


def _multi_hot_row(row: dict, classes: Iterable[str]) -> tuple[str, str, list[float]]:
    return row["id"], row["id"].split("_")[0], [float(row[name]) for name in classes]


def _part(table: Path, files: dict[str, Path], classes: tuple[str, ...], read) -> Part:
    rows = _rows(table)
    try:
        records = [read(row, classes) for row in rows]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{table}: not NIH's columns ({error!r})") from error
    present = [record for record in records if record[0] in files]
    if not present:
        raise InputError(f"{table}: none of its {len(records)} pictures is in the folder, the "
                         f"first is {records[0][0]}")
    if len(present) < len(records):
        logger.info("%s: %d of %d pictures are there and used", table, len(present), len(records))
    names, patients, labels = zip(*present, strict=True)
    return Part(ImageFiles([files[name] for name in names]), np.array(labels, np.float32),
                np.array(names), np.array([patient.zfill(8) for patient in patients]))
