"""Fields of annotated nuclei: SHIDC-B-Ki-67 folders, and `synthetic:ki67` in the same form.

    collection = open_shidc("SHIDC-B-Ki-67")               # Train/*.jpg + *.json, Test/ likewise
    collection = open_synthetic_ki67("synthetic:ki67_256", count=120)

Beside each image lies a JSON of the same name: `[{"x": 67, "y": 21, "label_id": 1}, …]`, pixels of
the image as it is stored. The patient is the file name up to its first underscore.

Reference: Negahbani et al. (2021), PathoNet, Scientific Reports 11:8489.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part
from cxcompress.data.image_folder import ImageFiles, part_folders
from cxcompress.data.splits import hold_out
from cxcompress.errors import InputError
from cxcompress.images.reading import SUFFIXES

NUCLEI = ("immunopositive", "immunonegative", "tumour-infiltrating lymphocyte")
"""Class names; `label_id` 1, 2, 3."""


def is_shidc(folder: Path) -> bool:
    """Whether a part folder holds annotation files."""
    return any(next(inside.glob("*.json"), None) for inside in part_folders(folder).values())


def open_shidc(path: str | PathLike) -> Collection:
    """Open a folder in SHIDC-B-Ki-67's layout.

    Raises:
        InputError: If no image is found, or an image lacks a readable annotation.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{path}: no such folder")
    parts = {}
    for part, folder in part_folders(root).items():
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
        if files:
            parts[part] = Part(
                ImageFiles(files), [read_cells(file.with_suffix(".json")) for file in files],
                np.array([file.relative_to(root).as_posix() for file in files]),
                np.array([file.stem.split("_")[0] for file in files]))
    if not parts:
        raise InputError(f"{path}: no images in Train or Test; expected Train/p0001_01.jpg with "
                         "Train/p0001_01.json")
    return Collection(str(path), "nuclei", NUCLEI,
                      *(parts.get(part) for part in ("train", "val", "test")),
                      patients_known=True)


def read_cells(path: str | PathLike) -> NDArray[np.int64]:
    """Read one annotation file.

    Returns:
        int64 `(cells, 3)`: x, y in pixels, label_id 1, 2 or 3.

    Raises:
        InputError: If the file is missing or is not such a list.
    """
    try:
        entries = json.loads(Path(path).read_text("utf-8"))
        cells = np.array([[int(entry[key]) for key in ("x", "y", "label_id")] for entry in entries],
                         np.int64).reshape(-1, 3)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; every image needs its annotation") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a list of cells with x, y and label_id ({error!r})"
                         ) from error
    stray = cells[~np.isin(cells[:, 2], (1, 2, 3))]
    if len(stray):
        raise InputError(f"{path}: label_id {stray[0, 2]}; allowed are 1, 2 and 3")
    return cells


def open_synthetic_ki67(name: str = "synthetic:ki67", *, size: int | None = None,
                        count: int | None = None, seed: int = 0) -> Collection:
    """Draw a collection of generated Ki-67 fields.

    Args:
        name: `synthetic:ki67`, with a size `synthetic:ki67_128`; `synthetic:ki67wide` for more
            laboratories (`ki67_variation.py`).
        size: Width and height in pixels; before the name's, which is 256 if not given.
        count: Number of fields in all parts, at least 24. Default 120, of 20 patients.
        seed: Another seed is another cohort.

    Returns:
        A nuclei `Collection`; the test patients are those of `synthetic_ki67.write_fields`.

    Raises:
        InputError: If the name or a number is out of range.
    """
    from cxcompress.data.synthetic_ki67 import FIELD_MICRONS, _is_test, generate_fields

    match = re.fullmatch(r"synthetic:ki67(wide)?(?:_(\d{2,4}))?", name)
    if match is None:
        raise InputError(f"{name}: unknown; write synthetic:ki67, synthetic:ki67_128 or "
                         "synthetic:ki67wide")
    variation = "wide" if match[1] else "standard"
    size, count = int(size or match[2] or 256), 120 if count is None else int(count)
    if not 64 <= size <= 2048:
        raise InputError(f"{name}: fields are drawn at 64 to 2048 pixels, not {size}")
    if count < 24:
        raise InputError(f"{name}: a collection needs at least 24 fields for its three parts, "
                         f"not {count}")
    images = np.empty((count, size, size, 3), np.uint8)
    cells, patient_id = [], []
    for row, (image, annotated, patient) in enumerate(
            generate_fields(count, size, seed, variation=variation)):
        images[row] = image
        cells.append(annotated)
        patient_id.append(patient)
    patient_id = np.array(patient_id)
    _, first, patient = np.unique(patient_id, return_index=True, return_inverse=True)
    tests = np.array([_is_test(number) for number in np.argsort(np.argsort(first))])[patient]
    image_id = np.array([f"{who}_{row:05d}" for row, who in enumerate(patient_id)])
    everything = Part(images, cells, image_id, patient_id)
    train, val = hold_out(everything.select(np.flatnonzero(~tests)), 0.2, seed,
                          patients_known=True)
    return replace(
        Collection(name, "nuclei", NUCLEI, train, val, everything.select(np.flatnonzero(tests))),
        patients_known=True, synthetic=True, microns_per_pixel=FIELD_MICRONS / size,
        credit="Generated fields, no patient data; not for any statement about real tissue.")
