"""Correlations over classes and over their pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr

from cxcompress.evaluation.associations import (
    associate,
    associate_pairs,
    weighted_midranks,
    weighted_pearson,
)


def test_values_are_scipys_and_undefined_classes_are_left_out():
    random = np.random.default_rng(0)
    x = random.normal(size=20)
    y = np.round(x + random.normal(size=20))
    x[3], y[5] = np.nan, np.nan
    found = associate(x, y, permutations=999)
    rows = ~np.isnan(x + y)
    assert found.pearson.value == pytest.approx(pearsonr(x[rows], y[rows])[0])
    assert found.spearman.value == pytest.approx(spearmanr(x[rows], y[rows])[0])
    assert found.pearson.classes == 18
    assert found.pearson.low < found.pearson.value < found.pearson.high
    assert 1 / 1000 <= found.pearson.p < 0.05


def test_weights_are_repetitions():
    random = np.random.default_rng(1)
    x, y = random.integers(0, 5, (2, 12)).astype(float)
    weights = random.integers(0, 4, (6, 12)).astype(float)
    for w, ranks, r in zip(weights, weighted_midranks(x, weights),
                           weighted_pearson(x, y, weights), strict=True):
        repeated = np.repeat(np.arange(12), w.astype(int))
        assert np.repeat(ranks, w.astype(int)) == pytest.approx(rankdata(x[repeated]))
        assert r == pytest.approx(pearsonr(x[repeated], y[repeated])[0])


def test_permutation_p_of_unrelated_properties_is_uniform():
    random = np.random.default_rng(2)
    p = [associate(*random.normal(size=(2, 12)), permutations=199, resamples=2).pearson.p
         for _ in range(200)]
    assert 0.02 <= np.mean(np.array(p) <= 0.1) <= 0.18


def test_pairs_of_unrelated_matrices_are_not_counted_as_independent():
    """Distances of two unrelated properties: 66 pairs, but 12 classes."""
    random = np.random.default_rng(3)
    p = []
    for _ in range(100):
        x, y = random.normal(size=(2, 12))
        p.append(associate_pairs(np.abs(x[:, None] - x), np.abs(y[:, None] - y),
                                 permutations=99, resamples=2).pearson.p)
    assert np.mean(np.array(p) <= 0.1) <= 0.2


def test_a_class_without_a_curve_leaves_the_pairs():
    random = np.random.default_rng(4)
    x = random.normal(size=8)
    distance = np.abs(x[:, None] - x)
    lacking = distance.copy()
    lacking[2, :] = lacking[:, 2] = np.nan
    found = associate_pairs(lacking, distance, permutations=99)
    assert found.pearson.value == pytest.approx(1) and found.pearson.classes == 7


@pytest.mark.parametrize("values", [(np.zeros(2), np.ones(2)), (np.ones(5), np.arange(5.0))])
def test_too_few_classes_or_a_constant_have_no_correlation(values):
    found = associate(*values, permutations=99)
    assert np.isnan(found.pearson.value) and np.isnan(found.spearman.p)
