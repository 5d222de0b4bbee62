"""The NIH sample as the adaptive fine-tuning study of MedImaging divides it: two sets, two tables.

    collection = open_medimaging("medimaging")

    medimaging/dataset_full/14_train.csv             image, its findings ("Effusion|Mass")
    medimaging/dataset_cardiomegaly/train.csv        imageID, disease: Cardiomegaly or No Finding
    medimaging/dataset_cardiomegaly/test.csv         the same

and the PNGs anywhere below. Images of the second set were read for cardiomegaly alone: their other
13 labels are unknown (NaN), which is the study's *task-padding mask*, and masked in loss and
metrics. Where both tables name an image, the row of 14 labels counts. The study divided *images* at
random, so that patients are on both sides; here patients are divided anew, 70/10/20, and
`train.csv` and `test.csv` of the second set are pooled.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from os import PathLike
from pathlib import Path

from cxcompress.data.collection import Collection
from cxcompress.data.label_tables import (
    LabelRow,
    Opening,
    Pictures,
    finished,
    part_of,
    read_table,
    require_images,
    unknown_labels,
)
from cxcompress.data.nih import CREDIT, NO_FINDING
from cxcompress.data.splits import three_parts
from cxcompress.errors import InputError

logger = logging.getLogger(__name__)

MEDIMAGING = ("Effusion", "Nodule", "Fibrosis", "Cardiomegaly", "Mass", "Pneumothorax", "Edema",
              "Consolidation", "Pneumonia", "Hernia", "Infiltration", "Pleural Thickening",
              "Atelectasis", "Emphysema")
"""The 14 classes in the study's order."""

CARDIOMEGALY = "Cardiomegaly"


def is_medimaging(folder: Path) -> bool:
    """Whether a folder holds the study's table of 14 labels."""
    return _full_table(folder) is not None


def _full_table(folder: Path) -> Path | None:
    return next((table for table in (folder / "dataset_full" / "14_train.csv",
                                     folder / "14_train.csv") if table.is_file()), None)


def open_medimaging(path: str | PathLike, opening: Opening | None = None) -> Collection:
    """Open the study's folder as a multilabel collection.

    Raises:
        InputError: If a table cannot be read or none of its pictures is there.
    """
    folder, opening = Path(path), opening or Opening()
    table = _full_table(folder)
    if table is None:
        raise InputError(f"{path}: has no dataset_full/14_train.csv")
    rows, unknown = _rows(table, full=True)
    full = {row.image for row in rows}
    padded = 0
    for name in ("train.csv", "test.csv"):
        single = folder / "dataset_cardiomegaly" / name
        if single.is_file():
            more, stray = _rows(single, full=False)
            new = [row for row in more if row.image not in full]
            padded += len(new)
            rows += new
            unknown |= stray
    pictures = Pictures(folder)
    part, intake = part_of(table, rows, pictures, opening)
    train, val, test = three_parts(require_images(table, part, rows, intake), patients_known=True)
    logger.info("%s: %d of %d rows tell of cardiomegaly alone, their other labels are masked; "
                "patients are divided 70/10/20, since the study's own division has patients on "
                "both sides", path, padded, len(rows))
    collection = Collection(str(path), "multilabel", MEDIMAGING, train, val, test,
                            patients_known=True, credit=CREDIT)
    return finished(collection, replace(intake, unknown_labels=unknown), pictures,
                    (row.image for row in rows), opening)


def _rows(table: Path, *, full: bool) -> tuple[list[LabelRow], dict[str, int]]:
    cells = read_table(table)
    image = next((name for name in cells[0] if name and name.lower() in
                  ("imageid", "image index", "image_index", "image")), None)
    labels = next((name for name in cells[0] if name and name.lower() in
                   ("disease", "diseases", "finding labels", "labels")), None)
    if image is None or labels is None:
        raise InputError(f"{table}: not the study's columns imageID and disease, but "
                         f"{', '.join(filter(None, cells[0]))}")
    rows, names = [], []
    for cell in cells:
        name = Path(cell[image] or "").name
        name += "" if name.lower().endswith(".png") else ".png"
        found = [label.strip().replace("_", " ") for label in (cell[labels] or "").split("|")]
        names += found
        rows.append(LabelRow(name, name.split("_")[0], tuple(
            float(label in found) if full or label == CARDIOMEGALY else float("nan")
            for label in MEDIMAGING)))
    return rows, unknown_labels(names, (*MEDIMAGING, NO_FINDING, ""))
