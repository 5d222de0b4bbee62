"""Metrics against scikit-learn, and draws of patients against a plain loop."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxcompress.evaluation.bootstrap import PatientDraws, percentile_interval
from cxcompress.evaluation.metrics import evaluate, statistics, values
from cxcompress.evaluation.records import ReadyRecord
from cxcompress.tasks.predictions import Predictions

TASKS = ("multiclass", "multilabel")


def everything(predictions):
    """The plain value of every bootstrapped metric, by key."""
    ready = ReadyRecord.of(predictions)
    return {name: value for statistic in statistics(ready)
            for name, value in zip(statistic.names, values(statistic, ready), strict=True)}


def plain_calibration_error(confidence, right):
    """Guo et al. (2017), equation 3."""
    total = 0.0
    for low in range(15):
        mine = (confidence * 15).astype(int).clip(0, 14) == low
        if mine.any():
            total += mine.mean() * abs(confidence[mine].mean() - right[mine].mean())
    return total


@pytest.mark.parametrize("seed", range(5))
def test_multiclass_metrics_are_scikit_learns(record, seed):
    predictions = record(80, 3, "multiclass", seed=seed)
    truth, score = predictions.truth.argmax(axis=1), predictions.score
    found = everything(predictions)
    decided = score.argmax(axis=1)
    expected = {
        "accuracy": sklearn.accuracy_score(truth, decided),
        "balanced_accuracy": sklearn.balanced_accuracy_score(truth, decided),
        "average_precision_macro": sklearn.average_precision_score(predictions.truth, score),
        "cross_entropy": sklearn.log_loss(truth, score),
        "calibration_error": plain_calibration_error(score.max(axis=1), decided == truth),
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(value), key


@pytest.mark.parametrize("seed", range(5))
def test_multilabel_metrics_are_scikit_learns_with_ties_and_unknown_labels(record, seed):
    predictions = record(150, 3, "multilabel", seed=seed, levels=10, unknown=0.2)
    found = everything(predictions)
    known = ~np.isnan(predictions.truth)
    balanced, calibration, precision = [], [], []
    for column, name in enumerate(predictions.classes):
        rows = known[:, column]
        truth, score = predictions.truth[rows, column], predictions.score[rows, column]
        balanced.append(sklearn.balanced_accuracy_score(truth, score >= 0.5))
        calibration.append(plain_calibration_error(score, truth))
        precision.append(sklearn.average_precision_score(truth, score))
        assert found[f"average_precision:{name}"] == pytest.approx(precision[-1])
    truth, score = predictions.truth[known], predictions.score[known]
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, score >= 0.5))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(balanced))
    assert found["average_precision_macro"] == pytest.approx(np.mean(precision))
    assert found["calibration_error"] == pytest.approx(np.mean(calibration))
    assert found["cross_entropy"] == pytest.approx(
        sklearn.log_loss(truth, score.clip(1e-7, 1 - 1e-7)))


@pytest.mark.parametrize("task", TASKS)
def test_a_draw_equals_the_images_repeated_that_often(record, take, task):
    predictions = record(120, 3, task, patients=45, levels=20, unknown=0.1, seed=2)
    ready = ReadyRecord.of(predictions)
    draws = PatientDraws(ready.patients, resamples=25, seed=5)
    counts = np.concatenate(list(draws.blocks()), axis=1)
    drawn = {name: row for statistic in statistics(ready)
             for name, row in zip(statistic.names, draws.apply(statistic.compute), strict=True)}
    known = np.flatnonzero(~np.isnan(predictions.truth).all(axis=1))
    for draw in range(25):
        rows = known[np.repeat(np.arange(len(known)), counts[ready.patient, draw].astype(int))]
        plain = everything(take(predictions, rows))
        for name, row in drawn.items():
            assert row[draw] == pytest.approx(plain[name], nan_ok=True), name


def test_draws_take_as_many_patients_as_there_are_and_repeat():
    draws = PatientDraws(37, resamples=200, seed=3)
    counts = np.concatenate(list(draws.blocks()), axis=1)
    assert counts.shape == (37, 200) and (counts.sum(axis=0) == 37).all()
    again = np.concatenate(list(PatientDraws(37, 200, 3).blocks()), axis=1)
    assert np.array_equal(counts, again)
    assert abs(counts.var() - (1 - 1 / 37)) < 0.05      # multinomial, not a permutation


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_images_changes_nothing(record, take, task):
    predictions = record(90, 3, task, patients=40, unknown=0.1)
    order = np.random.default_rng(0).permutation(90)
    one, other = evaluate(predictions, resamples=50), evaluate(take(predictions, order),
                                                              resamples=50)
    assert list(one) == list(other)
    for key in one:
        for field in ("value", "low", "high"):
            assert getattr(one[key], field) == pytest.approx(getattr(other[key], field),
                                                             nan_ok=True)
        assert one[key].method == other[key].method


def test_unknown_images_change_nothing(record):
    predictions = record(60, 2, "multilabel")
    doubled = Predictions(
        np.concatenate([predictions.image_id, predictions.image_id]),
        np.concatenate([predictions.patient_id, np.char.add("z", predictions.patient_id)]),
        predictions.classes, np.concatenate([predictions.truth, np.full((60, 2), np.nan)]),
        np.concatenate([predictions.score, predictions.score]), "multilabel")
    assert evaluate(predictions, resamples=40) == evaluate(doubled, resamples=40)


@pytest.mark.parametrize("task", TASKS)
def test_keys_and_counts(record, task):
    estimates = evaluate(record(90, 2, task, patients=40), resamples=50)
    assert list(estimates)[:6] == [
        "accuracy", "balanced_accuracy", "auroc_macro", "average_precision_macro",
        "cross_entropy", "calibration_error"]
    assert set(list(estimates)[6:]) == {f"{metric}:class{index}" for index in (0, 1)
                                        for metric in ("auroc", "average_precision")}
    for estimate in estimates.values():
        assert estimate.n == 90 and estimate.patients <= 40
        assert estimate.low <= estimate.value <= estimate.high
    assert "clustered" in estimates["auroc:class0"].method


def test_all_right_does_not_prove_that_all_will_be(record):
    predictions = record(46, 2, "multiclass", seed=1)
    right = replace(predictions, score=predictions.truth.copy())
    estimates = evaluate(right, resamples=100)
    sizes = predictions.truth.sum(axis=0)
    assert estimates["accuracy"].value == estimates["accuracy"].high == 1
    assert estimates["accuracy"].low == pytest.approx(0.025 ** (1 / 46))
    assert estimates["balanced_accuracy"].low < 1
    assert estimates["average_precision:class0"].low == pytest.approx(0.025 ** (1 / sizes[0]))
    for key in ("accuracy", "balanced_accuracy", "average_precision:class0"):
        assert "exact binomial" in estimates[key].method
    wrong = evaluate(replace(predictions, score=1 - predictions.truth), resamples=100)["accuracy"]
    assert wrong.low == wrong.value == 0 and wrong.high == pytest.approx(1 - 0.025 ** (1 / 46))


def test_few_patients_are_flagged(record):
    few = evaluate(record(90, 1, patients=20), resamples=50)
    many = evaluate(record(90, 1), resamples=50)
    for key in few:
        assert "fewer than 30 patients" in few[key].method
        assert "fewer than 30 patients" not in many[key].method
    alone = evaluate(record(30, 1, patients=1), resamples=50)
    assert math.isnan(alone["accuracy"].low) and "one patient" in alone["accuracy"].method


def test_undefined_draws_are_dropped_up_to_five_percent(record):
    assert percentile_interval(np.r_[np.full(5, np.nan), np.arange(95.0)]).dropped == 5
    assert not math.isnan(percentile_interval(np.r_[np.full(5, np.nan), np.arange(95.0)]).low)
    assert math.isnan(percentile_interval(np.r_[np.full(6, np.nan), np.arange(94.0)]).low)
    predictions = record(60, 1)
    predictions.truth[:] = 0
    predictions.truth[:2] = 1
    rare = evaluate(predictions, resamples=200)["average_precision:class0"]
    assert not math.isnan(rare.value) and math.isnan(rare.low) and "lack a class" in rare.method


def test_a_class_without_positives_is_undefined_not_an_error(record):
    predictions = record(60, 2)
    predictions.truth[:, 1] = 0
    estimates = evaluate(predictions, resamples=50)
    assert math.isnan(estimates["average_precision:class1"].value)
    assert math.isnan(estimates["auroc:class1"].value)
    assert "mean of 1 of 2 classes" in estimates["balanced_accuracy"].method
    assert not math.isnan(estimates["balanced_accuracy"].low)
    predictions.truth[:, 0] = 1
    estimates = evaluate(predictions, resamples=50)
    assert math.isnan(estimates["balanced_accuracy"].value)
    assert math.isnan(estimates["auroc_macro"].value)
    assert math.isnan(estimates["average_precision_macro"].value)


def test_multilabel_thresholds_are_used(record):
    predictions = record(60, 2)
    all_present = evaluate(predictions, thresholds=(0, 0), resamples=20)["accuracy"].value
    assert all_present == pytest.approx(predictions.truth.mean())


def test_records_that_cannot_be_used_are_refused(record):
    multiclass, multilabel = record(20, 3, "multiclass"), record(20, 2)
    with pytest.raises(ValueError, match="no thresholds"):
        evaluate(multiclass, thresholds=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="exactly one 1"):
        evaluate(replace(multiclass, truth=np.ones((20, 3))))
    with pytest.raises(ValueError, match="0, 1 or NaN"):
        evaluate(replace(multilabel, truth=np.full((20, 2), -1.0)))
    with pytest.raises(ValueError, match="none known"):
        evaluate(replace(multilabel, truth=np.full((20, 2), np.nan)))
    with pytest.raises(ValueError, match="finite.*1 images"):
        evaluate(replace(multilabel, score=np.where(np.arange(20)[:, None] == 3, np.nan, 0.5)
                         * np.ones((1, 2))))
    with pytest.raises(ValueError, match="'nuclei'"):
        evaluate(replace(multilabel, task="nuclei"))


def test_real_labels_of_a_long_tail(shared_data):
    with np.load(shared_data / "nih_cxr14_64px.npz", allow_pickle=False) as arrays:
        rows = arrays["split"] == "test"
        truth = arrays["labels"][rows].astype(float)
        classes = tuple(map(str, arrays["classes"]))
        ids, patients = arrays["image_index"][rows], arrays["patient_id"][rows].astype(str)
    score = np.random.default_rng(0).random(truth.shape)
    estimates = evaluate(Predictions(ids, patients, classes, truth, score, "multilabel"),
                         resamples=200)
    macro = estimates["auroc_macro"]
    assert macro.low < 0.5 < macro.high and macro.patients == len(np.unique(patients))
    for column, name in enumerate(classes):
        assert estimates[f"auroc:{name}"].positives == truth[:, column].sum()


@pytest.mark.slow
def test_twenty_thousand_images_of_fourteen_classes_take_seconds(record, noisy):
    from cxcompress.evaluation import compare

    original = record(20_000, 14, prevalence=0.1)
    compressed = noisy(original, 0.1)
    start = time.perf_counter()
    evaluate(original)
    compare(original, compressed)
    assert time.perf_counter() - start < 40      # about 7 s on two quiet cores
