"""Weights sorted once, so that every fit afterwards costs the number of levels, not of weights.

    weights = SortedWeights.of(kernel)            # any shape; checked, float32
    mass, mean = weights.cells(thresholds)        # of each interval between thresholds
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError

CONDENSED_SIZE = 1 << 16
"""Most values of `SortedWeights.condensed`."""

_BLOCK = 1 << 20


def finite_float32(weights: ArrayLike, name: str = "weights") -> NDArray[np.float32]:
    """`weights` as float32, in their shape; copies only where the type differs.

    Args:
        weights: Real numbers, any shape, at least one.
        name: What the error calls them, e.g. a layer's path.

    Raises:
        InputError: If they are not real numbers, empty, NaN, infinite or beyond float32.
    """
    array = np.asarray(weights)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise InputError(f"{name}: weights must be real numbers, received {array.dtype}; "
                         "give a float array")
    if array.size == 0:
        raise InputError(f"{name}: the array of shape {array.shape} holds no weights; "
                         "leave this kernel out")
    with np.errstate(over="ignore"):
        array = np.asarray(array, dtype=np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        broken = array.size - int(np.count_nonzero(finite))
        raise InputError(f"{name}: {broken} of {array.size} weights are NaN or infinite; "
                         "repair or retrain the model before compressing it")
    return array


def floor_float32(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 not above each threshold.

    For a float32 weight, `weight > threshold` and `weight > floor_float32(threshold)` are the
    same statement, so decisions taken in float32 are those of the float64 threshold.
    """
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
    above = rounded > thresholds
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def midpoints(levels: NDArray) -> NDArray[np.float64]:
    """Points halfway between neighbouring levels, `(k − 1,)`; a weight there takes the lower."""
    levels = levels.astype(np.float64)
    return 0.5 * (levels[:-1] + levels[1:])


@dataclass(frozen=True)
class SortedWeights:
    """The weights' distribution: sorted values and, on demand, cumulative moments.

    Cell t of thresholds b is the interval b[t − 1] < w <= b[t].

    Args:
        values: float32 `(n,)`, ascending.
        cumulative_mass: float64 `(n + 1,)` running sum of sample weights, or None where every
            weight counts 1.
    """

    values: NDArray[np.float32]
    cumulative_mass: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, weights: ArrayLike, sample_weight: ArrayLike | None = None) -> SortedWeights:
        """Sort `weights` (any shape); those with a sample weight of 0 are left out.

        Raises:
            InputError: If weights or sample weights cannot be used (see `finite_float32`).
        """
        flat = finite_float32(weights).ravel()
        if sample_weight is None:
            return cls(np.sort(flat))
        mass = np.asarray(sample_weight, dtype=np.float64)
        if mass.shape != np.shape(weights):
            raise InputError(f"sample_weight has shape {mass.shape}, the weights "
                             f"{np.shape(weights)}; give one number a weight")
        mass = mass.ravel()
        if not np.isfinite(mass).all() or mass.min() < 0 or not 0 < mass.sum() < np.inf:
            raise InputError("sample_weight must be finite, none below 0 and not all 0")
        counted = mass > 0
        flat, mass = flat[counted], mass[counted]
        order = np.argsort(flat)
        return cls(flat[order], np.concatenate(([0.0], np.cumsum(mass[order]))))

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(self.values.size)

    @property
    def total(self) -> float:
        """Mass of all weights."""
        return float(self.size if self.cumulative_mass is None else self.cumulative_mass[-1])

    @property
    def largest(self) -> float:
        """Largest magnitude."""
        return float(max(abs(float(self.values[0])), abs(float(self.values[-1]))))

    @cached_property
    def centre(self) -> float:
        """Mean of the values; moments are taken about it so that no digits cancel."""
        return float(self.values.mean(dtype=np.float64))

    @cached_property
    def distinct(self) -> int:
        """Number of distinct values."""
        return 1 + int(np.count_nonzero(self.values[1:] != self.values[:-1]))

    def distinct_values(self) -> NDArray[np.float32]:
        """The distinct values, ascending, with 0 never negative."""
        first = np.concatenate(([True], self.values[1:] != self.values[:-1]))
        return self.values[first] + np.float32(0.0)

    def _running_sum(self, power: int) -> NDArray[np.float64]:
        # Filled in place: at 25 million weights each float64 temporary would cost 200 MB.
        running = np.empty(self.size + 1)
        running[0] = 0.0
        terms = running[1:]
        for start in range(0, self.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            np.subtract(self.values[block], self.centre, out=terms[block], dtype=np.float64)
            if power == 2:
                np.square(terms[block], out=terms[block])
            if self.cumulative_mass is not None:
                terms[block] *= np.diff(self.cumulative_mass[start:start + _BLOCK + 1])
        return np.cumsum(running, out=running)

    @cached_property
    def _first_moment(self) -> NDArray[np.float64]:
        return self._running_sum(1)

    @cached_property
    def _second_moment(self) -> NDArray[np.float64]:
        return self._running_sum(2)

    @cached_property
    def spread(self) -> float:
        """Sum of mass × (value − centre)²."""
        total = 0.0
        for start in range(0, self.size, _BLOCK):
            terms = np.subtract(self.values[start:start + _BLOCK], self.centre, dtype=np.float64)
            np.square(terms, out=terms)
            if self.cumulative_mass is None:
                total += float(terms.sum())
            else:
                total += float(terms @ np.diff(self.cumulative_mass[start:start + _BLOCK + 1]))
        return total

    def mass_before(self, position: NDArray[np.intp]) -> NDArray[np.float64]:
        """Mass of the first `position` weights."""
        if self.cumulative_mass is None:
            return position.astype(np.float64)
        return self.cumulative_mass[position]

    def edges(self, thresholds: NDArray[np.float64]) -> NDArray[np.intp]:
        """First position of each cell and the end, `(len(thresholds) + 2,)`."""
        inner = np.searchsorted(self.values, floor_float32(thresholds), side="right")
        return np.concatenate(([0], inner, [self.size]))

    def cells(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mass and mean of each cell, both `(len(thresholds) + 1,)`; an empty cell's mean is 0."""
        edges = self.edges(thresholds)
        mass = np.diff(self.mass_before(edges))
        moment = np.diff(self._first_moment[edges])
        mean = np.divide(moment, mass, out=np.zeros_like(mass), where=mass > 0) + self.centre
        # Beside weights that are 10^16 times larger the difference of moments loses every digit;
        # the cell's own extremes still bound its mean.
        first = self.values[np.minimum(edges[:-1], self.size - 1)]
        last = self.values[np.maximum(edges[1:] - 1, 0)]
        return mass, np.where(mass > 0, np.clip(mean, first, last), 0.0)

    def scatter(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared distance to the cell's mean, summed over each cell."""
        edges = self.edges(thresholds)
        mass = np.diff(self.mass_before(edges))
        moment = np.diff(self._first_moment[edges])
        inside = np.divide(moment**2, mass, out=np.zeros_like(mass), where=mass > 0)
        return np.maximum(np.diff(self._second_moment[edges]) - inside, 0.0)

    def squared_error(self, mass: NDArray, mean: NDArray, levels: NDArray) -> float:
        """Sum of mass × (value − level of its cell)², from what `cells` returned."""
        within = self.spread - float(mass @ np.square(mean - self.centre))
        return max(within, 0.0) + float(mass @ np.square(mean - levels))

    def companded(self, cells: int, finest: float = 0.0) -> NDArray[np.float64]:
        """Thresholds of at most `cells` intervals whose density follows (weight density)^(1/3).

        That is the density of the optimal levels when they are many (Panter and Dite, 1951). The
        density is read from quantiles: an interval of width g and mass m gets m^(1/3) g^(2/3).

        Args:
            cells: Number of intervals.
            finest: No interval is made narrower than this; others get the cells saved.
        """
        bulk = np.linspace(0, self.size - 1, min(self.size, 1 << 16)).astype(np.intp)
        tail = np.unique(np.geomspace(1, self.size, 4096).astype(np.intp)) - 1
        position = np.unique(np.concatenate((bulk, tail, self.size - 1 - tail)))
        value = self.values[position].astype(np.float64)
        gap = np.diff(value)
        wanted = np.cbrt(np.diff(self.mass_before(position)) * np.square(gap))
        wanted *= cells / max(float(wanted.sum()), np.finfo(np.float64).tiny)
        share = wanted
        for _ in range(64 if finest > 0 else 0):
            share = np.minimum(wanted, gap / finest)
            missing = cells / float(share.sum())
            if missing < 1.001:
                break
            wanted = wanted * missing
        running = np.concatenate(([0.0], np.cumsum(share)))
        count = max(1, min(cells, int(running[-1] + 0.5)))
        return np.interp(np.linspace(0.0, running[-1], count + 1)[1:-1], running, value)

    def condensed(self) -> SortedWeights:
        """At most 65,536 weighted values that stand for these: searches over them are quick."""
        if self.size <= CONDENSED_SIZE:
            return self
        mass, mean = self.cells(self.companded(CONDENSED_SIZE))
        mass, mean = mass[mass > 0], mean[mass > 0]
        return SortedWeights(
            mean.astype(np.float32), np.concatenate(([0.0], np.cumsum(mass))))
