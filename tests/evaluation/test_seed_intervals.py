"""Medians over seeds: intervals that hold the median as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from cxcompress.evaluation.seed_intervals import median_interval, order_statistics, welch_p


@pytest.mark.parametrize("n, rank, confidence", [
    (1, 0, 0.0), (2, 0, 0.5), (5, 0, 1 - 2 / 32), (6, 0, 1 - 2 / 64),
    (9, 1, 1 - 2 * 10 / 512), (30, 9, 0.957), ])
def test_ranks_and_confidences_are_those_of_the_binomial(n, rank, confidence):
    found = order_statistics(n)
    assert found[0] == rank and found[1] == pytest.approx(confidence, abs=5e-4)


@pytest.mark.parametrize("n", [6, 9, 30])
def test_intervals_hold_the_median_as_often_as_they_say(n):
    draws = np.random.default_rng(0).exponential(size=(n, 20_000))
    _, low, high, confidence = median_interval(draws)
    share = ((low <= math.log(2)) & (math.log(2) <= high)).mean()
    assert confidence >= 0.95 and share == pytest.approx(confidence, abs=0.006)


def test_undefined_seeds_are_left_out_and_one_seed_has_no_interval():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan], [2.0, np.nan, np.nan]])
    median, low, high, _ = median_interval(values)
    assert median[:2].tolist() == [2.0, 5.0] and np.isnan(median[2])
    assert (low[0], high[0]) == (1.0, 3.0) and np.isnan(low[1:]).all() and np.isnan(high[1:]).all()
    median, low, high, confidence = median_interval(np.array([[4.0]]))
    assert median[0] == 4 and np.isnan(low[0]) and np.isnan(high[0]) and confidence == 0


def test_welch_is_scipys_and_says_what_constant_sides_allow():
    random = np.random.default_rng(0)
    first, second = random.normal(0.4, 1, (12, 5)), random.normal(0, 3, (7, 5))
    assert welch_p(first, second) == pytest.approx(
        ttest_ind(first, second, equal_var=False).pvalue)
    assert welch_p(np.ones(3), np.ones(4)) == 1 and welch_p(np.ones(3), np.zeros(4)) == 0
    assert np.isnan(welch_p(np.ones(1), np.zeros(4)))
