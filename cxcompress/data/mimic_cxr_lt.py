"""MIMIC-CXR-LT: MIMIC-CXR with 19 long-tailed classes, split by patient.

    collection = open_mimic_cxr_lt("MIMIC-CXR-LT")

The folder holds `miccai2023_mimic-cxr-lt_labels_{train,val,test}.csv` (multi-hot columns, key
`path` = `files/p10/p10000032/s50414267/….jpg`, perhaps `subject_id`, `ViewPosition`) and the JPEGs
(or DICOMs) under those paths, with or without the leading folders.

Reference: Holste et al. (2022); Johnson et al. (2019), MIMIC-CXR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from cxcompress.data import cxr_lt
from cxcompress.data.collection import Collection
from cxcompress.data.label_tables import LabelRow, Opening, sex_of, years
from cxcompress.errors import InputError

MIMIC_LT = ("Support Devices", "Lung Opacity", "Cardiomegaly", "Pleural Effusion", "Atelectasis",
            "Pneumonia", "Edema", "No Finding", "Enlarged Cardiomediastinum", "Consolidation",
            "Pneumothorax", "Fracture", "Calcification of the Aorta", "Tortuous Aorta",
            "Subcutaneous Emphysema", "Lung Lesion", "Pneumomediastinum", "Pneumoperitoneum",
            "Pleural Other")
"""The 19 classes, from the most to the least frequent."""

IDENTITY = ("path", "dicom_id", "subject_id", "subj_id", "study_id", "ViewPosition", "age", "sex",
            "gender", "split")
CREDIT = "MIMIC-CXR-LT (Holste et al. 2022), from MIMIC-CXR; PhysioNet credentialed use."


def is_mimic_cxr_lt(folder: Path) -> bool:
    """Whether a folder holds MIMIC-CXR-LT's tables."""
    return bool(cxr_lt.tables(folder, "mimic"))


def open_mimic_cxr_lt(path: str | PathLike, opening: Opening | None = None) -> Collection:
    """Open a folder of MIMIC-CXR-LT as a multilabel collection.

    Raises:
        InputError: If a table cannot be read, a path names no patient, or no picture is there.
    """
    if not is_mimic_cxr_lt(Path(path)):
        raise InputError(f"{path}: has no miccai2023_mimic-cxr-lt_labels_train.csv")

    def row_of(row: Mapping[str, str]) -> LabelRow:
        name = row["path"].strip()
        # Folder p10 holds the patients p10…; the patient's own folder has eight figures.
        inside = re.search(r"(?:^|/)p(\d{8})/", name)
        patient = row.get("subject_id") or row.get("subj_id") or (inside and inside[1])
        if not patient:
            raise InputError(f"{path}: {name} names no patient (…/p10000032/…)")
        return LabelRow(name, str(patient).strip(), (),
                        view=(row.get("ViewPosition") or "").strip(), age=years(row.get("age")),
                        sex=sex_of(row.get("sex") or row.get("gender")))

    return cxr_lt.open_long_tailed(Path(path), "mimic", MIMIC_LT, IDENTITY, row_of, CREDIT,
                                   opening or Opening())
