"""CIFAR-100: `cifar100`, fetched once and checked, or a folder in its published layout.

    collection = open_cifar100("cifar100")
    collection = open_cifar100("cifar-100-binary")     # train.bin, test.bin, fine_label_names.txt
    collection = open_cifar100("cifar-100-python")     # train, test, meta

50,000 training and 10,000 test images, 32×32 RGB, 100 classes; no validation part. The Python
layout is of pickles: they are opened by an unpickler that admits lists, strings, numbers and NumPy
arrays and nothing that could run.

The archive comes from the University of Toronto (or from the address in the environment variable
`CXCOMPRESS_CIFAR_URL`) into the cache folder (`CXCOMPRESS_CACHE`, or the system's own), unless
Keras has it already (`keras.datasets.cifar100`).

Reference: Krizhevsky (2009), "Learning multiple layers of features from tiny images".
"""

from __future__ import annotations

import os
import pickle
import tarfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.data.collection import Collection, Part
from cxcompress.errors import InputError, MissingExtra

ADDRESS = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE = "cifar-100-python.tar.gz"
MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
SIDE, PIXELS = 32, 3 * 32 * 32
CREDIT = "CIFAR-100 (Krizhevsky 2009), a subset of 80 Million Tiny Images."
_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"), ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"), ("_codecs", "encode")}
"""What the pickles of arrays name; none of it runs anything."""


def is_cifar100(folder: Path) -> bool:
    """Whether a folder holds either published layout."""
    return (folder / "train.bin").is_file() or all(
        (folder / name).is_file() for name in ("train", "meta"))


def open_cifar100(name_or_path: str | PathLike) -> Collection:
    """Open CIFAR-100 as a multiclass collection of its 100 fine classes.

    Args:
        name_or_path: `"cifar100"`, or a folder in the Python or the binary layout.

    Raises:
        InputError: If the download fails, or a file is missing, damaged or of another layout.
        MissingExtra: If pooch is not installed and the archive has to be fetched.
    """
    name = str(name_or_path)
    folder = _fetched() if name == "cifar100" else Path(name_or_path)
    if (folder / "train.bin").is_file():
        classes = _lines(folder / "fine_label_names.txt")
        parts = [_binary(folder / f"{part}.bin", len(classes), part)
                 for part in ("train", "test") if (folder / f"{part}.bin").is_file()]
    else:
        meta = _unpickled(folder / "meta")
        classes = tuple(_text(label) for label in _entry(folder / "meta", meta,
                                                         "fine_label_names"))
        parts = [_pickle(folder / part, len(classes), part)
                 for part in ("train", "test") if (folder / part).is_file()]
    return Collection(name, "multiclass", classes, parts[0], None,
                      parts[1] if len(parts) > 1 else None, credit=CREDIT)


def _fetched() -> Path:
    """The folder of the unpacked, checked archive."""
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"
    for place in ("cifar-100-python", "cifar-100-python-target/cifar-100-python",
                  "cifar-100-python_extracted/cifar-100-python"):
        if is_cifar100(keras_home / place):
            return keras_home / place
    try:
        import pooch
    except ImportError as error:
        raise MissingExtra("pooch", "train") from error
    cache = Path(os.environ.get("CXCOMPRESS_CACHE") or pooch.os_cache("cxcompress"))
    folder = cache / "cifar-100-python"
    if is_cifar100(folder):
        return folder
    url = f"{os.environ.get('CXCOMPRESS_CIFAR_URL', ADDRESS).rstrip('/')}/{ARCHIVE}"
    try:
        archive = pooch.retrieve(url, f"md5:{MD5}", fname=ARCHIVE, path=cache,
                                 downloader=pooch.HTTPDownloader(timeout=60))
        with tarfile.open(archive) as file:
            file.extractall(cache, filter="data")
    except ValueError as error:
        raise InputError(f"{url}: not the published file (its MD5 is not {MD5}); try again later "
                         "or check the address") from error
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{url}: cannot be fetched ({str(error).splitlines()[0][:160]}); check "
                         f"the connection, or unpack {ARCHIVE} into {cache}") from error
    return folder


class _Arrays(pickle.Unpickler):
    """Opens pickles of lists, strings, numbers and NumPy arrays; refuses everything else."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = _Arrays(file, encoding="bytes").load()
        return {_text(key): value for key, value in found.items()}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; CIFAR-100's Python layout has train, test and "
                         "meta") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path}: not one of CIFAR-100's files ({error})") from error


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _entry(path: Path, found: dict[str, Any], key: str):
    if key not in found:
        raise InputError(f"{path}: has no {key}; it holds {', '.join(sorted(found))[:200]}")
    return found[key]


def _pickle(path: Path, classes: int, part: str) -> Part:
    found = _unpickled(path)
    try:
        pixels = np.asarray(_entry(path, found, "data"), np.uint8)
        labels = np.asarray(_entry(path, found, "fine_labels"), np.int64)
        names = [_text(name) for name in found.get("filenames", [])]
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not one of CIFAR-100's files ({error})") from error
    if pixels.ndim != 2 or pixels.shape[1] != PIXELS or labels.shape != (len(pixels),):
        raise InputError(f"{path}: data of shape {pixels.shape} and {labels.size} labels; expected "
                         f"(n, {PIXELS}) and n")
    return _part(path, pixels, labels, classes, part, names)


def _binary(path: Path, classes: int, part: str) -> Part:
    # A record: the coarse label, the fine label, then the pixels.
    content = np.fromfile(path, np.uint8)
    if not content.size or content.size % (PIXELS + 2):
        raise InputError(f"{path}: {content.size} bytes, not a whole number of records of "
                         f"{PIXELS + 2}; copy it again")
    records = content.reshape(-1, PIXELS + 2)
    return _part(path, records[:, 2:], records[:, 1].astype(np.int64), classes, part, [])


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line for line in path.read_text("utf-8").split("\n") if line.strip())
    except OSError as error:
        raise InputError(f"{path}: cannot be read; CIFAR-100's binary layout has train.bin, "
                         "test.bin and fine_label_names.txt") from error


def _part(path: Path, pixels, labels, classes: int, part: str, names: list[str]) -> Part:
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(f"{path}: holds labels {labels.min()} to {labels.max()} for {classes} "
                         "classes")
    images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    image_id = np.array([f"{part}/{name}" for name in names] if len(names) == len(labels)
                        else [f"{part}{row:06d}" for row in range(len(labels))])
    return Part(np.ascontiguousarray(images), np.eye(classes, dtype=np.float32)[labels], image_id,
                image_id)
