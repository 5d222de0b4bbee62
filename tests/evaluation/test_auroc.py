"""AUROC against scikit-learn, its variance against the definitions in O(n²)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from cxcompress.evaluation.auroc import (
    auroc_estimates,
    auroc_parts,
    macro_variance_and_freedom,
    midranks,
    t_interval,
    t_test,
)
from cxcompress.evaluation.records import ReadyRecord
from cxcompress.tasks.predictions import Predictions


@st.composite
def problems(draw, models=1):
    """Labels, scores with ties, and patients with several images."""
    n = draw(st.integers(6, 40))
    truth = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    levels = st.lists(st.integers(0, 8), min_size=n, max_size=n)
    scores = [np.array(draw(levels)) / 8 for _ in range(models)]
    patient = np.array(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)))
    patient = np.unique(patient, return_inverse=True)[1].reshape(-1)
    assume(2 <= truth.sum() <= n - 2)
    return truth, *scores, patient


def kernel(truth, score):
    """All pairs of a positive and a negative: 1, one half or 0."""
    gap = score[truth][:, None] - score[~truth][None]
    return (gap > 0) + 0.5 * (gap == 0)


def direct_variance(truth, scores, signs):
    """DeLong et al. (1988), equations 4 to 6, for a signed sum of AUROCs; one image a patient."""
    pairs = sum(sign * kernel(truth, score) for sign, score in zip(signs, scores, strict=True))
    return (pairs.mean(axis=1).var(ddof=1) / truth.sum()
            + pairs.mean(axis=0).var(ddof=1) / (~truth).sum())


def direct_clustered_variance(truth, score, patient):
    """Obuchowski (1997), written with loops over patients."""
    pairs = kernel(truth, score)
    area, m, n = pairs.mean(), truth.sum(), (~truth).sum()
    x, y = np.full(len(truth), np.nan), np.full(len(truth), np.nan)
    x[truth], y[~truth] = pairs.mean(axis=1), pairs.mean(axis=0)
    s10 = s01 = s11 = 0.0
    for one in np.unique(patient):
        mine = patient == one
        a = x[mine & truth].sum() - (mine & truth).sum() * area
        b = y[mine & ~truth].sum() - (mine & ~truth).sum() * area
        s10, s01, s11 = s10 + a * a, s01 + b * b, s11 + a * b
    k, k10, k01 = (len(np.unique(patient[rows])) for rows in (truth >= 0, truth, ~truth))
    s10, s01, s11 = s10 * k10 / ((k10 - 1) * m), s01 * k01 / ((k01 - 1) * n), s11 * k / (k - 1)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=50))
def test_midranks_are_average_ranks(values):
    np.testing.assert_allclose(midranks(np.array(values)), rankdata(values))


@given(problems())
def test_auroc_is_scikit_learns(problem):
    truth, score, patient = problem
    parts = auroc_parts(truth, score, patient, patient.max() + 1)
    assert parts.value == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


@given(problems(models=2))
def test_variances_equal_the_direct_computation(problem):
    truth, first, second, _ = problem
    n = len(truth)
    one, other = (auroc_parts(truth, score, np.arange(n), n) for score in (first, second))
    for parts, signs in ((one, (1, 0)), (other, (0, 1)), (other - one, (-1, 1))):
        expected = direct_variance(truth, (first, second), signs)
        assert parts.variance_and_freedom()[0] == pytest.approx(expected, abs=1e-14)


@given(problems())
def test_clustered_variance_equals_the_direct_computation(problem):
    truth, score, patient = problem
    assume(min(len(np.unique(patient[truth])), len(np.unique(patient[~truth]))) >= 2)
    parts = auroc_parts(truth, score, patient, patient.max() + 1)
    expected = max(0, direct_clustered_variance(truth, score, patient))
    assert parts.variance_and_freedom()[0] == pytest.approx(expected, abs=1e-14)


@given(problems())
def test_clustering_changes_nothing_where_patients_are_unique(problem):
    truth, score, _ = problem
    patient = np.arange(len(truth))
    variance, _ = auroc_parts(truth, score, patient, len(truth)).variance_and_freedom()
    assert variance == pytest.approx(direct_clustered_variance(truth, score, patient), abs=1e-14)


@given(problems())
def test_repeating_every_image_within_its_patient_leaves_the_interval(problem):
    truth, score, _ = problem
    n = len(truth)
    one = auroc_parts(truth, score, np.arange(n), n)
    twice = auroc_parts(np.tile(truth, 2), np.tile(score, 2), np.tile(np.arange(n), 2), n)
    assert twice.variance_and_freedom() == pytest.approx(one.variance_and_freedom(), abs=1e-12)


@given(problems())
def test_a_model_does_not_differ_from_itself(problem):
    truth, score, patient = problem
    parts = auroc_parts(truth, score, patient, patient.max() + 1)
    difference = parts - parts
    assert difference.value == 0
    variance, freedom = difference.variance_and_freedom()
    if not math.isnan(variance):
        assert variance == 0 and t_interval(0, variance, freedom) == (0, 0)
        assert t_test(0, variance, freedom) == 1


@given(problems())
def test_the_mean_of_one_class_is_that_class(problem):
    truth, score, _ = problem
    parts = auroc_parts(truth, score, np.arange(len(truth)), len(truth))
    assert macro_variance_and_freedom([parts]) == pytest.approx(parts.variance_and_freedom())
    assert macro_variance_and_freedom([parts, parts]) == pytest.approx(
        parts.variance_and_freedom())


def test_the_means_variance_is_the_sum_of_delongs_covariances(record):
    ready = ReadyRecord.of(record(n=80, classes=2, prevalence=0.5, seed=3))
    columns = [(ready.truth[:, c], ready.score[:, c]) for c in (0, 1)]
    influence = []
    for truth, score in columns:
        pairs = kernel(truth, score)
        m, n = pairs.shape
        each = np.zeros(80)
        each[truth] = (pairs.mean(axis=1) - pairs.mean()) / m * math.sqrt(m / (m - 1))
        each[~truth] = (pairs.mean(axis=0) - pairs.mean()) / n * math.sqrt(n / (n - 1))
        influence.append(each)
    covariance = np.array(influence) @ np.array(influence).T
    parts = [auroc_parts(truth, score, ready.patient, 80) for truth, score in columns]
    assert macro_variance_and_freedom(parts)[0] == pytest.approx(covariance.sum() / 4)


@given(problems())
def test_intervals_stay_inside_and_hold_the_value(problem):
    truth, score, patient = problem
    ids = np.arange(len(truth)).astype(str)
    predictions = Predictions(ids, patient.astype(str), ("x",), truth[:, None].astype(float),
                              score[:, None], "multilabel")
    estimate = auroc_estimates(ReadyRecord.of(predictions))["auroc:x"]
    if not math.isnan(estimate.low):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_perfect_separation_does_not_prove_perfection(record):
    predictions = record(n=46, classes=2, task="multiclass", seed=4)
    predictions.score[:] = predictions.truth
    estimates = auroc_estimates(ReadyRecord.of(predictions))
    pairs = int(predictions.truth.sum(axis=0).min())
    for key in ("auroc:class0", "auroc:class1", "auroc_macro"):
        assert estimates[key].value == estimates[key].high == 1
        assert estimates[key].low == pytest.approx(0.025 ** (1 / pairs))
        assert f"{pairs} disjoint pairs" in estimates[key].method
    predictions.score[:] = predictions.truth[:, ::-1]
    worst = auroc_estimates(ReadyRecord.of(predictions))["auroc_macro"]
    assert worst.low == 0 and worst.high == pytest.approx(1 - 0.025 ** (1 / pairs))


def test_classes_without_positives_are_undefined_and_named(record):
    predictions = record(n=60, classes=3)
    predictions.truth[:, 1] = 0
    predictions.truth[:, 2] = 0
    predictions.truth[0, 2] = 1
    estimates = auroc_estimates(ReadyRecord.of(predictions))
    assert math.isnan(estimates["auroc:class1"].value)
    assert "no positive" in estimates["auroc:class1"].method
    assert not math.isnan(estimates["auroc:class2"].value)
    assert math.isnan(estimates["auroc:class2"].low)
    macro = estimates["auroc_macro"]
    assert macro.value == estimates["auroc:class0"].value
    assert "mean of 1 of 3 classes, without class1, class2" in macro.method


def test_constant_scores_are_said(record):
    predictions = record(n=60, classes=1)
    predictions.score[:] = 0.3
    estimate = auroc_estimates(ReadyRecord.of(predictions))["auroc:class0"]
    assert estimate.value == 0.5 and "constant scores" in estimate.method


def _covered(area, positives, negatives, repeats):
    ids = np.arange(positives + negatives).astype(str)
    random = np.random.default_rng(0)
    truth = np.arange(positives + negatives) < positives
    shift = math.sqrt(2) * norm.ppf(area)
    covered = 0
    for _ in range(repeats):
        score = random.normal(size=len(truth)) + shift * truth
        predictions = Predictions(ids, ids, ("x",), truth[:, None].astype(float), score[:, None],
                                  "multilabel")
        estimate = auroc_estimates(ReadyRecord.of(predictions))["auroc:x"]
        covered += estimate.low <= area <= estimate.high
    return covered / repeats


@pytest.mark.slow
@pytest.mark.parametrize("area, positives, negatives, least", [
    (0.8, 60, 60, 0.94), (0.8, 10, 100, 0.93), (0.99, 20, 50, 0.94), (0.995, 20, 20, 0.94),
])
def test_intervals_cover_the_truth(area, positives, negatives, least):
    assert least <= _covered(area, positives, negatives, 4000) <= 0.99


@pytest.mark.slow
def test_a_truly_inferior_model_is_seldom_called_non_inferior():
    positives = 50
    random = np.random.default_rng(0)
    area, margin, same = 0.85, 0.02, 0.98
    truth = np.arange(positives + 200) < positives
    before, after = (math.sqrt(2) * norm.ppf(value) for value in (area, area - margin))
    passed = 0
    for _ in range(2000):
        common, own = random.normal(size=(2, len(truth)))
        first = common + before * truth
        second = same * common + math.sqrt(1 - same**2) * own + after * truth
        one, other = (auroc_parts(truth, score, np.arange(len(truth)), len(truth))
                      for score in (first, second))
        difference = other - one
        passed += t_interval(difference.value, *difference.variance_and_freedom())[0] > -margin
    assert passed / 2000 < 0.04
