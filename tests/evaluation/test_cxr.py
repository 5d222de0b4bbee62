"""Metrics of multilabel classifiers: scikit-learn's values, intervals by patient, groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from cxcompress.evaluation.cxr import METRICS, class_groups, evaluate_cxr
from cxcompress.tasks import Predictions

CLASSES = ("Effusion", "Mass", "Nodule", "Hernia")
THRESHOLDS = (0.5, 0.4, 0.3, 0.2)


def record(n=600, seed=0, unknown=0.1, decimals=None):
    """Random predictions of 200 patients; Hernia is never present."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 4)) < (0.3, 0.15, 0.05, 0.0)).astype(float)
    score = 1 / (1 + np.exp(2 - 2 * truth - rng.normal(size=truth.shape)))
    if decimals is not None:
        score = score.round(decimals)
    truth[rng.random(truth.shape) < unknown] = np.nan
    ids = np.arange(n).astype(str)
    return Predictions(ids, rng.integers(0, 200, n).astype(str), CLASSES, truth, score,
                       "multilabel")


@pytest.mark.parametrize("decimals", [None, 1])
def test_values_are_scikit_learns(decimals):
    """Ties of rounded scores included."""
    predictions = record(decimals=decimals)
    found = evaluate_cxr(predictions, thresholds=THRESHOLDS, resamples=20)
    known = ~np.isnan(predictions.truth)
    pooled_truth, pooled_score = predictions.truth[known], predictions.score[known]
    pooled_decision = (predictions.score >= THRESHOLDS)[known]
    for column, name in enumerate(CLASSES[:3]):
        rows = known[:, column]
        truth, score = predictions.truth[rows, column], predictions.score[rows, column]
        decision = score >= THRESHOLDS[column]
        expected = {
            "auroc": sk.roc_auc_score(truth, score),
            "average_precision": sk.average_precision_score(truth, score),
            "f1": sk.f1_score(truth, decision), "sensitivity": sk.recall_score(truth, decision),
            "specificity": sk.recall_score(1 - truth, ~decision),
            "brier": sk.brier_score_loss(truth, score)}
        for metric, value in expected.items():
            assert found[f"{metric}:{name}"].value == pytest.approx(value, abs=1e-12), metric
            assert found[f"{metric}:{name}"].n == rows.sum()
            assert found[f"{metric}:{name}"].positives == truth.sum()
    micro = {"auroc": sk.roc_auc_score(pooled_truth, pooled_score),
             "average_precision": sk.average_precision_score(pooled_truth, pooled_score),
             "f1": sk.f1_score(pooled_truth, pooled_decision),
             "brier": sk.brier_score_loss(pooled_truth, pooled_score)}
    for metric, value in micro.items():
        assert found[f"{metric}_micro"].value == pytest.approx(value, abs=1e-12), metric
    for metric in METRICS[:5]:
        mean = np.mean([found[f"{metric}:{name}"].value for name in CLASSES[:3]])
        assert found[f"{metric}_macro"].value == pytest.approx(mean)


def test_a_class_without_positives_is_undefined_and_in_no_mean():
    found = evaluate_cxr(record(), thresholds=THRESHOLDS, resamples=20)
    for metric in ("auroc", "average_precision", "f1", "sensitivity"):
        assert np.isnan(found[f"{metric}:Hernia"].value), metric
        assert "undefined" in found[f"{metric}:Hernia"].method
        assert np.isfinite(found[f"{metric}_macro"].value)
    assert np.isfinite(found["specificity:Hernia"].value)


def test_intervals_hold_the_value_and_widen_when_patients_repeat():
    """Ten copies of each image of a patient add nothing: the interval must not shrink."""
    few = record(n=200, unknown=0)
    rows = np.repeat(np.arange(200), 10)
    many = few.select(rows)
    many = Predictions(np.arange(2000).astype(str), few.patient_id[rows], CLASSES, many.truth,
                       many.score, "multilabel")
    one, ten = (evaluate_cxr(some, thresholds=THRESHOLDS, resamples=300) for some in (few, many))
    for key, estimate in one.items():
        if np.isfinite(estimate.low):
            assert estimate.low <= estimate.value <= estimate.high, key
            assert ten[key].low == pytest.approx(estimate.low, abs=1e-9), key
            assert ten[key].value == pytest.approx(estimate.value), key


def test_groups_follow_training_counts_and_average_their_classes():
    groups = class_groups(CLASSES, (2000, 500, 99, 0))
    assert groups == {"head": ("Effusion",), "medium": ("Mass",), "tail": ("Nodule", "Hernia")}
    assert class_groups(CLASSES, (5, 5, 5, 5)) == {"tail": CLASSES}
    found = evaluate_cxr(record(), thresholds=THRESHOLDS, groups=groups, resamples=20)
    for metric in METRICS[:5]:
        assert found[f"{metric}_head"].value == pytest.approx(found[f"{metric}:Effusion"].value)
        assert found[f"{metric}_tail"].value == pytest.approx(found[f"{metric}:Nodule"].value)
    assert found["auroc_head"].low == pytest.approx(found["auroc:Effusion"].low, abs=5e-3)


def test_multiclass_records_are_refused():
    one_hot = np.eye(2)[[0, 1]]
    with pytest.raises(ValueError, match="multilabel"):
        evaluate_cxr(Predictions(np.array(["a", "b"]), np.array(["a", "b"]), ("x", "y"), one_hot,
                                 one_hot, "multiclass"))


@pytest.mark.slow
def test_twenty_classes_of_25_000_images_take_under_a_minute():
    import time

    rng = np.random.default_rng(0)
    n, count = 25_000, 20
    truth = (rng.random((n, count)) < np.geomspace(0.35, 0.004, count)).astype(float)
    score = 1 / (1 + np.exp(2 - 1.2 * truth - rng.normal(size=truth.shape)))
    predictions = Predictions(np.arange(n).astype(str), rng.integers(0, 8000, n).astype(str),
                              tuple(f"c{number}" for number in range(count)), truth, score,
                              "multilabel")
    start = time.process_time()
    evaluate_cxr(predictions, resamples=1000)
    assert time.process_time() - start < 60
