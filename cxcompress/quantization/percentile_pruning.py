"""Magnitude pruning of one kernel by percentile: which weights are dropped before sharing.

    kept = prune_percentile(kernel, 80)          # bool, True: keep
    pruned = np.where(kept, kernel, 0)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError
from cxcompress.quantization.weight_distribution import finite_float32


def prune_percentile(weights: ArrayLike, percent: float) -> NDArray[np.bool_]:
    """The weights that stay: |w| > the percentile of |w| in this kernel, strictly.

    The percentile is NumPy's, linear between neighbours. Weights as large as the threshold go, so
    where many share one magnitude more than `percent` may go. 0 percent keeps every weight.

    Args:
        weights: One kernel, any shape.
        percent: 0 <= percent < 100.

    Returns:
        bool in the weights' shape, True where the weight is kept.

    Raises:
        InputError: If the percent is outside [0, 100) or the weights cannot be used.

    Reference: the definition of Marinò et al. (2021).
    """
    if not 0 <= percent < 100:
        raise InputError(f"the share of weights to prune must be 0 or more and below 100 percent, "
                         f"received {percent}")
    magnitude = np.abs(finite_float32(weights))
    if percent == 0:
        return np.ones(magnitude.shape, bool)
    return magnitude > np.percentile(magnitude, percent)
