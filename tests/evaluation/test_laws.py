"""Laws that calibration, cell metrics, thresholds and patient draws keep on any record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cxcompress.evaluation.bootstrap import PatientDraws
from cxcompress.evaluation.calibration import (
    calibration_bins,
    fit_temperature,
    wilson,
    with_temperature,
)
from cxcompress.evaluation.cell_metrics import ReadyCells, evaluate_cells
from cxcompress.evaluation.thresholds import audit_decisions, choose_thresholds
from cxcompress.tasks import CellMatches, Predictions

SCORES = st.floats(0, 1, width=32)


@st.composite
def records(draw, task="multilabel"):
    """Any record of 1 to 30 images of 1 to 8 patients and 1 to 3 classes; ties are common."""
    n, c = draw(st.integers(1, 30)), draw(st.integers(1 if task == "multilabel" else 2, 3))
    score = draw(arrays.arrays(np.float64, (n, c), elements=st.one_of(
        SCORES, st.sampled_from([0.0, 0.25, 0.5, 1.0]))))
    labels = st.sampled_from([0.0, 1.0, float("nan")])
    truth = draw(arrays.arrays(np.float64, (n, c), elements=labels))
    truth[0, 0] = draw(st.sampled_from([0.0, 1.0]))  # nothing known is refused
    if task == "multiclass":
        score = (score + 1e-6) / (score + 1e-6).sum(axis=1, keepdims=True)
        truth = np.eye(c)[draw(arrays.arrays(np.int64, n, elements=st.integers(0, c - 1)))]
    patient = draw(arrays.arrays(np.int64, n, elements=st.integers(0, 7)))
    return Predictions(np.array([f"i{row}" for row in range(n)]),
                       np.array([f"p{row}" for row in patient]),
                       tuple("abc"[:c]), truth, score, task)


@st.composite
def cells(draw):
    """Any record of nuclei of 1 to 12 fields of 1 to 5 patients and 1 to 3 classes."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    tp, fp, fn = (draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 40)))
                  for _ in range(3))
    patient = draw(arrays.arrays(np.int64, shape[0], elements=st.integers(0, 4)))
    return CellMatches(np.array([f"f{row}" for row in range(shape[0])]),
                       np.array([f"p{row}" for row in patient]),
                       ("positive", "negative", "til")[:shape[1]], tp, fp, fn, tp + fn, tp + fp)


@given(st.one_of(records(), records("multiclass")), st.floats(0.06, 16))
def test_a_temperature_keeps_the_order_and_can_be_undone(record, temperature):
    scaled = with_temperature(record, temperature)
    assert ((scaled.score >= 0) & (scaled.score <= 1)).all()
    axis = 1 if record.task == "multiclass" else 0
    order = np.argsort(record.score, axis=axis, kind="stable")
    assert (np.diff(np.take_along_axis(scaled.score, order, axis), axis=axis) >= -1e-12).all()
    again = with_temperature(scaled, 1 / temperature)
    inner = (record.score > 0.01) & (record.score < 0.99) & (scaled.score > 1e-9) & (
        scaled.score < 1 - 1e-9)
    rows = inner.all(axis=1) if record.task == "multiclass" else inner
    np.testing.assert_allclose(again.score[rows], record.score[rows], atol=1e-4)


@settings(max_examples=60)
@given(st.one_of(records(), records("multiclass")))
def test_the_fitted_temperature_is_never_worse_than_none(record):
    temperature = fit_temperature(record)
    assert np.exp(-3.01) <= temperature <= np.exp(3.01)

    def loss(of):
        known = ~np.isnan(record.truth)
        score = of.score.clip(1e-7, 1 - 1e-7)
        truth = np.where(known, record.truth, 0)
        each = -truth * np.log(score)
        if record.task == "multilabel":
            each = each - (1 - truth) * np.log1p(-score)
        return each[known].sum()

    assert loss(with_temperature(record, temperature)) <= loss(record) * (1 + 1e-9) + 1e-9


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(
    arrays.arrays(bool, n), arrays.arrays(np.float64, n, elements=SCORES))), st.integers(1, 12))
def test_bins_share_out_every_image_and_ties_stay_together(labelled, bins):
    truth, score = labelled
    points = calibration_bins(truth, score, bins)
    assert sum(point["count"] for point in points) == len(score)
    assert len(points) <= max(3, bins)
    assert sum(point["observed"] * point["count"] for point in points) == pytest.approx(truth.sum())
    predicted = [point["predicted"] for point in points]
    assert all(low < high + 1e-12 for low, high in zip(predicted, predicted[1:], strict=False))
    for point in points:
        assert 0 <= point["low"] <= point["observed"] <= point["high"] <= 1


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_symmetric_and_holds_the_share(trial):
    successes, trials = trial
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    other_low, other_high = wilson(trials - successes, trials)
    assert (low, high) == pytest.approx((1 - other_high, 1 - other_low))


@given(records())
def test_no_cut_has_a_larger_youden_index(record):
    for column, threshold in enumerate(choose_thresholds(record)):
        known = ~np.isnan(record.truth[:, column])
        truth, score = record.truth[known, column] == 1, record.score[known, column]
        assert 0 <= threshold <= 1
        if truth.all() or not truth.any():
            assert threshold == 0.5
            continue

        def youden(cut, truth=truth, score=score):
            return (score[truth] >= cut).mean() - (score[~truth] >= cut).mean()

        best = max(youden(cut) for cut in [*np.unique(score), np.inf])
        if best > 0:
            assert youden(threshold) == pytest.approx(best)


@settings(max_examples=40)
@given(records(), st.data())
def test_changed_decisions_add_up(record, data):
    score = data.draw(arrays.arrays(np.float64, record.score.shape, elements=SCORES))
    for column, audit in enumerate(
            audit_decisions(record, replace(record, score=score), resamples=5)):
        changed = audit.changed
        before, after = (float(np.nan_to_num(point.sensitivity.value)) * audit.positives
                         for point in (audit.original, audit.compressed))
        assert after - before == pytest.approx(changed.gained_positives - changed.lost_positives)
        right_before, right_after = (
            float(np.nan_to_num(point.specificity.value)) * audit.negatives
            for point in (audit.original, audit.compressed))
        assert right_after - right_before == pytest.approx(
            changed.removed_false_alarms - changed.new_false_alarms)
        assert audit.positives + audit.negatives == int((~np.isnan(record.truth[:, column])).sum())


@settings(max_examples=40)
@given(records())
def test_an_unchanged_model_changes_no_decision(record):
    for audit in audit_decisions(record, record, resamples=5):
        assert vars(audit.changed) == dict.fromkeys(vars(audit.changed), 0)
        assert audit.original.sensitivity.value == pytest.approx(
            audit.compressed.sensitivity.value, nan_ok=True)


@settings(max_examples=60)
@given(cells())
def test_cell_metrics_are_shares_and_f1_lies_between_precision_and_recall(record):
    found = evaluate_cells(record, resamples=20)
    for column, name in enumerate(record.classes):
        f1, precision, recall = (found[f"{metric}:{name}"].value
                                 for metric in ("f1", "precision", "recall"))
        if np.isnan(f1):
            assert record.true_count[:, column].sum() == 0
            continue
        if not np.isnan(precision):
            assert min(precision, recall) - 1e-12 <= f1 <= max(precision, recall) + 1e-12
        else:
            assert f1 == 0
    for estimate in found.values():
        if not np.isnan(estimate.value):
            assert 0 <= estimate.value <= 1
            if not np.isnan(estimate.low):
                assert 0 <= estimate.low <= estimate.high <= 1


@settings(max_examples=60)
@given(cells(), st.randoms(use_true_random=False))
def test_neither_the_order_of_fields_nor_how_a_patient_is_cut_into_fields_matters(record, random):
    order = list(range(len(record.image_id)))
    random.shuffle(order)
    moved = replace(record, **{name: getattr(record, name)[order] for name in (
        "image_id", "patient_id", "tp", "fp", "fn", "true_count", "predicted_count")})
    ready, other = ReadyCells(record), ReadyCells(moved)
    once = np.ones((ready.patients, 1))
    np.testing.assert_allclose(ready.values(once), other.values(once), equal_nan=True)
    names, patient = np.unique(record.patient_id, return_inverse=True)

    def pooled(counts):
        sums = np.zeros((len(names), counts.shape[1]), np.int64)
        np.add.at(sums, patient, counts)
        return sums

    tp, fp, fn = pooled(record.tp), pooled(record.fp), pooled(record.fn)
    whole = ReadyCells(CellMatches(names, names, record.classes, tp, fp, fn, tp + fn, tp + fp))
    np.testing.assert_allclose(ready.values(once), whole.values(once), equal_nan=True)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**31 - 1))
def test_every_draw_takes_as_many_patients_as_there_are(patients, resamples, seed):
    counts = PatientDraws(patients, resamples, seed).apply(lambda counts: counts)
    assert counts.shape == (patients, resamples)
    assert (counts >= 0).all() and (counts == np.round(counts)).all()
    np.testing.assert_array_equal(counts.sum(axis=0), patients)
    again = PatientDraws(patients, resamples, seed).apply(lambda counts: counts)
    np.testing.assert_array_equal(counts, again)
