"""Collections in one `.npz` file.

    collection = open_arrays("pneumoniamnist.npz")

Two layouts are read, neither with pickles:

- MedMNIST's: `train_images (n, h, w[, 3])` and `train_labels (n, 1)` integers, or `(n, c)` in
  {0, 1} for many labels; the same with `val_` and `test_`. Class names come from `classes` if
  there, from MedMNIST where the file is named as one of its sets (`pneumoniamnist_64.npz`), else
  they are "0", "1", ….
- One table: `images (n, h, w[, 3])`, `labels (n,)` integers or `(n, c)` in {0, 1, NaN}, `split
  (n,)` of train, val and test, `classes (c,)`; and if known `patient_id (n,)`, `image_index (n,)`
  (file names).

Images are uint8 or uint16. Integer labels make a multiclass collection, `(n, c)` a multilabel one.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part
from cxcompress.errors import InputError

PARTS = ("train", "val", "test")
MOST_CLASSES = 10_000


def open_arrays(path: str | PathLike) -> Collection:
    """Open an `.npz` collection.

    Raises:
        InputError: If the file is missing, damaged, holds pickles, or its arrays do not fit
            either layout.
    """
    name = str(path)
    arrays = _load(path)
    if any(f"{part}_images" in arrays for part in PARTS):
        return _medmnist_layout(name, arrays)
    if {"images", "labels"} <= arrays.keys():
        return _table_layout(name, arrays)
    raise InputError(f"{name}: holds {', '.join(sorted(arrays)) or 'nothing'}; expected "
                     "train_images and train_labels (MedMNIST), or images, labels, split, classes")


def _load(path) -> dict[str, NDArray]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError(f"{path}: one bare array; give an .npz with images and labels")
        with file:
            _check_sizes(file.zip)
            arrays = {key: file[key] for key in file.files}
            return {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except InputError:
        raise
    except Exception as error:  # zipfile and NumPy raise whatever they stumble on
        reason = "it holds Python objects" if "allow_pickle" in str(error) else (
            str(error) or type(error).__name__)
        raise InputError(f"{path}: not an .npz file that can be read ({reason})") from error


def _check_sizes(file: zipfile.ZipFile) -> None:
    """Raise ValueError where an array's header names more bytes than the archive holds of it.

    NumPy takes the memory that a header asks for before it reads on.
    """
    for member in file.infolist():
        if not member.filename.endswith(".npy"):
            continue
        with file.open(member) as part:
            version = np.lib.format.read_magic(part)
            read = (np.lib.format.read_array_header_1_0 if version == (1, 0)
                    else np.lib.format.read_array_header_2_0)
            shape, _, dtype = read(part)
            if dtype.hasobject:
                raise ValueError(f"{member.filename}: it holds Python objects")
            size = dtype.itemsize
            for side in shape:
                size *= int(side)
            if min(shape, default=0) < 0 or size != member.file_size - part.tell():
                raise ValueError(f"{member.filename}: {shape} of {dtype} is not what it holds")


def _medmnist_layout(name: str, arrays: Mapping[str, NDArray]) -> Collection:
    present = [part for part in PARTS if f"{part}_images" in arrays]
    labels = {}
    for part in present:
        if f"{part}_labels" not in arrays:
            raise InputError(f"{name}: has {part}_images but no {part}_labels")
        labels[part] = arrays[f"{part}_labels"]
    multilabel = all(values.ndim == 2 and values.shape[1] > 1 for values in labels.values())
    names = arrays.get("classes")
    known = _known_classes(name)
    if names is None and known is not None:
        width = (max(values.shape[1] for values in labels.values()) if multilabel
                 else 1 + max(int(values.max(initial=0)) for values in labels.values()))
        names = known if (width == len(known) or not multilabel and width < len(known)) else None
    if not multilabel and names is None:
        names = _numbered(name, labels.values())
    elif names is None:
        names = [str(label) for label in range(next(iter(labels.values())).shape[1])]
    classes = tuple(str(label) for label in names)
    parts = {}
    for part in present:
        images = _images(f"{name}: {part}_images", arrays[f"{part}_images"])
        targets = _targets(f"{name}: {part}_labels", labels[part], len(images), len(classes),
                           multilabel)
        image_id = np.array([f"{part}{row:06d}" for row in range(len(images))])
        parts[part] = Part(images, targets, image_id, image_id)
    return Collection(name, "multilabel" if multilabel else "multiclass", classes,
                      *(parts.get(part) for part in PARTS))


def _known_classes(name: str) -> list[str] | None:
    # medmnist.py opens its files with this module, so it cannot be imported above.
    from cxcompress.data.medmnist import MEDMNIST

    stem = re.sub(r"_(28|64|128|224)$", "", Path(name).stem.lower())
    return MEDMNIST[stem]["classes"] if stem in MEDMNIST else None


def _table_layout(name: str, arrays: Mapping[str, NDArray]) -> Collection:
    images = _images(f"{name}: images", arrays["images"])
    labels = arrays["labels"]
    n = len(images)
    multilabel = labels.ndim == 2 and labels.shape[1] > 1
    if "classes" in arrays:
        classes = tuple(str(label) for label in arrays["classes"].ravel())
    elif multilabel:
        classes = tuple(str(label) for label in range(labels.shape[1]))
    else:
        classes = tuple(_numbered(name, [labels]))
    targets = _targets(f"{name}: labels", labels, n, len(classes), multilabel)
    columns = {}
    for key in ("split", "patient_id", "image_index"):
        if key in arrays:
            if arrays[key].shape != (n,):
                raise InputError(f"{name}: {key} has shape {arrays[key].shape}, expected ({n},)")
            columns[key] = arrays[key].astype(str)
    if "split" not in columns:
        raise InputError(f"{name}: has no split; add an array of train, val and test, one an image")
    stray = set(columns["split"]) - set(PARTS)
    if stray:
        raise InputError(f"{name}: split holds {sorted(stray)[0]!r}; allowed are train, val, test")
    image_id = columns.get("image_index", np.array([f"image{row:06d}" for row in range(n)]))
    patient_id = columns.get("patient_id", image_id)
    everything = Part(images, targets, image_id, patient_id)
    parts = []
    for part in PARTS:
        rows = np.flatnonzero(columns["split"] == part)
        parts.append(everything.select(rows) if len(rows) else None)
    return Collection(name, "multilabel" if multilabel else "multiclass", classes, *parts,
                      patients_known="patient_id" in columns)


def _numbered(name: str, labels: Iterable[NDArray]) -> list[str]:
    """Names of classes that have none: "0", "1", … up to the highest label."""
    top = max((int(values.max(initial=0)) for values in labels if values.dtype.kind in "iub"),
              default=0)
    if top >= MOST_CLASSES:
        raise InputError(f"{name}: a label is {top}; there are at most {MOST_CLASSES} classes")
    return [str(label) for label in range(max(2, top + 1))]


def _images(what: str, images: NDArray) -> NDArray:
    """uint8 or uint16 `(n, h, w, c)`."""
    if images.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{what} is {images.dtype}; expected uint8 or uint16")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(f"{what} has shape {images.shape}; expected (n, h, w), (n, h, w, 1) or "
                         "(n, h, w, 3), none of them 0")
    return images


def _targets(what: str, labels: NDArray, n: int, classes: int, multilabel: bool) -> NDArray:
    """float32 `(n, classes)`, one-hot for integers."""
    if labels.ndim < 1:
        raise InputError(f"{what} is a single value; expected one an image")
    if len(labels) != n:
        raise InputError(f"{what} has {len(labels)} rows for {n} images")
    if multilabel:
        if labels.dtype.kind not in "iubf" or labels.shape != (n, classes):
            raise InputError(f"{what} is {labels.dtype} {labels.shape}; expected numbers "
                             f"({n}, {classes}), one column a class")
        targets = labels.astype(np.float32)
        if not np.isin(targets[~np.isnan(targets)], (0, 1)).all():
            raise InputError(f"{what} holds values beside 0, 1 and NaN")
        return targets
    if labels.dtype.kind not in "iub" or labels.size != n:
        raise InputError(f"{what} is {labels.dtype} {labels.shape}; expected one integer an image")
    labels = labels.reshape(n).astype(np.int64)
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"{what} holds {labels.min()} to {labels.max()}; expected 0 to "
                         f"{classes - 1} for {classes} classes")
    return np.eye(classes, dtype=np.float32)[labels]
