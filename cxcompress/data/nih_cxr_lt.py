"""NIH-CXR-LT: ChestX-ray14 with 20 long-tailed classes, split by patient.

    collection = open_nih_cxr_lt("NIH-CXR-LT")

The folder holds `miccai2023_nih-cxr-lt_labels_{train,val,test}.csv` (multi-hot columns, key `id`
= NIH's file name, perhaps `subj_id`) and the PNGs anywhere below it. With NIH's
`Data_Entry_2017.csv` beside them, view, sex and age are kept too.

Reference: Holste et al. (2022), Long-tailed classification of thorax diseases on chest X-ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

from cxcompress.data import cxr_lt, nih
from cxcompress.data.collection import Collection
from cxcompress.data.label_tables import LabelRow, Opening
from cxcompress.errors import InputError

NIH_LT = ("No Finding", "Infiltration", "Effusion", "Atelectasis", "Nodule", "Mass",
          "Consolidation", "Pneumothorax", "Pleural Thickening", "Cardiomegaly", "Emphysema",
          "Edema", "Fibrosis", "Subcutaneous Emphysema", "Pneumonia", "Tortuous Aorta",
          "Calcification of the Aorta", "Pneumoperitoneum", "Hernia", "Pneumomediastinum")
"""The 20 classes, from the most to the least frequent."""

CREDIT = ("NIH-CXR-LT (Holste et al. 2022), from NIH Clinical Center's ChestX-ray14 (Wang et al. "
          "2017); credit asked.")


def is_nih_cxr_lt(folder: Path) -> bool:
    """Whether a folder holds NIH-CXR-LT's tables."""
    return bool(cxr_lt.tables(folder, "nih"))


def open_nih_cxr_lt(path: str | PathLike, opening: Opening | None = None) -> Collection:
    """Open a folder of NIH-CXR-LT as a multilabel collection.

    Raises:
        InputError: If a table cannot be read or none of its pictures is there.
    """
    folder = Path(path)
    if not is_nih_cxr_lt(folder):
        raise InputError(f"{path}: has no miccai2023_nih-cxr-lt_labels_train.csv")
    more = {}
    for table in nih.tables(folder)[:1]:
        more = {row.image: row for row in nih.label_rows(table)[0]}

    def row_of(row: Mapping[str, str]) -> LabelRow:
        name = row["id"].strip()
        # NIH's file names begin with the patient's number; subj_id says the same.
        bare = LabelRow(name, name.split("_")[0], ())
        known = more.get(name, bare)
        return replace(bare, view=known.view, age=known.age, sex=known.sex)

    return cxr_lt.open_long_tailed(folder, "nih", NIH_LT, ("id", "subj_id"), row_of, CREDIT,
                                   opening or Opening())
