"""Agreement of rankings, exemplars and prevalence ratios."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cxcompress.evaluation.exemplars import (
    finding_counts,
    lowest_agreement,
    prevalence_ratios,
    rank_agreement,
)


@given(st.integers(0, 10_000))
def test_agreement_is_scipys_spearman_with_ties(seed):
    random = np.random.default_rng(seed)
    before, after = random.integers(0, 6, (2, 5, 7)) / 6
    found = rank_agreement(before, after)
    for row in range(5):
        if np.ptp(before[row]) and np.ptp(after[row]):
            assert found.rho[row] == pytest.approx(spearmanr(before[row], after[row])[0])
            assert not found.constant[row]


def test_constant_vectors_are_said_and_set():
    varied, flat = np.array([0.1, 0.2, 0.3]), np.full(3, 0.5)
    found = rank_agreement(np.array([varied, flat, varied, flat]),
                           np.array([varied, flat, flat, varied]))
    assert found.rho.tolist() == [1, 1, 0, 0] and found.constant.tolist() == [
        False, True, True, True]


def test_many_images_are_ranked_in_blocks(monkeypatch):
    monkeypatch.setattr("cxcompress.evaluation.exemplars.RANKING_BLOCK", 7)
    before, after = np.random.default_rng(0).random((2, 50, 4))
    assert rank_agreement(before, after).rho[43] == pytest.approx(
        spearmanr(before[43], after[43])[0])


@pytest.mark.parametrize("shape", [(5, 2), (5,)])
def test_fewer_than_three_classes_are_refused(shape):
    with pytest.raises(ValueError, match="3 classes"):
        rank_agreement(np.zeros(shape), np.zeros(shape))


def test_the_floor_of_the_share_is_taken_and_ties_are_counted():
    rho = np.array([0.9, 0.1, 0.5, 0.5, 0.5, 0.8, 0.7, 0.6, 1.0, 1.0])
    found = lowest_agreement(rho, 29)
    assert np.flatnonzero(found.chosen).tolist() == [1, 2]
    assert found.cutoff == 0.5 and found.tied == 2
    with pytest.raises(ValueError, match="are 0"):
        lowest_agreement(rho, 5)


def test_ratios_are_quotients_of_shares_with_intervals_by_patient():
    chosen = np.arange(200) < 50
    has = np.zeros((200, 3))
    has[:20, 0] = has[50:80, 0] = 1                 # 40% against 20%
    has[60:90, 1] = 1                               # none of the chosen
    has[:10, 2] = 1                                 # none of the others
    double, none, only = prevalence_ratios(has, chosen, np.arange(200).astype(str))
    assert double.value == pytest.approx(2) and double.low < 2 < double.high
    assert double.positives == 20 and 1 < double.low < 1.6 and 2.5 < double.high < 4
    assert none.value == 0 == none.low
    assert none.high == pytest.approx((1 - 0.025 ** (1 / 50)) / 0.2)
    assert np.isnan(only.value) and "no other image" in only.method
    # The same images from a quarter of the patients say less.
    fewer = prevalence_ratios(has, chosen, (np.arange(200) // 4).astype(str))[0]
    assert fewer.value == pytest.approx(2)
    assert fewer.high - fewer.low > double.high - double.low


def test_intervals_hold_the_true_ratio_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    chosen = np.arange(400) < 100
    held = 0
    for _ in range(100):
        has = (random.random(400) < np.where(chosen, 0.3, 0.15)).astype(float)[:, None]
        found = prevalence_ratios(has, chosen, np.arange(400).astype(str), resamples=200)[0]
        held += found.low <= 2 <= found.high
    assert 87 <= held <= 100


def test_findings_are_counted_without_no_finding_and_unknown_ones():
    truth = np.array([[1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1],
                      [0, 1, 1, 1, 1, 0], [0, np.nan, 1, 1, 0, 0]])
    names, columns = finding_counts(truth, ("No finding", *"abcde"))
    assert names == ("0", "2", "4+")
    assert columns.argmax(axis=1).tolist() == [0, 1, 2, 2, 1]
