import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.errors import InputError
from cxcompress.quantization import prune_percentile


@given(percent=st.floats(0, 99.9), seed=st.integers(0, 100))
def test_share_of_pruned_weights(percent, seed):
    weights = np.random.default_rng(seed).normal(size=(40, 25)).astype(np.float32)
    kept = prune_percentile(weights, percent)
    assert kept.dtype == bool and kept.shape == weights.shape
    assert abs((~kept).sum() - 10 * percent) <= 1
    if kept.any() and not kept.all():
        assert np.abs(weights[kept]).min() > np.abs(weights[~kept]).max()


def test_ties_at_the_threshold_go():
    np.testing.assert_array_equal(
        prune_percentile(np.float32([1, -1, 1, 2]), 50), [False, False, False, True])


@pytest.mark.parametrize("percent", [-1, 100, np.nan])
def test_bad_percent(percent):
    with pytest.raises(InputError, match="below 100 percent"):
        prune_percentile(np.ones(3), percent)
