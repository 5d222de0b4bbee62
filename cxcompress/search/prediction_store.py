"""The predictions of a sweep: what every treatment of every seed said of every image, stored once.

    store = PredictionStore.open("results/prune_sweep/small_cxr/predictions")
    store.images.classes, store.images.truth               # written once for all
    store.probabilities(seed=3, treatment="L1@0.9")        # float32 (n, c)
    store.treatments(seed=3)                               # names
    store.series()                                         # {"L1": ("L1@0.05", …), …}

A folder:

- `images.h5`: `image_id`, `patient_id`, `classes` (text), `truth` uint8 `(n, c)` (255 = unknown),
  `train_cooccurrence` int64 `(c, c)` (training images with both findings; the diagonal counts
  each), attributes `collection`, `synthetic`, `credit`, `task`.
- `seed=<s>/<treatment>.h5`: `log_odds` float16 `(n, c)`, log(p / (1 − p)), rows in the order of
  `images.h5`; attributes `treatment`, `series`, `level`, `seed`, `images` (SHA-256 of the image
  ids), and whatever numbers describe the treated network (`bytes`, …). The file of the original
  also holds `thresholds` float32 `(c,)`, `weight_counts` and `weight_edges`.

Log-odds keep their digits at both ends, where float16 probabilities would tie: within 0.1% of
their value, from p = 6e-8 to 1 − 6e-8.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.runs import atomic_path

UNKNOWN = 255
"""Truth of an unlabelled finding in `images.h5`."""

SMALLEST_PROBABILITY = 2.0 ** -24
"""Probabilities are clipped to [this, 1 − this] before the logarithm: float32's own distance
from 1."""


@dataclass(frozen=True)
class SweepImages:
    """The images that a sweep judges by.

    Args:
        image_id, patient_id: str `(n,)`.
        classes: The c class names.
        truth: float32 `(n, c)` in {0, 1}; NaN = unknown.
        train_cooccurrence: int `(c, c)`: training images that have both findings.
        collection: Its name.
        synthetic: Whether the images are generated.
        credit: Whom to credit.
        task: `"multilabel"` or `"multiclass"`.
    """

    image_id: NDArray
    patient_id: NDArray
    classes: tuple[str, ...]
    truth: NDArray[np.float32]
    train_cooccurrence: NDArray[np.int64]
    collection: str = ""
    synthetic: bool = False
    credit: str = ""
    task: str = "multilabel"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the image ids in their order, hexadecimal."""
        return hashlib.sha256("\n".join(map(str, self.image_id)).encode()).hexdigest()

    def write(self, path: str | os.PathLike) -> None:
        """Write `images.h5`, atomically."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
            for name in ("image_id", "patient_id", "classes"):
                file.create_dataset(name, data=np.asarray(getattr(self, name), dtype=object),
                                    dtype=h5py.string_dtype(), compression="gzip", shuffle=True)
            file.create_dataset(
                "truth", data=np.where(np.isnan(self.truth), UNKNOWN, self.truth).astype(np.uint8),
                compression="gzip")
            file["train_cooccurrence"] = np.asarray(self.train_cooccurrence, np.int64)
            file.attrs.update(collection=self.collection, synthetic=self.synthetic,
                              credit=self.credit, task=self.task)

    @classmethod
    def read(cls, path: str | os.PathLike) -> SweepImages:
        """Read `images.h5`.

        Raises:
            InputError: If it is not one.
        """
        try:
            with h5py.File(path) as file:
                truth = file["truth"][()].astype(np.float32)
                truth[truth == UNKNOWN] = np.nan
                image_id, patient_id, classes = (
                    file[name].asstr()[()].astype(str)
                    for name in ("image_id", "patient_id", "classes"))
                images = cls(image_id, patient_id, tuple(map(str, classes)), truth,
                             file["train_cooccurrence"][()], str(file.attrs["collection"]),
                             bool(file.attrs["synthetic"]), str(file.attrs["credit"]),
                             str(file.attrs["task"]))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; give a folder that prune_sweep.py "
                             "wrote") from error
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: not the images of a sweep ({error}); run prune_sweep.py "
                             "again") from error
        n, c = len(image_id), len(classes)
        if truth.shape != (n, c) or images.train_cooccurrence.shape != (c, c) or not n:
            raise InputError(f"{path}: truth is {truth.shape} and train_cooccurrence "
                             f"{images.train_cooccurrence.shape} for {n} images of {c} classes; "
                             "run prune_sweep.py again")
        return images


def log_odds(probabilities: NDArray) -> NDArray[np.float16]:
    """log(p / (1 − p)) as float16, p clipped to [2⁻²⁴, 1 − 2⁻²⁴].

    Args:
        probabilities: In [0, 1], any shape.
    """
    p = np.clip(np.asarray(probabilities, np.float64), SMALLEST_PROBABILITY,
                1 - SMALLEST_PROBABILITY)
    return (np.log(p) - np.log1p(-p)).astype(np.float16)


def probabilities_of(values: NDArray) -> NDArray[np.float32]:
    """Probabilities from log-odds, any shape."""
    return (1 / (1 + np.exp(-values.astype(np.float32)))).astype(np.float32)


def weight_histogram(
    kernels: Sequence[NDArray], bins: int = 50
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts `(bins,)` and edges `(bins + 1,)` of |w| over all kernels, from 0 to the largest."""
    magnitudes = np.concatenate([np.abs(np.ravel(kernel)) for kernel in kernels])
    counts, edges = np.histogram(magnitudes, bins, (0.0, float(magnitudes.max()) or 1.0))
    return counts.astype(np.int64), edges


class PredictionStore:
    """The folder of a sweep's predictions. `open` reads one, `create` begins one.

    Args:
        path: The folder.
        images: What all files are about.
    """

    def __init__(self, path: Path, images: SweepImages):
        self.path, self.images = path, images

    @classmethod
    def create(cls, path: str | os.PathLike, images: SweepImages) -> PredictionStore:
        """Write `images.h5` into the folder, or take part in it where it holds the same images.

        Raises:
            InputError: If it holds other images or classes.
        """
        path = Path(path)
        if (path / "images.h5").exists():
            there = SweepImages.read(path / "images.h5")
            if there.digest != images.digest or there.classes != images.classes:
                raise InputError(f"{path}: holds predictions of other images; give --overwrite, "
                                 "or another --output_path")
        else:
            images.write(path / "images.h5")
        return cls(path, images)

    @classmethod
    def open(cls, path: str | os.PathLike) -> PredictionStore:
        """Open a store, or the `predictions` of a run folder.

        Raises:
            InputError: If there is none.
        """
        path = Path(path)
        if not (path / "images.h5").exists() and (path / "predictions" / "images.h5").exists():
            path = path / "predictions"
        return cls(path, SweepImages.read(path / "images.h5"))

    def file(self, seed: int, treatment: str) -> Path:
        """Where the predictions of a seed's treatment lie."""
        return self.path / f"seed={seed}" / f"{treatment}.h5"

    def write(
        self, seed: int, treatment: str, probabilities: NDArray, *, series: str, level: float,
        attributes: Mapping[str, Any] | None = None, arrays: Mapping[str, NDArray] | None = None,
    ) -> Path:
        """Write the predictions of one treatment, atomically.

        Args:
            probabilities: float `(n, c)` in [0, 1].
            attributes: Numbers about the treated network.
            arrays: Small arrays beside the predictions.

        Raises:
            InputError: If a probability is NaN or the shape is wrong.
        """
        path = self.file(seed, treatment)
        wanted = self.images.truth.shape
        if probabilities.shape != wanted:
            raise InputError(f"{path}: predictions of shape {probabilities.shape}, expected "
                             f"{wanted}")
        if not np.isfinite(probabilities).all():
            bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
            raise InputError(f"{path}: the network said NaN of {bad} images; look at seed {seed}, "
                             f"treatment {treatment}")
        with atomic_path(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
            file.create_dataset("log_odds", data=log_odds(probabilities), compression="gzip",
                                compression_opts=1, shuffle=True)
            for name, array in (arrays or {}).items():
                file[name] = array
            file.attrs.update(treatment=treatment, series=series, level=level, seed=seed,
                              images=self.images.digest, **(attributes or {}))
        return path

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that have a folder, in order."""
        found = (re.fullmatch(r"seed=(\d+)", entry.name) for entry in self.path.iterdir())
        return tuple(sorted(int(match[1]) for match in found if match))

    def treatments(self, seed: int) -> tuple[str, ...]:
        """Names of the treatments that a seed has."""
        return tuple(sorted(path.name.removesuffix(".h5")
                            for path in (self.path / f"seed={seed}").glob("[!.]*.h5")))

    def series(self) -> dict[str, tuple[str, ...]]:
        """Treatments by series, from the mildest to the hardest, of all seeds together.

        The order is told by the names: sparsities rise, numbers of shared values fall.
        """
        found: dict[str, set[str]] = {}
        for seed in self.seeds:
            for name in self.treatments(seed):
                if name != "original":
                    found.setdefault(name.rsplit("@", 1)[0], set()).add(name)
        return {series: tuple(sorted(names, key=lambda name: severity(level_of(name))))
                for series, names in sorted(found.items())}

    def read(self, seed: int, treatment: str) -> NDArray[np.float16]:
        """Log-odds float16 `(n, c)`.

        Raises:
            InputError: If the file is missing, damaged, about other images, or holds NaN.
        """
        path = self.file(seed, treatment)
        with self._opened(path) as file:
            values = file["log_odds"][()]
        if np.isnan(values).any():
            bad = int(np.isnan(values).any(axis=1).sum())
            raise InputError(f"{path}: holds NaN for {bad} images; delete the file and run "
                             "prune_sweep.py again")
        return values

    def probabilities(self, seed: int, treatment: str) -> NDArray[np.float32]:
        """Probabilities float32 `(n, c)`; errors as `read`."""
        return probabilities_of(self.read(seed, treatment))

    def attributes(self, seed: int, treatment: str) -> dict[str, Any]:
        """Numbers about the treated network, e.g. `bytes`; errors as `read`."""
        with self._opened(self.file(seed, treatment)) as file:
            return {key: value.item() if hasattr(value, "item") else value
                    for key, value in file.attrs.items()}

    def array(self, seed: int, treatment: str, name: str) -> NDArray | None:
        """A small array beside the predictions, or None; errors as `read`."""
        with self._opened(self.file(seed, treatment)) as file:
            return file[name][()] if name in file else None

    def _opened(self, path: Path) -> h5py.File:
        try:
            file = h5py.File(path)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such predictions; run prune_sweep.py again, which goes "
                             "on where it stopped") from error
        except OSError as error:
            raise InputError(f"{path}: not an HDF5 file that can be read ({error}); delete it and "
                             "run prune_sweep.py again") from error
        try:
            values = file["log_odds"]
            if file.attrs["images"] != self.images.digest:
                raise InputError(
                    f"{path}: is about other images, or the same in another order, than "
                    f"{self.path}/images.h5; take predictions of one run of prune_sweep.py")
            if values.shape != self.images.truth.shape or values.dtype.kind != "f":
                raise InputError(f"{path}: log_odds is {values.dtype} {values.shape}, expected "
                                 f"float16 {self.images.truth.shape}")
        except InputError:
            file.close()
            raise
        except (KeyError, AttributeError) as error:
            file.close()
            raise InputError(f"{path}: not predictions of prune_sweep.py ({error})") from error
        return file


def level_of(treatment: str) -> float:
    """The level that a treatment's name ends with: `"L1@0.9"` to 0.9."""
    return float(treatment.rsplit("@", 1)[1])


def severity(level: float) -> float:
    """A number that rises with what a treatment does: the sparsity, or −log2 of k.

    Sparsities are below 1 and numbers of shared values are 2 or more, so a level says which it is.
    """
    return level if level < 1 else -float(np.log2(level))
