"""One-shot masks: exact sparsity, the smallest first, nested."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cxcompress.pruning  # noqa: F401 - loads TensorFlow before hypothesis takes the time
from cxcompress.errors import InputError
from cxcompress.search.kernel_masks import SCOPES, SCORES, kernel_masks

SHARES = st.floats(0, 0.99).map(lambda share: round(share, 2))


def kernels(seed=0):
    random = np.random.default_rng(seed)
    return {"a/kernel": random.normal(size=(3, 3, 2, 4)).astype(np.float32),
            "b/kernel": random.normal(0, 3, size=(7, 5)).astype(np.float32)}


@given(SHARES, st.sampled_from(SCORES), st.sampled_from(SCOPES), st.integers(0, 99))
def test_the_sparsity_is_exact_in_its_scope(sparsity, score, scope, seed):
    masks = kernel_masks(kernels(), sparsity, score=score, scope=scope, seed=seed)
    sizes = [mask.size for mask in masks.values()]
    gone = [int((~mask).sum()) for mask in masks.values()]
    if scope == "layer":
        assert gone == [math.floor(sparsity * size + 1e-9) for size in sizes]
    else:
        assert sum(gone) == math.floor(sparsity * sum(sizes) + 1e-9)


@given(SHARES, st.sampled_from(SCOPES))
def test_no_kept_weight_is_smaller_than_one_that_went(sparsity, scope):
    arrays = kernels()
    masks = kernel_masks(arrays, sparsity, scope=scope)
    groups = ([[path] for path in arrays] if scope == "layer" else [list(arrays)])
    for group in groups:
        kept = np.concatenate([np.abs(arrays[path][masks[path]]) for path in group])
        gone = np.concatenate([np.abs(arrays[path][~masks[path]]) for path in group])
        assert not len(gone) or not len(kept) or gone.max() <= kept.min()


@given(SHARES, SHARES, st.sampled_from(SCORES))
def test_what_goes_at_one_sparsity_goes_at_every_higher_one(first, second, score):
    low, high = (kernel_masks(kernels(), share, score=score, seed=5)
                 for share in sorted((first, second)))
    assert all((high[path] <= low[path]).all() for path in low)


def test_equal_magnitudes_and_exact_tenths_lose_exactly_the_share():
    masks = kernel_masks({"k": np.ones(10, np.float32)}, 0.7)
    assert masks["k"].sum() == 3


@pytest.mark.parametrize("sparsity, weight", [(1.0, 1.0), (-0.1, 1.0), (0.5, np.nan)])
def test_bad_sparsities_and_weights_are_refused(sparsity, weight):
    with pytest.raises(InputError):
        kernel_masks({"k": np.full(4, weight)}, sparsity)
