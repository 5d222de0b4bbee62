"""Thresholds against a search over all of them, and changed decisions counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score

from cxcompress.evaluation.thresholds import audit_decisions, choose_thresholds
from cxcompress.tasks.predictions import Predictions


def youden(truth, score, threshold):
    return (score[truth == 1] >= threshold).mean() - (score[truth == 0] >= threshold).mean()


@pytest.mark.parametrize("levels", [None, 6])
def test_no_threshold_has_a_larger_youden_index(record, levels):
    predictions = record(150, 4, levels=levels, unknown=0.1, seed=2)
    for column, threshold in enumerate(choose_thresholds(predictions)):
        rows = ~np.isnan(predictions.truth[:, column])
        truth, score = predictions.truth[rows, column], predictions.score[rows, column]
        best = max(youden(truth, score, other) for other in np.unique(score))
        assert youden(truth, score, threshold) == pytest.approx(best)
        assert threshold not in score


def test_a_gap_is_halved_and_nothing_learned_keeps_one_half(record):
    predictions = record(4, 3)
    truth = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]], float)
    score = np.array([[0.1, 0.3, 0.2], [0.2, 0.3, 0.3], [0.6, 0.3, 0.4], [0.8, 0.3, 0.5]])
    chosen = choose_thresholds(replace(predictions, truth=truth, score=score))
    assert chosen == pytest.approx((0.4, 0.5, 0.5))


def test_multiclass_has_no_thresholds(record):
    with pytest.raises(ValueError, match="multilabel"):
        choose_thresholds(record(20, 3, "multiclass"))


def by_hand(truth, before, after):
    ids = np.array([f"i{index}" for index in range(len(truth))])
    return [Predictions(ids, ids, ("x",), np.array(truth, float)[:, None],
                        np.array(score, float)[:, None], "multilabel")
            for score in (before, after)]


def test_changed_decisions_are_counted():
    original, compressed = by_hand([1, 1, 1, 1, 0, 0, 0, np.nan],
                                   [.9, .9, .9, .1, .1, .1, .9, .9],
                                   [.2, .3, .9, .9, .9, .1, .1, .1])
    audit, = audit_decisions(original, compressed, (0.5,), (0.25,), resamples=50)
    assert (audit.positives, audit.negatives) == (4, 3)
    changed = audit.changed
    assert (changed.lost_positives, changed.gained_positives) == (2, 1)
    assert (changed.new_false_alarms, changed.removed_false_alarms) == (1, 1)
    assert audit.changed_new.lost_positives == 1
    assert audit.original.sensitivity.value == 0.75
    assert audit.compressed.sensitivity.value == 0.5
    assert audit.compressed_new.sensitivity.value == 0.75
    assert "2 positives lost and 1 gained of 4" in audit.summary()[0]
    assert "at its new threshold (0.250)" in audit.summary()[1]
    json.dumps(audit.to_dict(), allow_nan=False)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_sensitivity_and_specificity_are_recalls(record, noisy, task):
    original = record(200, 3, task)
    compressed = noisy(original, 0.5)
    for column, audit in enumerate(audit_decisions(original, compressed, resamples=100)):
        truth = compressed.truth[:, column]
        if task == "multiclass":
            decided = compressed.score.argmax(axis=1) == column
        else:
            decided = compressed.score[:, column] >= 0.5
        point = audit.compressed
        assert point.sensitivity.value == pytest.approx(recall_score(truth, decided))
        assert point.specificity.value == pytest.approx(recall_score(1 - truth, ~decided))
        assert point.sensitivity.low < point.sensitivity.value < point.sensitivity.high
        assert (point.threshold is None) == (task == "multiclass")
        assert audit.compressed_new is None and len(audit.summary()) == 1


def test_finding_all_is_no_proof_of_finding_all():
    original, compressed = by_hand([1] * 40 + [0] * 60, [.9] * 40 + [.1] * 60,
                                   [.8] * 40 + [.2] * 60)
    audit, = audit_decisions(original, compressed, resamples=50)
    assert audit.compressed.sensitivity.low == pytest.approx(0.025 ** (1 / 40))
    assert audit.compressed.specificity.low == pytest.approx(0.025 ** (1 / 60))
