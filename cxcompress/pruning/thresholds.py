"""Which scores are the largest, over many arrays at once and without sorting them.

    kept = keep_largest([scores_of_conv1, scores_of_conv2], keep=1_000)    # bool, one an array

A sorted sample brackets the threshold, one pass counts what lies below the bracket, and only what
lies inside it (about a hundredth) is partitioned. The count proves the bracket, so the answer is
exact whatever the sample was. 138 million weights (VGG16) take about a second.

Reference: Floyd and Rivest (1975), "Expected time bounds for selection".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAMPLE = 1 << 18
"""Scores that the bracket is drawn from; fewer scores than twice this are simply partitioned."""
DEVIATIONS = 4.0
"""Standard deviations of the sample's rank between the expected threshold and the bracket's end."""


def keep_largest(scores: Sequence[NDArray[np.floating]], keep: int) -> list[NDArray[np.bool_]]:
    """Exactly the `keep` largest scores of all arrays together.

    Of equal scores at the threshold the first ones stay, in the order of the arrays and within
    an array in memory order.

    Args:
        scores: Arrays of any shapes, without NaN.
        keep: How many to keep, 0 to the number of all scores.

    Returns:
        bool, one array a score array and in its shape: True where it is kept.

    Raises:
        ValueError: If `keep` is out of range.
    """
    total = sum(array.size for array in scores)
    if not 0 <= keep <= total:
        raise ValueError(f"keep lies between 0 and {total}. Received: {keep}")
    if keep == total:
        return [np.ones(array.shape, bool) for array in scores]
    if keep == 0:
        return [np.zeros(array.shape, bool) for array in scores]
    threshold = kth_smallest(scores, total - keep)
    kept = [array > threshold for array in scores]
    missing = keep - sum(int(np.count_nonzero(mask)) for mask in kept)
    for mask, array in zip(kept, scores, strict=True):
        if not missing:
            break
        equal = np.flatnonzero(array == threshold)[:missing]
        mask.reshape(-1)[equal] = True
        missing -= equal.size
    return kept


def kth_smallest(arrays: Sequence[NDArray[np.floating]], k: int) -> np.floating | float:
    """The k-th smallest value of all arrays together, 1 ≤ k ≤ the number of values.

    Raises:
        ValueError: If k is out of range.
    """
    arrays = [array.reshape(-1) for array in arrays]
    total = sum(array.size for array in arrays)
    if not 1 <= k <= total:
        raise ValueError(f"k lies between 1 and {total}. Received: {k}")
    if total <= 2 * SAMPLE:
        return np.partition(np.concatenate(arrays), k - 1)[k - 1]
    # Odd, so that it does not fall into step with the channels of a kernel.
    stride = (total // SAMPLE) | 1
    sample = np.sort(np.concatenate([array[::stride] for array in arrays]))
    share = (k - 0.5) / total
    slack = DEVIATIONS * math.sqrt(share * (1 - share) / sample.size) + 2 / sample.size
    while True:
        below, above = int((share - slack) * sample.size), math.ceil((share + slack) * sample.size)
        low = sample[below] if below > 0 else -math.inf
        high = sample[above] if above < sample.size else math.inf
        rank = k - 1 - sum(int(np.count_nonzero(array < low)) for array in arrays)
        if rank >= 0:
            if low == high:
                if rank < sum(int(np.count_nonzero(array == low)) for array in arrays):
                    return low
            else:
                inside = np.concatenate(
                    [array[(array >= low) & (array <= high)] for array in arrays])
                if rank < inside.size:
                    return np.partition(inside, rank)[rank]
        slack *= 8
