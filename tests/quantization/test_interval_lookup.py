"""The table look-up must be `searchsorted`, whatever the weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxcompress.quantization.interval_lookup import locate, nearest_level
from cxcompress.quantization.weight_distribution import floor_float32, midpoints
from cxcompress.representation.types import Codebook

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(("k", "scale"), [
    *((k, scale) for k in (1, 2, 16, 256, 257, 1_023) for scale in (1e-42, 1e-20, 1.0, 1e25)),
    (1_025, 1.0), (65_536, 1.0),
])
def test_equals_searchsorted_on_large_arrays(k, scale):
    generator = np.random.default_rng(k)
    size = 300_000 if k < 1_024 else 5_000_000
    weights = (generator.standard_t(1.2, size=size) * scale).astype(np.float32)
    weights[:4] = 0.0, -0.0, np.finfo(np.float32).max, np.finfo(np.float32).min
    thresholds = np.sort(generator.choice(weights[4:], k - 1))
    weights = weights.reshape(10, -1)
    expected = np.searchsorted(thresholds, weights, side="left")
    indices = locate(weights, thresholds)
    np.testing.assert_array_equal(indices, expected)
    assert indices.dtype == (np.uint8 if k <= 256 else np.uint16)


@settings(max_examples=15)
@given(thresholds=arrays(np.float32, st.integers(0, 300), elements=finite),
       seed=st.integers(0, 2**32 - 1))
def test_equals_searchsorted_on_every_bit_pattern(thresholds, seed):
    pattern = np.random.default_rng(seed).integers(0, 1 << 32, 300_000, dtype=np.uint32)
    weights = pattern.view(np.float32)
    weights = np.concatenate((weights[np.isfinite(weights)], thresholds))
    thresholds = np.sort(thresholds)
    np.testing.assert_array_equal(
        locate(weights, thresholds), np.searchsorted(thresholds, weights, side="left"))


@given(thresholds=arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e30, 1e30)),
       weight=finite)
def test_floored_thresholds_decide_alike(thresholds, weight):
    np.testing.assert_array_equal(
        np.float32(weight) > floor_float32(thresholds), float(weight) > thresholds)


def test_halfway_takes_the_lower_level():
    codebook = Codebook(np.float32([-1, 0, 1]))
    weights = np.float32([-0.5, np.nextafter(np.float32(-0.5), np.float32(0)), 0.5, 0.75, 9, -9])
    np.testing.assert_array_equal(nearest_level(weights, codebook), [0, 1, 1, 2, 2, 0])
    np.testing.assert_array_equal(midpoints(codebook.values), [-0.5, 0.5])
