"""Least-squares levels on the line: exact dynamic programming and Lloyd's iteration.

    levels = optimal_levels(SortedWeights.of(kernel), k=16)      # float64, ascending

Up to 32,767 distinct weights (fewer above k = 1,024) the result is the global optimum. Beyond,
the weights are first gathered in fine intervals, the optimum over those is found, and Lloyd's
iteration on all weights polishes it. Above k = 2,048, Lloyd starts from the asymptotically optimal
density instead: near the optimum where many weights share a level, but up to a third above its
error where only two to ten do.

Reference: 1-D k-means by dynamic programming with monotone split points: Grønlund et al.,
"Fast Exact k-Means, k-Medians and Bregman Divergence Clustering in 1D" (2017).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxcompress.quantization.weight_distribution import SortedWeights, midpoints

MOST_POINTS = (1 << 15) - 1
"""Most points that the dynamic program takes; their positions fit int16."""

PROGRAM_WORK = 1 << 25
"""Most points × levels of the dynamic program: about 3 seconds."""

_TOLERANCE = 1e-9
_WORK = 1 << 24


def optimal_levels(
    weights: SortedWeights, k: int, *, keep_zero: bool = False
) -> NDArray[np.float64]:
    """The k levels with the least squared error.

    Args:
        weights: More distinct values than k (with `keep_zero`: more, not counting 0, than k − 1).
        k: Number of levels.
        keep_zero: One of the levels is exactly 0.

    Returns:
        float64 `(k,)`, ascending; fewer only where no split lowers the error any more.
    """
    affordable = min(MOST_POINTS, PROGRAM_WORK // k)
    intervals = min(affordable, max(4096, 16 * k))
    if weights.distinct <= affordable:
        levels = _program(weights, midpoints(weights.distinct_values()), k, keep_zero)
    elif intervals >= 8 * k:
        levels = _program(weights, weights.companded(intervals), k, keep_zero)
    else:
        levels = occupied_means(weights, weights.companded(k - keep_zero), keep_zero)
    for _ in range(32):
        levels = _split_worst(weights, levels, k, keep_zero)
        levels = _lloyd(weights, levels, keep_zero)
        if levels.size >= min(k, weights.distinct):
            break
    return levels


def _program(
    weights: SortedWeights, thresholds: NDArray, k: int, keep_zero: bool
) -> NDArray[np.float64]:
    """Optimal levels over the cells of `thresholds`, each taken as a point at its mean."""
    mass, mean = weights.cells(thresholds)
    mass, mean = mass[mass > 0], mean[mass > 0]
    if not keep_zero:
        splits, _ = _partition(mass, mean - weights.centre, k, first_at_zero=False)
        return _means(mass, mean, _group_ends(splits, min(k, mean.size)))
    # Either side of 0 is a problem of its own, whose innermost points may go to the level 0.
    sides = [np.flatnonzero(mean < 0)[::-1], np.flatnonzero(mean > 0)]
    solved = [_partition(mass[side], np.abs(mean[side]), k - 1, first_at_zero=True)
              for side in sides]
    below = np.arange(k)
    most = [costs.size - 1 for _, costs in solved]
    total = (solved[0][1][np.minimum(below, most[0])]
             + solved[1][1][np.minimum(k - 1 - below, most[1])])
    chosen = int(np.argmin(total))
    levels = [np.zeros(1)]
    for count, side, (splits, costs) in zip((chosen, k - 1 - chosen), sides, solved, strict=True):
        ends = _group_ends(splits, min(count, costs.size - 1))
        levels.append(_means(mass[side], mean[side], ends))
    return np.sort(np.concatenate(levels))


def _means(mass: NDArray, mean: NDArray, ends: NDArray[np.intp]) -> NDArray[np.float64]:
    """Means of the consecutive groups of points between `ends`."""
    group_mass = np.diff(np.concatenate(([0.0], np.cumsum(mass)))[ends])
    return np.diff(np.concatenate(([0.0], np.cumsum(mass * mean)))[ends]) / group_mass


def _group_ends(splits: NDArray, groups: int) -> NDArray[np.intp]:
    """Where the groups of the best partition begin and end, `(groups + 1,)`.

    Read back from `_partition`'s splits; the points before the first end are those at zero.
    """
    ends = [splits.shape[1] - 1]
    for layer in range(groups, 0, -1):
        ends.append(int(splits[layer, ends[-1]]))
    return np.asarray(ends[::-1], dtype=np.intp)


def _partition(
    mass: NDArray, point: NDArray, k: int, *, first_at_zero: bool
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Least-cost partitions of n ordered points into consecutive groups, for every number <= k.

    D_t[j] = min_i D_{t−1}[i] + cost(i, j): the first j points in t groups. The best i grows with
    j and with t, so the columns j are solved from coarse to fine, each between the answers of its
    neighbours: about n operations a layer.

    Args:
        mass: Positive, `(n,)`.
        point: `(n,)`, monotone.
        k: Most groups, not counting a first group at zero.
        first_at_zero: An extra first group, possibly empty, pays its distance to 0.

    Returns:
        `(groups + 1, n + 1)`: where the last of t groups of the first j points begins; and the
        least cost of all points in t = 0 … groups groups.
    """
    n = point.size
    running_mass = np.concatenate(([0.0], np.cumsum(mass)))
    running_sum = np.concatenate(([0.0], np.cumsum(mass * point)))
    running_square = np.concatenate(([0.0], np.cumsum(mass * np.square(point))))

    if first_at_zero:
        cost = running_square.copy()
    else:
        cost = np.full(n + 1, np.inf)
        cost[0] = 0.0
    k = min(k, n)
    columns = _coarse_to_fine(n)
    splits = np.zeros((k + 1, n + 1), np.int16 if n <= MOST_POINTS else np.int32)
    totals = [float(cost[n])]
    previous = np.zeros(n + 1, np.intp)
    for layer in range(1, k + 1):
        base = cost - running_square
        split = np.zeros(n + 1, np.intp)
        new_cost = np.full(n + 1, np.inf)
        for column, left, right in columns:
            # Layer t needs t points at least; earlier columns keep the split 'one point a group'.
            low = np.maximum(np.where(left > 0, split[left], 0), previous[column])
            low = np.maximum(low, layer - 1)
            high = np.where(right <= n, split[np.minimum(right, n)], n)
            high = np.minimum(high, column - 1)
            feasible = column >= layer
            split[column[~feasible]] = column[~feasible] - 1
            column, low, high = column[feasible], low[feasible], high[feasible]
            if not column.size:
                continue
            high = np.maximum(high, low)
            length = high - low + 1
            start = np.concatenate(([0], np.cumsum(length)[:-1]))
            candidate = np.repeat(low - start, length) + np.arange(int(length.sum()))
            end = np.repeat(column, length)
            group_sum = running_sum[end] - running_sum[candidate]
            group_mass = running_mass[end] - running_mass[candidate]
            value = base[candidate] - group_sum * group_sum / group_mass
            least = np.minimum.reduceat(value, start)
            hit = np.flatnonzero(value == np.repeat(least, length))
            best = candidate[hit[np.searchsorted(hit, start)]]
            split[column] = best
            new_cost[column] = least + running_square[column]
        splits[layer] = split
        previous, cost = split, new_cost
        totals.append(float(cost[n]))

    return splits, np.asarray(totals)


def _coarse_to_fine(n: int) -> list[tuple[NDArray, NDArray, NDArray]]:
    """Columns 1 … n level by level, each with its solved neighbours (0 and > n: none)."""
    levels = []
    stride = 1 << max(n.bit_length() - 1, 0)
    while stride:
        column = np.arange(stride, n + 1, 2 * stride)
        levels.append((column, column - stride, column + stride))
        stride //= 2
    return levels


def occupied_means(
    weights: SortedWeights, thresholds: NDArray, keep_zero: bool
) -> NDArray[np.float64]:
    """Means of the cells that hold weights; with `keep_zero`, 0 for the cell around 0."""
    mass, mean = weights.cells(thresholds)
    if keep_zero:
        mass[np.searchsorted(thresholds, 0.0, side="left")] = 0.0
        return np.union1d(mean[mass > 0], 0.0)
    return mean[mass > 0]


def _split_worst(
    weights: SortedWeights, levels: NDArray, k: int, keep_zero: bool
) -> NDArray[np.float64]:
    """Add levels up to k by splitting, at their means, the cells with the largest error."""
    while levels.size < k:
        thresholds = midpoints(levels)
        _, mean = weights.cells(thresholds)
        scatter = weights.scatter(thresholds)
        if keep_zero:
            scatter[levels == 0] = 0.0
        worst = np.argsort(scatter)[::-1][:k - levels.size]
        worst = worst[scatter[worst] > 0]
        finer = occupied_means(
            weights, np.unique(np.concatenate((thresholds, mean[worst]))), keep_zero)
        if finer.size <= levels.size:
            break
        levels = finer
    return levels


def _lloyd(weights: SortedWeights, levels: NDArray, keep_zero: bool) -> NDArray[np.float64]:
    """Alternate nearest-level cells and cell means until the error stops falling."""
    for _ in range(min(10_000, max(100, _WORK // levels.size))):
        mass, mean = weights.cells(midpoints(levels))
        target = np.where(mass > 0, mean, levels)
        if keep_zero:
            target[levels == 0] = 0.0
        error = weights.squared_error(mass, mean, target)
        gain = float(mass @ np.square(target - levels))
        levels = target
        if gain <= _TOLERANCE * error:
            break
    mass, _ = weights.cells(midpoints(levels))
    kept = mass > 0
    if keep_zero:
        kept |= levels == 0
    return levels[kept]
