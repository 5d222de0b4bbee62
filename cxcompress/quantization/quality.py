"""What a codebook costs: error, signal-to-noise ratio, entropy and levels in use.

    quality(weights, indices, codebook)
    # Quality(mse=9.7e-08, sqnr_db=44.1, entropy_bits=7.85, levels_used=256, k=256)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.quantization.weight_distribution import finite_float32
from cxcompress.representation.entropy import histogram_bits
from cxcompress.representation.types import Codebook

_BLOCK = 1 << 18


@dataclass(frozen=True)
class Quality:
    """Quality of one assignment.

    Args:
        mse: Mean of (weight − shared value)², in squared weight units.
        sqnr_db: 10 log10(mean weight² / mse), in decibels; infinite where nothing was lost,
            −infinite where every weight is 0 but decodes to something else.
        entropy_bits: Order-0 entropy of the indices, in bits a weight: the least that a coder
            without context needs.
        levels_used: Shared values that at least one weight takes.
        k: Shared values in the codebook.
    """

    mse: float
    sqnr_db: float
    entropy_bits: float
    levels_used: int
    k: int


def quality(weights: ArrayLike, indices: NDArray, codebook: Codebook) -> Quality:
    """Compare weights with what their indices decode to.

    Args:
        weights: Real numbers, any shape.
        indices: Unsigned integers below `codebook.k`, same shape.
        codebook: The shared values.

    Raises:
        InputError: If weights are empty, NaN or infinite.
        ValueError: If the shapes differ or an index lies outside the codebook.
    """
    weights = finite_float32(weights)
    if weights.shape != indices.shape:
        raise ValueError(f"weights and indices must have one shape. "
                         f"Received: {weights.shape} and {indices.shape}")
    weights, indices = weights.reshape(-1), indices.reshape(-1)
    counts = np.zeros(codebook.k, np.int64)
    noise = signal = 0.0
    for start in range(0, weights.size, _BLOCK):
        block = weights[start:start + _BLOCK].astype(np.float64)
        index = indices[start:start + _BLOCK]
        block_counts = np.bincount(index, minlength=codebook.k)
        if block_counts.size > codebook.k:
            raise ValueError(f"indices must be below k={codebook.k}. Received: {index.max()}")
        counts += block_counts
        signal += float(block @ block)
        block -= codebook.values[index]
        noise += float(block @ block)
    return Quality(
        mse=noise / weights.size,
        sqnr_db=decibels(signal, noise),
        entropy_bits=histogram_bits(counts) / weights.size,
        levels_used=int(np.count_nonzero(counts)),
        k=codebook.k,
    )


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), in dB: infinite without noise, −infinite without signal."""
    if noise == 0.0:
        return float("inf")
    return float("-inf") if signal == 0.0 else 10.0 * float(np.log10(signal / noise))
