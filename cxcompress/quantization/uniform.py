"""UQ: shared values on a symmetric grid through zero, step × integer.

    quantizer = UniformQuantizer(k=256).fit(kernel)
    quantizer.codebook_.step                    # int8 kernels hold values / step exactly
    quantizer.codebook_.grid_integers
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from cxcompress.quantization.weight_distribution import (
    SortedWeights,
    midpoints,
)
from cxcompress.quantization.weight_quantizer import WeightQuantizer
from cxcompress.representation.types import MAX_GRID_INTEGER

logger = logging.getLogger(__name__)

WIDE_GRID_INTEGER = 1 << 20
"""Largest |integer| of grids with more than 256 levels: float32 still tells all points apart."""

FEW_WEIGHTS = 4
"""Grid points a weight, up to which a grid is looked at as a whole."""

_SMALLEST_STEP = float(np.finfo(np.float32).tiny)


class UniformQuantizer(WeightQuantizer):
    """Codebook on a uniform grid ("UQ"): every value is step × an integer.

    The step is the one with the most grid points in use, at most k; among equals, the one with
    the least squared error. No weight is clipped: each is at most half a step from its value.
    Points that no weight takes are left out of the codebook.

    Up to k = 256 the integers lie in [−127, 127] and `codebook_.step` is set, so that int8 kernels
    are exact: that grid has 255 points, so k = 256 uses at most 255. For k above 256 the
    integers need more bits and `codebook_.step` is None.

    Args:
        k: Most shared values, 1 … 65536.

    Reference: Choi et al., "Universal deep neural network compression" (2020), without dither;
    the search for the step replaces the fixed list of steps of Marinò et al. (2021).
    """

    name = "UQ"

    def _learn(self, weights: SortedWeights, keep_zero: bool) -> None:
        limit = MAX_GRID_INTEGER if self.k <= 256 else WIDE_GRID_INTEGER
        if self.k == 256:
            logger.info("UQ: k=256 uses at most 255 levels, -127 to 127 times the step")
        step = _exact_step(weights, int(self.k), limit, keep_zero)
        if step is None:
            step = _best_step(weights, int(self.k), limit, keep_zero)
        integers = _integers(weights, step, limit)
        used = _masses(weights, step, integers) > 0
        integers = integers[used | (integers == 0) if keep_zero else used]
        values = integers.astype(np.float32) * np.float32(step)
        self._store(values, keep_zero, step if limit == MAX_GRID_INTEGER else None)


def _float32_step(step: float) -> float:
    """The float32 nearest to `step`, so that a float32 file holds it exactly."""
    return float(np.float32(max(step, _SMALLEST_STEP)))


def _integers(weights: SortedWeights, step: float, limit: int) -> NDArray[np.int64]:
    """The grid's integers from the least weight's, or 0, to the largest weight's, or 0.

    Of a grid with many more points than there are weights only those near a weight, and 0: no
    weight is nearest to another.
    """
    low, high = np.rint(np.asarray([weights.values[0], weights.values[-1]], np.float64) / step)
    first, last = max(min(int(low), 0), -limit), min(max(int(high), 0), limit)
    if last - first <= FEW_WEIGHTS * weights.values.size:
        return np.arange(first, last + 1)
    nearest = np.rint(weights.distinct_values() / step).astype(np.int64)
    near = np.concatenate([nearest - 1, nearest, nearest + 1, [0]])
    return np.unique(near.clip(first, last))


def _masses(weights: SortedWeights, step: float, integers: NDArray) -> NDArray[np.intp]:
    """How many weights are nearest to each grid point."""
    return np.diff(weights.edges(midpoints(integers.astype(np.float32) * np.float32(step))))


def _levels_in_use(
    weights: SortedWeights, step: float, limit: int, keep_zero: bool
) -> int:
    integers = _integers(weights, step, limit)
    masses = _masses(weights, step, integers)
    used = int(np.count_nonzero(masses))
    return used + int(keep_zero and not masses[integers == 0].any())


def _squared_error(weights: SortedWeights, step: float, limit: int) -> float:
    levels = _integers(weights, step, limit).astype(np.float32) * np.float32(step)
    mass, mean = weights.cells(midpoints(levels))
    return weights.squared_error(mass, mean, levels.astype(np.float64))


def _best_step(weights: SortedWeights, k: int, limit: int, keep_zero: bool) -> float:
    """The step with the most levels in use, at most k, then with the least squared error."""
    largest = weights.largest
    if largest <= _SMALLEST_STEP:
        return 1.0
    least = float(np.nextafter(np.float32(largest / (limit + 0.5)), np.float32(np.inf)))
    fine, coarse = least, 4.0 * largest
    if _levels_in_use(weights, fine, limit, keep_zero) > k:
        # The count falls with the step, but for single weights that enter or leave a cell.
        while coarse > fine * 1.0001:
            middle = float(np.sqrt(fine * coarse))
            if _levels_in_use(weights, middle, limit, keep_zero) > k:
                fine = middle
            else:
                coarse = middle
        fine = coarse
    trials = np.geomspace(max(least, fine / 1.1), fine * 1.25, 512 if limit < 256 else 24)
    best: tuple[int, float, float] | None = None
    for trial in {_float32_step(trial) for trial in [fine, *trials]}:
        used = _levels_in_use(weights, trial, limit, keep_zero)
        if used <= k and (best is None or used >= best[0]):
            candidate = (used, -_squared_error(weights, trial, limit), trial)
            best = candidate if best is None else max(best, candidate)
    assert best is not None  # `fine` itself has at most k levels
    return best[2]


def _exact_step(
    weights: SortedWeights, k: int, limit: int, keep_zero: bool
) -> float | None:
    """The step of weights that already lie on a grid of at most k levels, else None."""
    if weights.distinct > k:
        return None
    values = weights.distinct_values()
    gaps = np.diff(np.unique(np.abs(np.append(values, np.float32(0.0)))).astype(np.float64))
    if not gaps.size:
        return 1.0
    integers = np.rint(values / gaps.min())
    largest = int(np.argmax(np.abs(integers)))
    if abs(integers[largest]) > limit or values.size + (keep_zero and 0 not in integers) > k:
        return None
    step = _float32_step(float(values[largest] / integers[largest]))
    exact = np.array_equal(integers.astype(np.float32) * np.float32(step), values)
    return step if exact else None
