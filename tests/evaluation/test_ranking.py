"""Counted metrics are those of scikit-learn, whatever the ties and the dtype."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from cxcompress.evaluation.ranking import (
    chance_average_precision,
    float16_order,
    ranking_metrics,
    treatment_metrics,
)

FINITE16 = hnp.from_dtype(np.dtype(np.float16), allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float16, st.integers(1, 60), elements=FINITE16))
def test_the_order_of_float16_is_that_of_its_numbers(values):
    order = float16_order(values).astype(int)
    assert (np.sign(order[:, None] - order) == np.sign(
        values.astype(float)[:, None] - values.astype(float))).all()


@given(st.data(), st.sampled_from([np.float16, np.float32, np.float64]))
def test_average_precision_and_auroc_are_scikit_learns(data, dtype):
    n = data.draw(st.integers(2, 50))
    scores = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)), dtype) / 2
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    precision, auroc = ranking_metrics(scores, truth)
    if not truth.any():
        assert np.isnan(precision) and np.isnan(auroc)
        return
    assert precision == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    if truth.all():
        assert np.isnan(auroc)
    else:
        assert auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_f1_is_scikit_learns_at_the_thresholds_and_at_the_largest_score():
    random = np.random.default_rng(0)
    scores, truth = random.normal(size=(200, 4)), random.random((200, 4)) < 0.3
    cuts = np.array([-0.5, 0.0, 0.5, 9.0])
    found = treatment_metrics(scores, truth.astype(float), cuts)["F1"]
    for c in range(4):
        assert found[c] == pytest.approx(
            f1_score(truth[:, c], scores[:, c] >= cuts[c], zero_division=0))
    one_hot = np.eye(4)[random.integers(0, 4, 200)]
    found = treatment_metrics(scores, one_hot)["F1"]
    assert found == pytest.approx(
        f1_score(one_hot.argmax(1), scores.argmax(1), average=None))


def test_unknown_labels_are_left_out_of_their_class_only():
    random = np.random.default_rng(1)
    scores, truth = random.normal(size=(60, 2)), (random.random((60, 2)) < 0.4).astype(float)
    truth[:20, 0] = np.nan
    found = treatment_metrics(scores, truth, np.zeros(2))
    assert found["AUROC"][0] == pytest.approx(roc_auc_score(truth[20:, 0], scores[20:, 0]))
    assert found["AUROC"][1] == pytest.approx(roc_auc_score(truth[:, 1], scores[:, 1]))


@pytest.mark.parametrize("positives, n", [(1, 1), (1, 6), (2, 5), (3, 6), (6, 6)])
def test_chance_is_the_mean_over_all_rankings(positives, n):
    scores = np.arange(n, dtype=float)
    over_all = [ranking_metrics(scores, np.isin(np.arange(n), places))[0]
                for places in itertools.combinations(range(n), positives)]
    assert chance_average_precision(positives, n) == pytest.approx(np.mean(over_all))
    assert np.isnan(chance_average_precision(0, n))


def test_constant_scores_have_nothing_above_chance_however_rare_the_class():
    truth = np.zeros((400, 3))
    truth[:200, 0] = truth[:20, 1] = truth[:2, 2] = 1
    found = treatment_metrics(np.zeros((400, 3), np.float16), truth, np.ones(3))
    assert found["AP"] == pytest.approx([0.5, 0.05, 0.005])
    assert found["AP_excess"].tolist() == [0, 0, 0]
