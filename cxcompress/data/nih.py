"""NIH ChestX-ray14: the folder as it is downloaded, or a part of it.

    collection = open_nih("ChestX-ray14")
    collection.test.about["view"]                # PA or AP; "sex" and "age" too

The folder holds `Data_Entry_2017.csv` (or `Data_Entry_2017_v2020.csv`, or Kaggle's
`sample_labels.csv`) and the PNGs anywhere below it. The official `test_list.txt` makes the test
part, and an eighth of the other patients the val part; without it 70, 10 and 20% of the patients,
always the same for the same rows, are train, val and test. `BBox_List_2017.csv` is read by
`nih_boxes.py`.

Reference: Wang et al. (2017), ChestX-ray8.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from cxcompress.data.collection import Collection
from cxcompress.data.label_tables import (
    LabelRow,
    Opening,
    Pictures,
    finished,
    part_of,
    read_table,
    require_images,
    sex_of,
    unknown_labels,
    years,
)
from cxcompress.data.splits import hold_out, three_parts
from cxcompress.data.synthetic_cxr import CXR14
from cxcompress.errors import InputError

logger = logging.getLogger(__name__)

CREDIT = "NIH Clinical Center, ChestX-ray14 (Wang et al. 2017); free to use, credit asked."
NO_FINDING = "No Finding"
TABLE = re.compile(r"Data_Entry_2017.*\.csv|sample_labels\.csv")


def is_nih(folder: Path) -> bool:
    """Whether a folder holds NIH's label table."""
    return bool(tables(folder))


def tables(folder: Path) -> list[Path]:
    """NIH's label tables in a folder."""
    return sorted(file for file in folder.glob("*.csv") if TABLE.fullmatch(file.name))


def label_rows(table: Path) -> tuple[list[LabelRow], dict[str, int]]:
    """The rows of a table in NIH's layout, and its labels that are no class.

    Raises:
        InputError: If its columns are not NIH's.
    """
    rows, names = [], []
    try:
        for row in read_table(table):
            listed = [name.strip().replace("_", " ") for name in row["Finding Labels"].split("|")]
            names += listed
            rows.append(LabelRow(
                row["Image Index"].strip(), row["Patient ID"].strip().zfill(8),
                tuple(float(name in listed) for name in CXR14),
                view=(row.get("View Position") or "").strip(), age=years(row.get("Patient Age")),
                sex=sex_of(row.get("Patient Gender") or row.get("Patient Sex"))))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{table}: not NIH's columns ({error!r})") from error
    return rows, unknown_labels(names, (*CXR14, NO_FINDING))


def open_nih(path: str | PathLike, opening: Opening | None = None) -> Collection:
    """Open a folder of NIH ChestX-ray14 as a multilabel collection.

    Raises:
        InputError: If the table cannot be read, no listed picture is there, or (strict) anything
            is amiss.
    """
    folder, opening = Path(path), opening or Opening()
    found = tables(folder)
    if not found:
        raise InputError(f"{path}: has no label table of NIH ChestX-ray14 (Data_Entry_2017.csv)")
    table, pictures = found[0], Pictures(folder)
    rows, unknown = label_rows(table)
    part, intake = part_of(table, rows, pictures, opening)
    everything = require_images(table, part, rows, intake)
    collection = Collection(str(path), "multilabel", CXR14, None, None, None, patients_known=True,
                            credit=CREDIT)
    test_list = folder / "test_list.txt"
    if test_list.is_file():
        tests = np.isin(everything.image_id, test_list.read_text("utf-8").split())
        rest, test = (everything.select(np.flatnonzero(chosen)) for chosen in (~tests, tests))
        train, val = rest, None
        if len(np.unique(rest.patient_id)) > 1:
            train, val = hold_out(rest, 1 / 8, 0, patients_known=True)
        parts = {"train": train, "val": val, "test": test}
        collection = replace(collection, **{name: part if part is not None and len(part) else None
                                            for name, part in parts.items()})
    else:
        train, val, test = three_parts(everything, patients_known=True)
        logger.info("%s: no test_list.txt; patients are divided 70/10/20", path)
        collection = replace(collection, train=train, val=val, test=test)
    return finished(collection, replace(intake, unknown_labels=unknown), pictures,
                    (row.image for row in rows), opening)
