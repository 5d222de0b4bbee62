"""Order-0 entropy of an index map: the bound for every coder that looks at one index at a time.

    entropy_bits(indices, k=256)               # bits an index
    entropy_bits(indices, k=256) * indices.size / 8    # bytes that no such coder goes below
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20
"""Indices counted at a time, since `bincount` turns them into 8-byte integers."""


def histogram(indices: NDArray, k: int) -> NDArray[np.int64]:
    """How often each index 0 … k − 1 occurs: int64 `(k,)`."""
    flat = np.asarray(indices).reshape(-1)
    counts = np.zeros(k, np.int64)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK], minlength=k)
    return counts


def entropy_bits(indices: NDArray, k: int) -> float:
    """Order-0 entropy of the indices, in bits an index; 0 for an empty array.

    Args:
        indices: Integers 0 … k − 1 of any shape.
        k: Number of shared values.
    """
    return histogram_bits(histogram(indices, k)) / max(np.size(indices), 1)


def histogram_bits(counts: NDArray) -> float:
    """Bits that an ideal order-0 code takes for all indices counted in a histogram."""
    used = counts[counts > 0].astype(np.float64)
    return float((used * (np.log2(used.sum()) - np.log2(used))).sum()) if used.size else 0.0
