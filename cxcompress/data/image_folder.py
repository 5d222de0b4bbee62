"""Folders of images, sorted by part and class: `train/<class>/*.png`, the same in `val`, `test`.

    collection = open_image_folder("chest_xray")
    collection.in_class_order(("normal", "covid"))      # another label order

Files are read when asked for; sizes and modes may differ, `Preprocessing` evens them out. Damaged
files are found at opening, skipped and counted in `collection.intake`. Where every file is named as
NIH's are (`00000013_005.png`), the number in front is the patient.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part
from cxcompress.data.intake import Intake
from cxcompress.errors import InputError
from cxcompress.images.checking import decodes, faults
from cxcompress.images.reading import SUFFIXES, image_shape, read_picture
from cxcompress.runs import progress

logger = logging.getLogger(__name__)

PART_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Folder names of each part, in any case."""

NIH_NAME = re.compile(r"(\d{8})_\d{3}")


class ImageFiles(Sequence):
    """Images that are read from their files when asked for."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> NDArray:
        return read_picture(self.paths[position])


def open_image_folder(path: str | PathLike, *, strict: bool = False,
                      check: str = "auto") -> Collection:
    """Open a folder of images as a multiclass collection; its classes are sorted by name.

    Args:
        path: A folder that holds `train` or `test` (and perhaps `val`), each with one folder a
            class; or images and nothing else, which make an `"unlabelled"` collection whose train
            part has labels `(n, 0)`.
        strict: Refuse damaged files rather than skip them.
        check: How they are found: see `label_tables.Opening`.

    Raises:
        InputError: If a part or class is missing or empty, classes differ between parts, fewer
            than two classes are there, no image of a class can be read, or (strict) if any
            cannot.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{path}: no such folder")
    found = part_folders(folder)
    if not found and _has_images(folder):
        return _unlabelled(folder, path, strict, check)
    if not found.keys() & {"train", "test"}:
        raise InputError(f"{path}: has neither a train nor a test folder; expected "
                         "train/<class>/*.png, and the same in val and test")
    names = {part: _class_folders(inside) for part, inside in found.items()}
    first = next(iter(names))
    for part, inside in names.items():
        if inside != names[first]:
            differing = sorted(set(inside) ^ set(names[first]))
            raise InputError(f"{path}: class {differing[0]!r} is not in both {first} and {part}; "
                             "every part needs the same classes")
    order = _class_order(path, names[first])
    files = {part: [(file, label) for label, name in enumerate(order)
                    for file in _image_files(found[part] / name)] for part in found}
    everything = [file for part in files.values() for file, _ in part]
    everything, intake = _readable(path, everything, strict, check)
    readable = set(everything)
    files = {part: [pair for pair in inside if pair[0] in readable]
             for part, inside in files.items()}
    for part, inside in files.items():
        _require_each_class(found[part], order, inside, intake)
    _say_what_differs(path, everything)
    patients_known = all(NIH_NAME.match(file.stem) for file in everything)
    parts = {part: _part(folder, inside, len(order), patients_known)
             for part, inside in files.items()}
    return Collection(str(path), "multiclass", order,
                      *(parts.get(part) for part in ("train", "val", "test")),
                      patients_known=patients_known, intake=intake)


def _readable(path, files: list[Path], strict: bool, check: str) -> tuple[list[Path], Intake]:
    bad = faults(files, decode=decodes(check, len(files)),
                 watch=lambda results: progress(results, f"Checking {path}", len(files)))
    intake = Intake(rows=len(files), files=len(files), used=len(files) - len(bad),
                    unreadable=tuple(bad.values()))
    if strict:
        intake.require_none(str(path))
    if bad:
        logger.warning("%s: %d of %d images cannot be read and are skipped; the first: %s", path,
                       len(bad), len(files), intake.unreadable[0])
    return [file for position, file in enumerate(files) if position not in bad], intake


def _require_each_class(folder: Path, order: Sequence[str], files: list[tuple[Path, int]],
                        intake: Intake) -> None:
    for empty in sorted(set(range(len(order))) - {label for _, label in files}):
        inside = folder / order[empty]
        reason = next(reason for reason in intake.unreadable if reason.startswith(str(inside)))
        raise InputError(f"{inside}: none of its images can be read; the first: {reason}")


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
               for entry in folder.iterdir())


def _unlabelled(folder: Path, path, strict: bool, check: str) -> Collection:
    files, intake = _readable(path, _image_files(folder), strict, check)
    if not files:
        raise InputError(f"{path}: none of its images can be read; the first: "
                         f"{intake.unreadable[0]}")
    _say_what_differs(path, files)
    patients_known = all(NIH_NAME.match(file.stem) for file in files)
    part = _part(folder, [(file, 0) for file in files], 1, patients_known)
    return Collection(str(path), "unlabelled", (), replace(part, labels=part.labels[:, :0]),
                      None, None, patients_known=patients_known, intake=intake)


def part_folders(folder: Path) -> dict[str, Path]:
    """The part folders that are there, by part."""
    inside = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return {part: inside[name] for part, names in PART_FOLDERS.items() for name in names
            if name in inside}


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()
                  if entry.is_dir() and not entry.name.startswith("."))


def _class_order(path, names: list[str]) -> tuple[str, ...]:
    if len(names) < 2:
        raise InputError(f"{path}: {len(names)} class folder{'s' * (len(names) != 1)} in a part"
                         f"{': ' + names[0] if names else ''}; expected at least two")
    return tuple(names)


def _image_files(folder: Path) -> list[Path]:
    files = sorted(entry for entry in folder.iterdir()
                   if entry.suffix.lower() in SUFFIXES and not entry.name.startswith("."))
    if not files:
        raise InputError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    return files


def _say_what_differs(path, files: list[Path]) -> None:
    kinds = Counter(image_shape(file) for file in files)
    sizes, modes = {kind[:2] for kind in kinds}, {kind[2] for kind in kinds}
    if len(sizes) > 1 or len(modes) > 1:
        logger.info("%s: %d images of %d sizes and %d colour modes (%s); resized and converted "
                    "as they are read", path, len(files), len(sizes), len(modes),
                    ", ".join(sorted(modes)))


def _part(root: Path, files: list[tuple[Path, int]], classes: int, patients_known: bool) -> Part:
    labels = np.eye(classes, dtype=np.float32)[[label for _, label in files]]
    image_id = np.array([str(file.relative_to(root).as_posix()) for file, _ in files])
    patient_id = image_id
    if patients_known:
        patient_id = np.array([NIH_NAME.match(file.stem)[1] for file, _ in files])
    return Part(ImageFiles([file for file, _ in files]), labels, image_id, patient_id)
