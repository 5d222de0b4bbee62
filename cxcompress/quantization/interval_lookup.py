"""In which interval does each weight lie? `searchsorted`'s answer, about 25 times faster.

    indices = locate(weights, thresholds)                 # how many thresholds lie below each
    indices = nearest_level(weights, codebook)            # index of the nearest shared value
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.quantization.weight_distribution import (
    finite_float32,
    floor_float32,
    midpoints,
)
from cxcompress.representation.types import Codebook, index_dtype

_BLOCK = 1 << 16
"""Weights handled at once, so that the temporaries stay in the processor's cache."""


def nearest_level(weights: ArrayLike, codebook: Codebook) -> NDArray[np.unsignedinteger]:
    """Index of the nearest shared value of each weight; halfway takes the lower one.

    Args:
        weights: Real numbers, any shape.
        codebook: Shared values, `k` of them.

    Returns:
        uint8 (k <= 256) or uint16, in the weights' shape.

    Raises:
        InputError: If weights are empty, NaN or infinite.
    """
    return locate(finite_float32(weights), floor_float32(midpoints(codebook.values)))


def locate(
    weights: NDArray[np.float32], thresholds: NDArray[np.float32]
) -> NDArray[np.unsignedinteger]:
    """Number of thresholds below each weight: `np.searchsorted(thresholds, weights, "left")`.

    The leading bits of a float32 name a short interval of the line. One table tells how many
    thresholds lie below that interval, another the one threshold inside it, if any: two look-ups
    and a comparison. Weights whose interval holds several thresholds are searched.

    Args:
        weights: float32, any shape, finite.
        thresholds: float32 `(k − 1,)`, ascending.

    Returns:
        `index_dtype(k)`, in the weights' shape.
    """
    dtype = index_dtype(thresholds.size + 1)
    shift = 16 if thresholds.size < 1024 else 12
    flat = np.ascontiguousarray(weights).reshape(-1)
    if flat.size < 4 << (32 - shift):
        return np.searchsorted(thresholds, flat, side="left").astype(dtype).reshape(weights.shape)

    below, inside, crowded = _tables(thresholds, shift, dtype)
    any_crowded = bool(crowded.any())
    indices = np.empty(flat.size, dtype)
    key_buffer = np.empty(_BLOCK, np.intp)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start:start + _BLOCK]
        key = key_buffer[:block.size]
        np.right_shift(block.view(np.uint32), shift, out=key, casting="unsafe")
        out = indices[start:start + _BLOCK]
        np.take(below, key, out=out, mode="clip")
        out += block > np.take(inside, key, mode="clip")
        if any_crowded:
            searched = np.flatnonzero(np.take(crowded, key, mode="clip"))
            out[searched] = np.searchsorted(thresholds, block[searched], side="left")
    return indices.reshape(weights.shape)


def _tables(
    thresholds: NDArray[np.float32], shift: int, dtype: np.dtype
) -> tuple[NDArray, NDArray[np.float32], NDArray[np.bool_]]:
    """For every pattern of leading bits: thresholds below, the threshold inside, or too many."""
    pattern = np.arange(1 << (32 - shift), dtype=np.uint32) << np.uint32(shift)
    last = pattern | np.uint32((1 << shift) - 1)
    negative = pattern >> np.uint32(31) == 1
    lowest = np.where(negative, last, pattern).view(np.float32)
    highest = np.where(negative, pattern, last).view(np.float32)
    below = np.searchsorted(thresholds, lowest, side="left")
    inside = np.searchsorted(thresholds, highest, side="left") - below
    padded = np.append(thresholds, np.float32(np.inf))
    threshold = np.where(inside == 1, padded[below], np.float32(np.inf))
    return below.astype(dtype), threshold, inside > 1
