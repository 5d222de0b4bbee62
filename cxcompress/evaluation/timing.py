"""Timing several variants fairly: in turns, after a warm-up, judged by the median.

    seconds = interleaved({"original": call_original, "compressed": call_compressed})
    time_ratio = np.median(seconds["compressed"]) / np.median(seconds["original"])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray


def interleaved(
    variants: Mapping[str, Callable[[], object]], repeats: int = 20, warm_up: int = 3
) -> dict[str, NDArray[np.float64]]:
    """Time every variant `repeats` times, round after round, in an order that rotates.

    A machine that slows down for a while slows every variant, so ratios of medians stay right
    where seconds do not.

    Args:
        variants: Called without arguments; each must have finished its work when it returns.
        repeats: Timed calls of each.
        warm_up: Calls of each before the first timed one.

    Returns:
        Seconds by variant, float64 `(repeats,)`.

    Raises:
        ValueError: If `repeats` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1. Received: {repeats}")
    for call in variants.values():
        for _ in range(warm_up):
            call()
    names = list(variants)
    seconds = {name: np.empty(repeats) for name in names}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            variants[name]()
            seconds[name][turn] = time.perf_counter() - start
    return seconds
