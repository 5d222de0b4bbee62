"""CheXpert: the folder as it is downloaded (`train.csv`, `valid.csv`, perhaps `test.csv`).

    collection = open_chexpert("CheXpert-v1.0-small")
    collection = open_chexpert("CheXpert-v1.0-small", Opening(uncertain="ones"))

Frontal radiographs only. Of the 14 labels 1 is positive; 0 and a blank (not mentioned) are
negative; -1 (uncertain) is unknown, NaN, and neither trains nor counts, or as `uncertain` says:
`"zeros"`, `"ones"`. `test.csv` is the test part and `valid.csv` the val part; without a
`test.csv`, `valid.csv` is the test part, since its labels are the radiologists', and there is no
val part.

Reference: Irvin et al. (2019), CheXpert.
"""

from __future__ import annotations

import re
from dataclasses import replace
from os import PathLike
from pathlib import Path

from cxcompress.data.collection import Collection
from cxcompress.data.intake import Intake
from cxcompress.data.label_tables import (
    LabelRow,
    Opening,
    Pictures,
    finished,
    multi_hot,
    part_of,
    read_table,
    require_images,
    sex_of,
    years,
)
from cxcompress.errors import InputError

CHEXPERT = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity",
            "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax",
            "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices")
"""The 14 observations, in CheXpert's order."""

LATERAL = "lateral radiographs"


def is_chexpert(folder: Path) -> bool:
    """Whether a folder holds CheXpert's tables."""
    for name in ("train.csv", "valid.csv"):
        if (folder / name).is_file():
            with (folder / name).open(encoding="utf-8-sig", errors="replace") as file:
                # An empty or broken table is still CheXpert's: it is named in the error.
                return not file.readline().lower().startswith("imageid")
    return False


def open_chexpert(path: str | PathLike, opening: Opening | None = None) -> Collection:
    """Open a CheXpert folder as a multilabel collection.

    Raises:
        InputError: If a table cannot be read or none of its pictures is there.
    """
    folder, opening = Path(path), opening or Opening()
    pictures = Pictures(folder)
    parts, intake, named = {}, Intake(), []
    for name in ("train", "valid", "test"):
        table = folder / f"{name}.csv"
        if not table.is_file():
            continue
        rows, lateral = _rows(table, opening)
        part, counted = part_of(table, rows, pictures, opening)
        parts[name] = require_images(table, part, rows, counted)
        intake += replace(counted, rows=len(rows) + len(lateral),
                          left_out={LATERAL: len(lateral)} if lateral else {})
        named += [*(row.image for row in rows), *lateral]
    if not parts:
        raise InputError(f"{path}: has no train.csv or valid.csv")
    val, test = parts.get("valid"), parts.get("test")
    if test is None:
        val, test = None, val
    collection = Collection(str(path), "multilabel", CHEXPERT, parts.get("train"), val, test,
                            patients_known=True,
                            credit="CheXpert (Irvin et al. 2019), Stanford research use agreement.")
    return finished(collection, intake, pictures, named, opening)


def _rows(table: Path, opening: Opening) -> tuple[list[LabelRow], list[str]]:
    """Frontal radiographs, and the names of lateral ones."""
    rows, lateral = [], []
    for row in read_table(table):
        try:
            if row.get("Frontal/Lateral", "Frontal") != "Frontal":
                lateral.append(row["Path"])
                continue
            patient = re.search(r"patient\d+", row["Path"])
            # Not mentioned in the report: negative.
            labels = multi_hot(table, row, CHEXPERT, opening, blank=0.0)
            rows.append(LabelRow(
                row["Path"], patient[0] if patient else "", labels,
                view=(row.get("AP/PA") or "").strip(), age=years(row.get("Age")),
                sex=sex_of(row.get("Sex"))))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{table}: not CheXpert's columns or values ({error!r})") from error
        if patient is None:
            raise InputError(f"{table}: {row['Path']} names no patient")
    if not rows:
        raise InputError(f"{table}: holds no frontal radiograph")
    return rows, lateral

