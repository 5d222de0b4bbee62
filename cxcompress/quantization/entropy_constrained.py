"""ECSQ: shared values that trade squared error against the entropy of the indices.

    EntropyConstrainedQuantizer(k=256)                        # λ from the error of 256 centroids
    EntropyConstrainedQuantizer(k=256, bits_per_weight=3.0)   # λ found: entropy of 3 bits
    EntropyConstrainedQuantizer(k=256, lambda_=1e-6)          # λ given
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.quantization.optimal_clustering import occupied_means, optimal_levels
from cxcompress.quantization.weight_distribution import (
    SortedWeights,
    floor_float32,
    midpoints,
)
from cxcompress.quantization.weight_quantizer import WeightQuantizer, zero_of
from cxcompress.representation.types import MAX_LEVELS, Codebook

_MAX_ITERATIONS = 2_000
_RESOLUTION = 1.0005
_SMALLEST = float(np.finfo(np.float32).tiny)


class EntropyConstrainedQuantizer(WeightQuantizer):
    """Entropy-constrained scalar quantization ("ECSQ").

    Minimises mean (w − c_t)² + λ (−log2 p_t) over the values c, their shares p and the
    assignment t, alternating between the three until the cost falls by less than `tolerance` of
    itself. A weight takes the value with the least cost, not the nearest one; the weights that do
    so form an interval, so the assignment is a list of thresholds.

    One of three targets fixes λ; the other two follow:

    - `lambda_`: λ itself, in squared weight units per bit (prior scripts that used ln give
      λ / ln 2). λ = 0 is CWS.
    - `bits_per_weight`: the least error whose entropy is at most this, with at most k levels.
    - `levels`: the smallest λ that, of twice as many levels to begin with, leaves at most this
      many alive. Rare weights keep levels alive longest, so a handful of levels means a very low
      entropy and a large error: give `bits_per_weight` there.

    Without a target, λ = 2 ln 2 × MSE of the k least-squares levels: the rate at which error is
    traded for bits at that error (6.02 dB a bit). It lowers the entropy of CWS by about half a
    bit, for somewhat more error.

    With sample weights, the error and the shares p are both taken under them.

    Args:
        k: Most shared values, 1 … 65536.
        lambda_: See above; 0 or more.
        bits_per_weight: See above; above 0.
        levels: See above; 1 … k.
        tolerance: Relative decrease of the cost at which the iteration stops. Default 1e-6.

    After `fit`:
        codebook_: `Codebook` with at most k values, sorted, unique.
        thresholds_: Decision points between them; not midpoints, unless λ = 0.
        lambda_used_: λ that was given or found.

    Reference: Chou, Lookabaugh and Gray, "Entropy-constrained vector quantization" (1989), in one
    dimension; Marinò et al. (2021) for its use on network weights.
    """

    name = "ECSQ"

    lambda_used_: float

    def __init__(
        self,
        k: int = 256,
        lambda_: float | None = None,
        bits_per_weight: float | None = None,
        levels: int | None = None,
        tolerance: float = 1e-6,
    ):
        super().__init__(k)
        self.lambda_ = lambda_
        self.bits_per_weight = bits_per_weight
        self.levels = levels
        self.tolerance = tolerance

    def check(self) -> None:
        super().check()
        targets = {"lambda_": self.lambda_, "bits_per_weight": self.bits_per_weight,
                   "levels": self.levels}
        given = [key for key, value in targets.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"ECSQ takes one target, received {' and '.join(given)}; drop one")
        if self.lambda_ is not None and not 0 <= self.lambda_ < np.inf:
            raise InputError(f"lambda_ must be 0 or more, received {self.lambda_}")
        if self.bits_per_weight is not None and not 0 < self.bits_per_weight < np.inf:
            raise InputError(f"bits_per_weight must be above 0, received {self.bits_per_weight}")
        if self.levels is not None and not 1 <= self.levels <= self.k:
            raise InputError(f"levels must be 1 to k={self.k}, received {self.levels}")
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance must lie between 0 and 1, received {self.tolerance}")

    def _learn(self, weights: SortedWeights, keep_zero: bool) -> None:
        if keep_zero and self.levels == 1 and weights.largest > 0:
            raise InputError("levels=1, kept for pruned weights, would make every weight 0; "
                             "give 2 or more")
        descent = _Descent(weights, keep_zero, self.tolerance)
        k = int(self.k)
        if self.bits_per_weight is not None:
            target = _Target(lambda found: found.rate, float(self.bits_per_weight), 5e-4)
            solution = _least_lambda(descent, lambda trial: descent.best(trial, k), target)
        elif self.levels is not None:
            target = _Target(lambda found: found.levels.size, int(self.levels), 0)
            begin = min(2 * int(self.levels), MAX_LEVELS)
            solution = _least_lambda(descent, lambda trial: descent.thinned(trial, begin), target)
        else:
            lambda_ = self.lambda_
            if lambda_ is None:
                lambda_ = 2.0 * np.log(2.0) * descent.best(0.0, k).cost
            solution = descent.polished(descent.best(float(lambda_), k))
        self._keep(solution, keep_zero)

    def _keep(self, solution: _Solution, keep_zero: bool) -> None:
        values = solution.levels.astype(np.float32) + np.float32(0.0)
        kept = np.concatenate(([True], np.diff(values) > 0))
        values = values[kept]
        self.codebook_ = Codebook(values, zero=zero_of(values) if keep_zero else None)
        self.thresholds_ = floor_float32(solution.thresholds[kept[1:]])
        self.lambda_used_ = solution.lambda_


@dataclass(frozen=True)
class _Solution:
    lambda_: float
    levels: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    rate: float
    cost: float


@dataclass(frozen=True)
class _Target:
    """A quantity that falls as λ grows and may not exceed `goal`."""

    measure: Callable[[_Solution], float]
    goal: float
    slack: float

    def met(self, solution: _Solution) -> bool:
        return self.measure(solution) <= self.goal

    def hit(self, solution: _Solution) -> bool:
        return self.met(solution) and self.measure(solution) >= self.goal - self.slack


class _Descent:
    """Lagrangian descents on one set of weights, most of them on its condensed form."""

    def __init__(self, weights: SortedWeights, keep_zero: bool, tolerance: float):
        self.weights = weights
        self.condensed = weights.condensed()
        self.keep_zero = keep_zero
        self.tolerance = tolerance
        self._centroids: dict[int, NDArray[np.float64]] = {}

    def best(self, lambda_: float, most: int) -> _Solution:
        """The cheapest of the descents from several starts of at most `most` levels.

        Levels may die in a descent but none is born. At high rates the optimum is nearly uniform,
        of step √(6 λ / ln 2): grids of that step and of half of it are tried where they have few
        enough levels, else the density that `SortedWeights.companded` gives, never finer than
        that step. The least-squares levels are the optimum for λ = 0 and a start for all λ.
        """
        starts = [self._least_squares(most)]
        if lambda_ > 0:
            step = natural_step(lambda_)
            starts.append(self._means(self.condensed.companded(most, finest=step)))
            for width in (step, 0.5 * step):
                thresholds = self._grid(width)
                if thresholds is not None:
                    starts.append(self._means(thresholds))
        return min((self._run(self.condensed, levels, lambda_)
                    for levels in starts if levels.size <= most),
                   key=lambda solution: solution.cost)

    def thinned(self, lambda_: float, begin: int) -> _Solution:
        """The descent from `begin` least-squares levels, of which λ lets some die."""
        return self._run(self.condensed, self._least_squares(begin), lambda_)

    def polished(self, solution: _Solution) -> _Solution:
        """A solution for the condensed weights, continued on all of them."""
        return self._run(self.weights, solution.levels, solution.lambda_)

    def _grid(self, step: float) -> NDArray[np.float64] | None:
        """Thresholds of a grid around 0; None where it has too many cells."""
        ends = np.asarray([self.condensed.values[0], self.condensed.values[-1]], np.float64)
        low, high = np.rint(ends / step)
        return None if high - low > MAX_LEVELS else (np.arange(low, high) + 0.5) * step

    def _means(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        return occupied_means(self.condensed, thresholds, self.keep_zero)

    def _least_squares(self, k: int) -> NDArray[np.float64]:
        if k not in self._centroids:
            weights = self.condensed
            if weights.distinct + int(self.keep_zero) <= k:
                levels = weights.distinct_values().astype(np.float64)
                levels = np.union1d(levels, 0.0) if self.keep_zero else levels
            elif k == 1 and self.keep_zero:
                levels = np.zeros(1)
            else:
                levels = optimal_levels(weights, k, keep_zero=self.keep_zero)
            self._centroids[k] = levels
        return self._centroids[k]

    def _run(
        self, weights: SortedWeights, levels: NDArray[np.float64], lambda_: float
    ) -> _Solution:
        total = weights.total
        thresholds = midpoints(levels)
        previous = np.inf
        for _ in range(_MAX_ITERATIONS):
            mass, mean = weights.cells(thresholds)
            pruned = (levels == 0) & self.keep_zero
            levels = np.where(pruned, 0.0, mean)
            error = weights.squared_error(mass, mean, levels)
            live = (mass > 0) | pruned
            levels, mass = levels[live], mass[live]
            # The level of pruned weights stays even while nothing is pruned.
            bits = -np.log2(np.maximum(mass / total, 0.5 / self.weights.size))
            rate = float(mass @ bits) / total
            cost = error / total + lambda_ * rate
            zero = zero_of(levels) if self.keep_zero else None
            kept, thresholds = cheapest_intervals(levels, bits, lambda_, zero)
            levels = levels[kept]
            settled = previous - cost <= self.tolerance * cost
            if settled and levels.size == live.size:
                break
            previous = cost
        return _Solution(lambda_, levels, thresholds, rate, cost)


def natural_step(lambda_: float) -> float:
    """Step of the optimal uniform quantizer at high rate: there dD/dR = −λ gives √(6 λ / ln 2)."""
    return float(np.sqrt(6.0 * lambda_ / np.log(2.0)))


def cheapest_intervals(
    levels: NDArray[np.float64], bits: NDArray[np.float64], lambda_: float, zero: int | None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where each level has the least (w − level)² + λ bits: the lower envelope of k parabolas.

    Without their common w² the parabolas are lines in w, so each level is cheapest on one
    interval, or nowhere.

    Args:
        levels: float64 `(k,)`, ascending.
        bits: Code length of each level.
        lambda_: Squared weight units per bit.
        zero: Level that keeps at least w = 0, or None.

    Returns:
        Positions of the levels that have an interval, and the thresholds between those.
    """
    kept = np.arange(levels.size)
    while True:
        gap = np.diff(levels[kept])
        thresholds = midpoints(levels[kept]) + lambda_ * np.diff(bits[kept]) / (2.0 * gap)
        # A level whose upper threshold does not pass its lower one is undercut by its neighbours.
        # Of adjacent such levels only every second goes, as the other was its witness.
        undercut = np.zeros(kept.size, bool)
        undercut[1:-1] = thresholds[1:] <= thresholds[:-1]
        undercut &= kept != (-1 if zero is None else zero)
        if not undercut.any():
            break
        position = np.arange(kept.size)
        run_start = np.maximum.accumulate(np.where(undercut, -1, position)) + 1
        kept = kept[~(undercut & ((position - run_start) % 2 == 0))]
    if zero is not None:
        at = int(np.searchsorted(kept, zero))
        just_below = np.nextafter(np.float32(0.0), np.float32(-1.0)).astype(np.float64)
        thresholds[:at] = np.minimum(thresholds[:at], just_below)
        thresholds[at:] = np.maximum(thresholds[at:], 0.0)
    return kept, thresholds


def _least_lambda(
    descent: _Descent, solve: Callable[[float], _Solution], target: _Target
) -> _Solution:
    """The polished solution of the least λ that meets the target, by bisection on log λ."""
    found = solve(0.0)
    if not target.met(found):
        # At a λ this large one level is the cheapest.
        low, lambda_ = 0.0, (4.0 * max(descent.weights.largest, _SMALLEST)) ** 2
        while low == 0.0:
            trial = solve(lambda_)
            if target.met(trial):
                found, lambda_ = trial, 0.25 * lambda_
            else:
                low = lambda_
        while found.lambda_ > _RESOLUTION * low and not target.hit(found):
            trial = solve(float(np.sqrt(low * found.lambda_)))
            if target.met(trial):
                found = trial
            else:
                low = trial.lambda_
    solution = descent.polished(found)
    while not target.met(solution):
        solution = descent.polished(solve(_RESOLUTION * solution.lambda_))
    return solution
