"""CWS: shared values that are the centroids of the weights nearest to them.

    quantizer = CentroidQuantizer(k=256).fit(kernel)
    indices = quantizer.assign(kernel)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxcompress.quantization.optimal_clustering import optimal_levels
from cxcompress.quantization.weight_distribution import SortedWeights
from cxcompress.quantization.weight_quantizer import WeightQuantizer


class CentroidQuantizer(WeightQuantizer):
    """Least-squares codebook: the optimum of 1-D k-means ("CWS", clustering).

    Up to 32,767 distinct weights (33.5 million / k of them above k = 1,024) the optimum is exact
    but for rounding to float32; beyond, up to k = 2,048, the MSE is within 1% of it where ten or
    more weights share a level; for more levels it is a converged Lloyd iteration. Deterministic.

    Args:
        k: Most shared values, 1 … 65536.

    After `fit`:
        codebook_: `Codebook` with at most k values. With `keep_zero` one of them is exactly 0 and
            the others are optimal beside it.

    Reference: Marinò et al., "Compact representations of convolutional neural networks via weight
    pruning and quantization" (2021); the optimum: `cxcompress.quantization.optimal_clustering`.
    """

    name = "CWS"

    def _levels(self, weights: SortedWeights, keep_zero: bool) -> NDArray[np.float64]:
        return optimal_levels(weights, int(self.k), keep_zero=keep_zero)
