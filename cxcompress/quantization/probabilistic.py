"""PWS: quantiles as shared values, and unbiased random rounding to a neighbour.

    quantizer = ProbabilisticQuantizer(k=256, seed=0).fit(kernel)
    indices = quantizer.assign(kernel)        # same seed, same weights: the same bytes
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError
from cxcompress.quantization.interval_lookup import locate
from cxcompress.quantization.weight_distribution import SortedWeights, finite_float32
from cxcompress.quantization.weight_quantizer import WeightQuantizer
from cxcompress.representation.types import index_dtype

_BLOCK = 1 << 16
"""Weights that share a random stream: part of what makes a seed reproducible."""


class ProbabilisticQuantizer(WeightQuantizer):
    """Quantile codebook with random rounding ("PWS").

    Shared value i is the quantile i / (k − 1). A weight between two neighbours takes the upper one
    with probability (w − lower) / (upper − lower), so the decoded weight's expectation is the
    weight itself (for weights within the range seen by `fit`; others take the end value). Equal
    quantiles are merged. With `keep_zero` the k − 1 other values are quantiles of the nonzero
    weights; a zero weight then is 0 without chance. k = 1 has the mean as its one value.

    Args:
        k: Most shared values, 1 … 65536.
        seed: Whole number >= 0, or several; the same seed and weights give the same indices.

    Reference: Marinò et al., "Compact representations of convolutional neural networks via weight
    pruning and quantization" (2021), which draws from the same quantiles.
    """

    name = "PWS"

    def __init__(self, k: int = 256, seed: int | Sequence[int] = 0):
        super().__init__(k)
        self.seed = seed

    def check(self) -> None:
        super().check()
        whole = np.atleast_1d(np.asarray(self.seed))
        if whole.dtype.kind not in "iu" or whole.ndim != 1 or not whole.size or whole.min() < 0:
            raise InputError(f"seed must be a whole number of 0 or more, received {self.seed!r}")

    def _levels(self, weights: SortedWeights, keep_zero: bool) -> NDArray[np.float64]:
        if keep_zero:
            weights = _nonzero(weights)
        count = int(self.k) - int(keep_zero)
        levels = _quantiles(weights, count) if count > 1 else _mean(weights)
        return np.append(levels, 0.0) if keep_zero else levels

    def assign(self, weights: ArrayLike) -> NDArray[np.unsignedinteger]:
        """Index of each weight's shared value, drawn at random between its two neighbours.

        Args:
            weights: Real numbers, any shape, finite.

        Returns:
            uint8 (`codebook_.k` <= 256) or uint16, in the weights' shape.

        Raises:
            InputError: If weights are empty, NaN or infinite.
            ValueError: If `fit` was not called.
        """
        self._require_fit()
        array = finite_float32(weights)
        values = self.codebook_.values
        if values.size == 1:
            return np.zeros(array.shape, index_dtype(1))
        # A weight equal to an inner value lies at the top of the interval below it, where the
        # chance of the upper neighbour is 1: such weights, pruned ones too, are never moved.
        indices = locate(array, values[1:-1])
        if indices.dtype != index_dtype(values.size):
            indices = indices.astype(index_dtype(values.size))
        flat, drawn = array.reshape(-1), indices.reshape(-1)
        lower, upper = values[:-1], values[1:]
        scale = 1.0 / np.diff(values.astype(np.float64))
        for block, start in enumerate(range(0, flat.size, _BLOCK)):
            index = drawn[start:start + _BLOCK]
            weight = flat[start:start + _BLOCK]
            position = index.astype(np.intp)
            chance = (weight - np.take(lower, position)) * np.take(scale, position)
            generator = np.random.Generator(np.random.SFC64([*np.atleast_1d(self.seed), block]))
            chosen = generator.random(weight.size, dtype=np.float32) < chance
            index += chosen | (weight == np.take(upper, position))
        return indices


def _nonzero(weights: SortedWeights) -> SortedWeights:
    kept = weights.values != 0
    if weights.cumulative_mass is None:
        return SortedWeights(weights.values[kept])
    mass = np.diff(weights.cumulative_mass)[kept]
    return SortedWeights(weights.values[kept], np.concatenate(([0.0], np.cumsum(mass))))


def _mean(weights: SortedWeights) -> NDArray[np.float64]:
    if weights.cumulative_mass is None:
        return np.atleast_1d(weights.values.mean(dtype=np.float64))
    mass = np.diff(weights.cumulative_mass)
    return np.atleast_1d(weights.values.astype(np.float64) @ mass / weights.total)


def _quantiles(weights: SortedWeights, count: int) -> NDArray[np.float64]:
    """Quantiles 0, 1 / (count − 1), …, 1, linear between neighbouring weights.

    With sample weights, a weight sits at the middle of its own mass, the first at 0 and the last
    at 1; equal sample weights give NumPy's quantiles.
    """
    share = np.linspace(0.0, 1.0, count)
    if weights.cumulative_mass is None:
        position = share * (weights.size - 1)
    else:
        middle = 0.5 * (weights.cumulative_mass[:-1] + weights.cumulative_mass[1:])
        at = middle[0] + share * (middle[-1] - middle[0])
        position = np.interp(at, middle, np.arange(weights.size))
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, weights.size - 1)
    below, above = weights.values[low].astype(np.float64), weights.values[high].astype(np.float64)
    return below + (above - below) * (position - low)
