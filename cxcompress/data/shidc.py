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
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part
from cxcompress.data.image_folder import ImageFiles, part_folders
from cxcompress.data.splits import hold_out
from cxcompress.errors import InputError
from cxcompress.images.reading import SUFFIXES, image_shape

NUCLEI = ("immunopositive", "immunonegative", "tumour-infiltrating lymphocyte")
"""Class names; `label_id` 1, 2, 3."""
LAYOUT = ("expected SHIDC-B-Ki-67's layout: Train/p0001_01.jpg with Train/p0001_01.json "
          "(a list of cells with x, y and label_id), the same in Test")
GENERATED = "Generated fields, no patient data; not for any statement about real tissue."
MARKER = "synthetic_ki67.json"
"""What `synthetic_ki67.write_fields` leaves beside the parts, and what derived folders keep."""


def is_shidc(folder: Path) -> bool:
    """Whether a part folder holds annotation files."""
    return any(next(inside.glob("*.json"), None) for inside in part_folders(folder).values())


def open_shidc(path: str | PathLike) -> Collection:
    """Open a folder in SHIDC-B-Ki-67's layout.

    The patient is what stands before the first `_` of a file's own name. Folders that
    `synthetic_ki67.write_fields` or `preprocessing.py` wrote say themselves whether their fields
    are generated, and at which scale.

    Raises:
        InputError: If no image is found, an image lacks a readable annotation that fits it, or an
            annotation lacks its image.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{path}: no such folder")
    parts = {}
    for part, folder in part_folders(root).items():
        if files := annotated_files(folder):
            parts[part] = Part(
                ImageFiles(files), read_annotations(files),
                np.array([file.relative_to(root).as_posix() for file in files]),
                np.array([patient_of(file) for file in files]))
    if not parts:
        raise InputError(f"{path}: no images in Train or Test; {LAYOUT}")
    about = _marker(root)
    return Collection(str(path), "nuclei", NUCLEI,
                      *(parts.get(part) for part in ("train", "val", "test")),
                      patients_known=True, synthetic=about.get("synthetic", False),
                      microns_per_pixel=about.get("microns_per_pixel"),
                      credit=GENERATED if about.get("synthetic") else "")


def patient_of(file: Path) -> str:
    """The patient of `p0007_03.jpg`: `p0007`, whatever its folders are called."""
    return file.stem.split("_")[0]


def annotated_files(folder: Path) -> list[Path]:
    """The images of a folder, each of which has its annotation; sorted by name.

    Raises:
        InputError: If an annotation has no image, or two images share a name.
    """
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    files = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
    stems = {file.stem: file for file in reversed(files)}
    if len(stems) < len(files):
        twice = next(file for file in files if stems[file.stem] != file)
        raise InputError(f"{twice}: another image has the same name, {stems[twice.stem].name}; "
                         "give them names of their own")
    for entry in entries:
        if entry.suffix.lower() == ".json" and entry.stem not in stems:
            raise InputError(f"{entry}: has no image beside it ({entry.stem}.jpg or .png); add the "
                             "image or remove the annotation")
    return files


def _marker(root: Path) -> dict:
    """What a folder that this package wrote says of itself."""
    try:
        about = json.loads((root / MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(about, dict):
        return {}
    scale = about.get("microns_per_pixel")
    return {"synthetic": "generated" in str(about.get("note", "")),
            "microns_per_pixel": float(scale) if isinstance(scale, int | float) and scale > 0
            else None}


def read_annotations(files: Sequence[Path]) -> list[NDArray[np.int64]]:
    """The cells of many image files, int64 `(cells, 3)` each; faults are named before work begins.

    Raises:
        InputError: As `read_cells`.
    """
    return [read_cells(file.with_suffix(".json"), image_shape(file)[:2]) for file in files]


def read_cells(
    path: str | PathLike, shape: tuple[int, int] | None = None
) -> NDArray[np.int64]:
    """Read one annotation file.

    Args:
        path: A JSON list of `{"x": …, "y": …, "label_id": …}`.
        shape: Height and width of its image, where cells outside are to be refused. One pixel
            beyond the right and the lower edge is taken as on the edge: annotation tools
            round so.

    Returns:
        int64 `(cells, 3)`: x, y in pixels, label_id 1, 2 or 3.

    Raises:
        InputError: If the file is missing, is not such a list, or does not fit its image.
    """
    try:
        text = Path(path).read_text("utf-8")
        if not text.strip():
            raise InputError(f"{path}: empty; an image without cells has the annotation []")
        entries = json.loads(text)
        if not isinstance(entries, list):
            raise TypeError(type(entries).__name__)
        cells = np.array([[int(entry[key]) for key in ("x", "y", "label_id")] for entry in entries],
                         np.int64).reshape(-1, 3)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; every image needs its annotation") from error
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: not a list of cells with x, y and label_id ({error!r:.120})"
                         ) from error
    stray = cells[~np.isin(cells[:, 2], (1, 2, 3))]
    if len(stray):
        raise InputError(f"{path}: label_id {stray[0, 2]}; allowed are 1, 2 and 3")
    if shape is not None:
        limits = np.array([shape[1], shape[0]])
        outside = cells[((cells[:, :2] < 0) | (cells[:, :2] > limits)).any(axis=1)]
        if len(outside):
            raise InputError(f"{path}: a cell at x {outside[0, 0]}, y {outside[0, 1]} lies outside "
                             f"its image of {shape[1]}x{shape[0]} pixels; remove or mend it")
        cells[:, :2] = np.minimum(cells[:, :2], limits - 1)
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
        credit=GENERATED)
