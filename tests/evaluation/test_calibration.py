"""Temperature scaling finds the temperature that was applied; bins hold every image."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.evaluation.calibration import (
    calibration_bins,
    fit_temperature,
    wilson,
    with_temperature,
)
from cxcompress.evaluation.cxr import evaluate_cxr
from cxcompress.tasks import Predictions


def calibrated(task="multilabel", n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.arange(n).astype(str)
    if task == "multilabel":
        score = 1 / (1 + np.exp(-rng.normal(-1, 1.5, (n, 3))))
        truth = (rng.random((n, 3)) < score).astype(float)
        truth[rng.random(truth.shape) < 0.1] = np.nan
    else:
        logits = rng.normal(0, 2, (n, 3))
        score = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        truth = np.eye(3)[(rng.random((n, 1)) > score.cumsum(1)).sum(1).clip(0, 2)]
    return Predictions(ids, ids, ("a", "b", "c"), truth, score, task)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoilt_a_model_is_found(task, temperature):
    good = calibrated(task)
    spoilt = with_temperature(good, 1 / temperature)
    found = fit_temperature(spoilt)
    assert found == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(with_temperature(spoilt, temperature).score, good.score, atol=1e-4)


def test_scaling_mends_calibration_and_leaves_ranks():
    spoilt = with_temperature(calibrated(), 0.4)
    before = evaluate_cxr(spoilt, resamples=2)
    after = evaluate_cxr(with_temperature(spoilt, fit_temperature(spoilt)), resamples=2)
    assert after["calibration_error_macro"].value < before["calibration_error_macro"].value / 3
    assert after["brier_macro"].value < before["brier_macro"].value
    assert after["auroc_macro"].value == pytest.approx(before["auroc_macro"].value, abs=1e-6)


def test_bins_hold_every_image_in_order():
    rng = np.random.default_rng(1)
    score = rng.random(501).round(2)
    truth = rng.random(501) < score
    bins = calibration_bins(truth, score)
    assert sum(entry["count"] for entry in bins) == 501
    predicted = [entry["predicted"] for entry in bins]
    assert predicted == sorted(predicted) and len(bins) == 8
    assert all(entry["low"] <= entry["observed"] <= entry["high"] for entry in bins)
    assert len(calibration_bins(truth[:30], np.full(30, 0.3))) == 1


def test_wilsons_interval_against_its_published_form():
    low, high = wilson(0, 10)
    assert low == 0 and high == pytest.approx(0.2775, abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_nothing_known_leaves_probabilities_alone():
    unknown = calibrated()
    assert fit_temperature(Predictions(
        unknown.image_id, unknown.patient_id, unknown.classes, np.full((20_000, 3), np.nan),
        unknown.score, "multilabel")) == 1.0
    with pytest.raises(ValueError, match="positive"):
        with_temperature(unknown, 0)
