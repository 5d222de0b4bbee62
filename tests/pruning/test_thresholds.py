"""The largest scores: exactly as many as asked for, whatever the ties and the sample."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.pruning import thresholds
from cxcompress.pruning.thresholds import keep_largest, kth_smallest


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4), share=st.floats(0, 1),
       levels=st.integers(1, 50), seed=st.integers(0, 99))
def test_exactly_the_largest_are_kept(sizes, share, levels, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, levels, size).astype(np.float32) for size in sizes]
    keep = round(share * sum(sizes))
    kept = keep_largest(arrays, keep)
    assert sum(mask.sum() for mask in kept) == keep
    everything, stays = np.concatenate(arrays), np.concatenate(kept)
    if 0 < keep < everything.size:
        assert everything[stays].min() >= everything[~stays].max()


@settings(max_examples=25)
@given(kind=st.sampled_from(["normal", "ties", "sorted", "constant", "periodic"]),
       share=st.floats(0.0, 1.0), seed=st.integers(0, 9))
def test_the_sampled_bracket_finds_the_same_as_sorting(kind, share, seed):
    rng = np.random.default_rng(seed)
    n = 30_000
    values = {"normal": rng.normal(size=n), "ties": rng.integers(0, 3, n),
              "sorted": np.sort(rng.normal(size=n)), "constant": np.ones(n),
              "periodic": np.tile(np.arange(101), n)[:n]}[kind].astype(np.float32)
    k = max(1, round(share * n))
    whole = thresholds.SAMPLE
    thresholds.SAMPLE = 300
    try:
        found = kth_smallest(np.split(values, [5_000, 5_001]), k)
    finally:
        thresholds.SAMPLE = whole
    assert found == np.sort(values)[k - 1]


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="keep lies between 0 and 3. Received: 4"):
        keep_largest([np.ones(3)], 4)
    with pytest.raises(ValueError, match="Received: 0"):
        kth_smallest([np.ones(3)], 0)


@pytest.mark.slow
def test_thresholds_over_the_weights_of_vgg16_are_quick():
    rng = np.random.default_rng(0)
    sizes = [3 * 3 * 512 * 512] * 6 + [25_088 * 4_096, 4_096 * 4_096, 4_096 * 1_000]
    scores = [np.abs(rng.standard_normal(size, np.float32)) for size in sizes]
    total = sum(sizes)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        kept = keep_largest(scores, total - round(0.9 * total))
        seconds.append(time.perf_counter() - start)
    assert sum(int(mask.sum()) for mask in kept) == total - round(0.9 * total)
    print(f"{total:,} weights: {min(seconds):.2f} s")
    assert min(seconds) < 3
