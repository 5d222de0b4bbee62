"""Floats of fewer bits, for weights that no codebook shares.

    rounded(array, 8)                       # float32 with the 16 bits of a bfloat16

Zeros in the low bits cost next to nothing once bytes are shuffled and deflated, so the file needs
no type of its own for them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIGNIFICAND = 24


def rounded(array: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The nearest floats of so many significant bits; ties go to the even one.

    Args:
        array: Of any shape. What is not finite, or would not stay so, is left as it is.
        bits: Of the significand, the leading one included, 2 to 24; 8 leaves a relative error of
            at most 2⁻⁸.

    Raises:
        ValueError: If there are no such floats.
    """
    if not 2 <= bits <= _SIGNIFICAND:
        raise ValueError(f"bits is {bits}; it must lie between 2 and {_SIGNIFICAND}")
    array = np.ascontiguousarray(array, np.float32)
    drop = np.uint64(_SIGNIFICAND - bits)
    if not drop:
        return array
    unit = np.uint64(1) << drop
    words = array.view(np.uint32).astype(np.uint64)
    words += unit // 2 - 1 + (words >> drop & 1)
    words -= words % unit
    nearest = words.astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(array) & np.isfinite(nearest), nearest, array)
