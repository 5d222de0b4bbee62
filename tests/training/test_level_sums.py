"""Sums by level are the sums; the nearest level is the nearest."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.training.level_sums import BUCKETS, level_dtype, nearest_level, sum_by_level


@settings(max_examples=25)
@given(size=st.sampled_from([1, 7, 32_768, 32_769, 100_001]), k=st.sampled_from([1, 3, 256, 300]),
       seed=st.integers(0, 2**31))
def test_sums_are_the_sums_of_the_members(size, k, seed):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, k, size)
    gradient = rng.normal(size=size).astype(np.float32)
    sums = sum_by_level(tf.constant(gradient), tf.constant(levels.astype(level_dtype(k))), k)
    exact = np.bincount(levels, weights=gradient.astype(float), minlength=k)
    # Rounding of n float32 additions to a sum of about the root of n; a lost member is 1 off.
    np.testing.assert_allclose(sums, exact, atol=2.5e-7 * size + 1e-6)


def test_the_same_gradient_gives_the_same_bits_every_time():
    rng = np.random.default_rng(0)
    gradient = tf.constant(rng.normal(size=(700, 701)).astype(np.float32))
    levels = tf.constant(rng.integers(0, 5, (700, 701)).astype(np.uint8))
    graph = tf.function(sum_by_level)
    first = graph(gradient, levels, 5).numpy()
    assert all(np.array_equal(first, graph(gradient, levels, 5)) for _ in range(20))


@settings(max_examples=40)
@given(k=st.sampled_from([1, 2, 3, 16, 17, 255, 300]), seed=st.integers(0, 2**31),
       heavy=st.booleans())
def test_the_nearest_level_is_at_most_a_bucket_from_the_nearest(k, seed, heavy):
    rng = np.random.default_rng(seed)
    draw = rng.standard_t(2, k) if heavy else rng.normal(size=k)
    values = draw.astype(np.float32)
    weights = rng.normal(size=(50, 40)).astype(np.float32) * 2
    levels = nearest_level(tf.constant(weights), tf.constant(values)).numpy()
    distance = np.abs(weights[..., None] - values).astype(float)
    excess = np.take_along_axis(distance, levels[..., None].astype(int), -1)[..., 0] \
        - distance.min(-1)
    allowed = 2 * np.ptp(values) / BUCKETS if k > 16 else 0
    assert excess.max() <= allowed + 1e-5 * np.abs(values).max()
    assert levels.dtype == level_dtype(k)


def test_evenly_spaced_values_get_exactly_the_nearest_level():
    values = np.linspace(-1, 1, 256, dtype=np.float32)
    weights = np.random.default_rng(3).uniform(-1.2, 1.2, 100_000).astype(np.float32)
    levels = nearest_level(tf.constant(weights), tf.constant(values[::-1].copy())).numpy()
    thresholds = (values[1:] + values[:-1]) / 2
    np.testing.assert_array_equal(255 - levels.astype(int), np.searchsorted(thresholds, weights))


@pytest.mark.parametrize("k", [3, 40])
def test_equal_values_and_weights_that_are_no_numbers_do_no_harm(k):
    weights = tf.constant([np.nan, np.inf, -np.inf, 0.0], tf.float32)
    levels = nearest_level(weights, tf.ones(k)).numpy()
    assert levels.max() < k
