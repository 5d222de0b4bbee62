"""Whether a plan answers here as it did where it was made.

Inputs come from a seed, or are the user's own pictures, which stay where they are; the file holds
the outputs in short.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError

if TYPE_CHECKING:
    from cxcompress.runtime.running import RuntimeModel

MOST_INPUTS = 4
MOST_VALUES = 256
"""Stored numbers of all outputs together, so that they take less than 4 kB."""


def check_inputs(
    shape: Sequence[int], seed: int, bytes_range: bool = False, count: int = MOST_INPUTS
) -> NDArray[np.float32]:
    """Generated inputs: uniform noise, the same on every machine.

    Args:
        shape: Of one input.
        seed: Of the noise.
        bytes_range: 0 to 255 instead of 0 to 1.
        count: Inputs.
    """
    noise = np.random.default_rng(seed).random((count, *shape), np.float32)
    return noise * np.float32(255) if bytes_range else noise


def image_digest(inputs: NDArray) -> str:
    """What tells the user's check pictures from others: SHA-256 of the network's inputs."""
    return hashlib.sha256(np.ascontiguousarray(inputs, np.float32).tobytes()).hexdigest()


def summary(outputs: NDArray) -> list[list[float]]:
    """Outputs in at most `MOST_VALUES` numbers: means of equal runs of each, six digits."""
    runs = max(1, MOST_VALUES // len(outputs))
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    size = math.ceil(flat.shape[1] / runs)
    starts = np.arange(0, flat.shape[1], size)
    counts = np.diff([*starts, flat.shape[1]])
    means = np.add.reduceat(flat, starts, axis=1) / counts
    return [[float(f"{value:.6g}") for value in row] for row in means]


def output_difference(outputs: NDArray, expected: NDArray) -> float:
    """How far outputs are from the expected ones, relative to these.

    Of classes the largest difference over the largest output; of maps the root mean square of the
    difference over that of the maps, since no single pixel decides.
    """
    difference = np.asarray(outputs, np.float64) - expected
    if difference.ndim > 2:
        return float(np.sqrt(np.mean(difference**2) / max(np.mean(np.square(
            expected, dtype=np.float64)), 1e-30)))
    return float(np.abs(difference).max() / max(np.abs(expected).max(), 1e-30))


def checked_difference(
    model: RuntimeModel, check: Mapping[str, Any], images: Sequence | None = None
) -> float | None:
    """`output_difference` between a plan's answers to the stored check and the stored outputs.

    Args:
        model: A `RuntimeModel`.
        check: As the card holds it.
        images: The pictures that the file was checked with, where it was not with generated ones.

    Returns:
        None where such pictures are needed and not given.

    Raises:
        InputError: If the pictures are others.
        ValueError: If the stored check is none.
    """
    expected = np.asarray(check["outputs"], np.float64)
    count = int(check["inputs"])
    if not 1 <= count <= MOST_INPUTS or expected.ndim != 2 or len(expected) != count:
        raise ValueError("the stored check is of another shape")
    if "images_sha256" in check:
        if images is None:
            return None
        inputs = model.inputs_of(images[:count])
        if image_digest(inputs) != check["images_sha256"]:
            raise InputError(f"--check_images: not the {count} pictures that {model.name} was "
                             "checked with when it was made")
    else:
        inputs = check_inputs(model.input_shape, int(check["seed"]), bool(check["bytes_range"]),
                              count)
    found = np.asarray(summary(model.predict(inputs)))
    if found.shape != expected.shape:
        raise ValueError("the stored check is of another shape")
    difference = found - expected
    return float(np.abs(difference).max() / max(np.abs(expected).max(), 1e-30))
