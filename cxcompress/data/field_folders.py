"""Folders of annotated fields, rewritten: split into train and validation, made ready for training.

    split_fields("SHIDC-B-Ki-67", "split")                     # Train/, Val/ and Test/
    for row in prepare_fields(parts, "ready", (256, 256, 3)):  # one field at a time
        ...

Both write SHIDC's own layout, an image with its `.json`, so that whatever reads the original reads
the result. One field is in memory at a time, whatever the size of the collection.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxcompress.data.collection import Part
from cxcompress.data.density_maps import density_maps
from cxcompress.data.image_folder import part_folders
from cxcompress.data.orientations import SIX_WAYS, oriented, oriented_cells
from cxcompress.data.shidc import (
    LAYOUT,
    MARKER,
    NUCLEI,
    annotated_files,
    patient_of,
    read_annotations,
)
from cxcompress.data.splits import hold_out
from cxcompress.data.synthetic_ki67 import annotation
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing, read_image
from cxcompress.runs import atomic_path, write_atomic

PART_NAMES = {"train": "Train", "val": "Val", "test": "Test"}
MAP_FORMATS = ("npz", "npy", "none")


def field_parts(folder: str | os.PathLike) -> dict[str, list[Path]]:
    """The image files of each part of a folder; a folder of fields without parts is its train.

    Raises:
        InputError: If there are none, or an annotation is missing or unreadable.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{folder}: no such folder")
    parts = {part: annotated_files(inside) for part, inside in part_folders(root).items()}
    parts = {part: files for part, files in parts.items() if files}
    if not parts and (files := annotated_files(root)):
        parts = {"train": files}
    if not parts:
        raise InputError(f"{folder}: no fields found; {LAYOUT}")
    if not any(file.with_suffix(".json").exists() for files in parts.values() for file in files):
        raise InputError(f"{folder}: holds images but no annotations; {LAYOUT}")
    for files in parts.values():
        read_annotations(files)
    return parts


def split_fields(
    source: str | os.PathLike, target: str | os.PathLike, *, fraction: float = 0.2,
    by: str = "patient", seed: int = 4, replace: bool = False,
) -> dict[str, list[Path]]:
    """Hold a validation part out of a folder's training fields, in a new folder.

    Files are linked where the file system allows it, else copied. The new folder appears
    complete or not at all.

    Args:
        source: Train and perhaps Test in SHIDC's layout, or fields without such folders.
        target: To be created: Train, Val, and Test where the source has one.
        fraction: Share of the training fields to hold out.
        by: `"patient"`: no patient is on both sides; `"image"`: as PathoNet's authors do, which
            lets the network see the patients that it is validated on.
        seed: Of the choice.
        replace: Replace a target that exists, once the new one is complete.

    Returns:
        The source's files of each part.

    Raises:
        InputError: If the source has no training fields or has a validation part already, or the
            target exists.
    """
    if by not in ("patient", "image"):
        raise ValueError(f"by is patient or image. Received: {by!r}")
    target = Path(target)
    parts = field_parts(source)
    if "val" in parts:
        raise InputError(f"{source}: has a Val folder already; nothing to split")
    if "train" not in parts:
        raise InputError(f"{source}: has no Train folder; {LAYOUT}")
    used = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if used and not replace:
        raise InputError(f"{target}: exists; give another --outputPath, or --overwrite")
    files = parts["train"]
    names = np.array([file.name for file in files])
    rows = np.arange(len(files))
    whole = Part(rows[:, None, None], [np.zeros((0, 3), int)] * len(files), names,
                 np.array([patient_of(file) for file in files]))
    train, val = (side.images[:, 0, 0] for side in hold_out(
        whole, fraction, seed, patients_known=by == "patient"))
    split = {"train": [files[row] for row in train], "val": [files[row] for row in val],
             **({"test": parts["test"]} if "test" in parts else {})}
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for part, chosen in split.items():
            inside = staging / "new" / PART_NAMES[part]
            inside.mkdir(parents=True)
            for file in chosen:
                for one in (file, file.with_suffix(".json")):
                    _link_or_copy(one, inside / one.name)
        if (Path(source) / MARKER).is_file():
            shutil.copyfile(Path(source) / MARKER, staging / "new" / MARKER)
        if target.exists():
            os.replace(target, staging / "old")
        os.replace(staging / "new", target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return split


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def prepare_fields(
    parts: Mapping[str, Sequence[Path]], target: Path, shape: tuple[int, int, int], *,
    kernel: int = 9, augment: Sequence[str] = (), maps: str = "npz",
) -> Iterator[dict[str, Any]]:
    """Write fields at the network's size, with cells and density maps; one at a time.

    `Train/p1_01.jpg` becomes `Train/p1_01.png`, `.json` and `.npz` (`density`, float32 `(height,
    width, 3)`, 0 to 255): PNG and zip lose nothing. Augmented fields are six, `p1_01_0` to
    `p1_01_5`, of `SIX_WAYS`. A field that is there already is not written again, so that an
    interrupted run goes on.

    Args:
        parts: Image files of each part.
        target: Folder for the parts.
        shape: Height, width and channels.
        kernel: Pixels a side of the peaks.
        augment: Parts to write in six orientations.
        maps: `"npz"` deflated; `"npy"` plain, of the whole array's size; `"none"`.

    Yields:
        One row a field written: `part`, `image`, `patient`, a count of cells a class.

    Raises:
        InputError: If a file cannot be read or written.
    """
    preprocessing = Preprocessing.preset("none", shape[:2], shape[2])
    for part, files in parts.items():
        for file in files:
            (cells,) = read_annotations([file])
            inside = Path(target) / PART_NAMES[part]
            names = ([f"{file.stem}_{number}" for number in range(len(SIX_WAYS))]
                     if part in augment else [file.stem])
            ways = SIX_WAYS if part in augment else (0,)
            outputs = [inside / name for name in names]
            if not all(_written(output, maps) for output in outputs):
                image = read_image(file)
                scaled = _scaled_cells(cells, image.shape, shape)
                pixels = np.rint(preprocessing(image)).astype(np.uint8)
                for way, output in zip(ways, outputs, strict=True):
                    turned = oriented(pixels, way)
                    _write_field(output, turned, oriented_cells(scaled, way, pixels.shape),
                                 kernel, maps)
            for name in names:
                yield {"part": part, "image": f"{PART_NAMES[part]}/{name}.png",
                       "patient": patient_of(file)} | {
                    kind: int((cells[:, 2] == label).sum())
                    for label, kind in enumerate(NUCLEI, start=1)}


def _scaled_cells(cells: NDArray, stored: tuple[int, ...], shape: tuple[int, ...]) -> NDArray:
    factors = np.array([shape[1] / stored[1], shape[0] / stored[0], 1.0])
    return (cells * factors).astype(np.int64)


def _written(output: Path, maps: str) -> bool:
    # The annotation is written last.
    return output.with_name(output.name + ".json").exists() and (
        maps == "none" or output.with_name(f"{output.name}.{maps}").exists())


def _write_field(output: Path, pixels: NDArray, cells: NDArray, kernel: int, maps: str) -> None:
    with atomic_path(output.with_name(output.name + ".png")) as temporary:
        picture = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        Image.fromarray(picture).save(temporary, "PNG", compress_level=1)
    if maps != "none":
        density = density_maps(cells, pixels.shape[:2], len(NUCLEI), kernel=kernel)
        with atomic_path(output.with_name(f"{output.name}.{maps}")) as temporary, \
                open(temporary, "wb") as file:
            if maps == "npz":
                np.savez_compressed(file, density=density)
            else:
                np.save(file, density)
    write_atomic(output.with_name(output.name + ".json"), json.dumps(annotation(cells)))
