"""Verdicts, from the smallest cases to whole records."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.evaluation.comparison import Comparison, compare, holm, judge
from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.metrics import evaluate
from cxcompress.evaluation.records import align

QUICK = {"resamples": 100}


def by_name(comparison: Comparison):
    return {change.metric: change for change in comparison.changes}


def difference(low, high):
    return Estimate((low + high) / 2, low, high, 400, 200, 400, "paired DeLong")


@pytest.mark.parametrize("low, high, positives, negatives, perfect, verdict, reason", [
    (-0.01, 0.01, 50, 50, False, "non-inferior", ""),
    (0.01, 0.03, 90, 90, False, "non-inferior", ""),
    (-0.019, -0.001, 90, 90, False, "non-inferior", ""),
    (-0.09, -0.03, 90, 90, False, "inferior", ""),
    (-0.03, 0.01, 90, 90, False, "undecided", "the interval holds the margin"),
    (-0.02, 0.01, 90, 90, False, "undecided", "the interval holds the margin"),
    (-0.03, -0.02, 90, 90, False, "undecided", "the interval holds the margin"),
    (-0.01, 0.01, 49, 90, False, "undecided", "fewer than 50 positive patients (49)"),
    (-0.09, -0.03, 90, 20, False, "undecided", "fewer than 50 negative patients (20)"),
    (-0.01, 0.01, 100, 90, True, "undecided", "up to 3.0% of positives may be lost"),
    (math.nan, math.nan, 90, 90, False, "undecided", "paired DeLong"),
])
def test_verdicts(low, high, positives, negatives, perfect, verdict, reason):
    found, why = judge(difference(low, high), 0.02, positives, negatives, perfect)
    assert found == verdict and reason in why and bool(why) == bool(reason)


def test_a_close_copy_is_non_inferior_and_a_ruined_one_inferior(record, noisy):
    for task in ("multilabel", "multiclass"):
        original = record(900, 2, task)
        good, bad = (compare(original, noisy(original, noise), **QUICK) for noise in (0.01, 4))
        assert good.verdict == "non-inferior"
        assert good.headline() == "non-inferior at a margin of 0.02"
        assert bad.verdict == "inferior" and bad.fell == ("auroc:class0", "auroc:class1")
        assert "inferior at a margin of 0.02: auroc" in bad.headline()
        names = {change.metric for change in good.primary}
        extra = {"auroc_macro", "balanced_accuracy"} if task == "multiclass" else set()
        assert names == {"auroc:class0", "auroc:class1"} | extra


def test_one_inferior_class_makes_the_whole_inferior(record, noisy):
    original = record(900, 3)
    compressed = noisy(original, 0.01)
    compressed.score[:, 1] = noisy(original, 4).score[:, 1]
    comparison = compare(original, compressed, **QUICK)
    assert comparison.verdict == "inferior"
    assert comparison.metrics_with("inferior") == comparison.fell == ("auroc:class1",)


def test_rare_classes_are_named_not_hidden(record, noisy):
    original = record(900, 2)
    original.truth[:, 1] = np.arange(900) < 30
    comparison = compare(original, noisy(original, 0.01), **QUICK)
    assert comparison.verdict == "non-inferior where decidable"
    assert comparison.headline().endswith("; undecided: auroc:class1")
    assert "fewer than 50 positive patients (30)" in by_name(comparison)["auroc:class1"].reason
    assert by_name(comparison)["auroc_macro"].verdict == "undecided"
    original.truth[:, 0] = original.truth[:, 1]
    assert compare(original, noisy(original, 0.01), **QUICK).verdict == "undecided"


def test_images_are_not_patients(record, noisy):
    original = record(900, 1, patients=40)
    change = by_name(compare(original, noisy(original, 0.01), **QUICK))["auroc:class0"]
    assert change.verdict == "undecided" and change.positive_patients <= 40
    assert "clustered by patient" in change.difference.method


def test_two_perfect_models_prove_little(record):
    original = record(240, 2, "multiclass")
    perfect = replace(original, score=0.9 * original.truth + 0.05)
    other = replace(original, score=0.8 * original.truth + 0.1)
    comparison = compare(perfect, other, **QUICK)
    assert comparison.verdict == "undecided" and not comparison.identical
    for column, name in enumerate(original.classes):
        n = int(original.truth[:, column].sum())
        change = by_name(comparison)[f"auroc:{name}"]
        assert change.lost_positives_bound == pytest.approx(1 - 0.05 ** (1 / n), abs=1e-12)
        assert f"{change.lost_positives_bound:.1%} of positives" in change.reason
        pairs = int(original.truth.sum(axis=0).min())
        assert change.smallest_margin == pytest.approx(1 - 0.025 ** (1 / pairs))
    balanced = by_name(comparison)["balanced_accuracy"]
    assert balanced.verdict == "undecided" and "no draw differs" in balanced.difference.method
    assert -0.05 < balanced.difference.low < 0


def test_a_model_does_not_differ_from_itself(record):
    original = record(300, 2, "multiclass", patients=250)
    comparison = compare(original, original, **QUICK)
    assert comparison.identical and comparison.verdict == "non-inferior" and not comparison.fell
    for change in comparison.changes:
        assert change.difference.value == change.difference.low == change.difference.high == 0
    assert all(audit.changed.lost_positives == audit.changed.gained_positives == 0
               for audit in comparison.decisions)
    assert "both models gave exactly the same scores" in comparison.summary()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_swapping_the_models_turns_every_difference(record, noisy, task):
    original = record(200, 3, task, patients=120, unknown=0.1)
    compressed = noisy(original, 0.5)
    there, back = (by_name(compare(*pair, **QUICK))
                   for pair in ((original, compressed), (compressed, original)))
    for name, change in there.items():
        one, other = change.difference, back[name].difference
        assert (one.value, one.low, one.high) == pytest.approx(
            (-other.value, -other.high, -other.low), abs=1e-12)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_values_agree_with_evaluate_and_higher_is_better(record, noisy, task):
    original = record(200, 3, task)
    compressed = noisy(original, 2)
    before, after = evaluate(original, **QUICK), evaluate(compressed, **QUICK)
    changes = by_name(compare(original, compressed, **QUICK))
    assert set(changes) == set(before)
    for name, change in changes.items():
        assert change.original == pytest.approx(before[name].value)
        assert change.compressed == pytest.approx(after[name].value)
        sign = -1 if name in ("cross_entropy", "calibration_error") else 1
        assert change.difference.value == pytest.approx(
            sign * (after[name].value - before[name].value))
    assert changes["cross_entropy"].difference.value < 0
    assert "lower is better" in changes["cross_entropy"].line()


def test_the_order_of_images_changes_nothing(record, noisy, take):
    original = record(150, 2, patients=90, unknown=0.1)
    compressed = noisy(original, 0.5)
    order = np.random.default_rng(0).permutation(150)
    plain = compare(original, compressed, **QUICK)
    for pair in ((take(original, order), compressed), (original, take(compressed, order))):
        for one, other in zip(plain.changes, compare(*pair, **QUICK).changes, strict=True):
            assert one.metric == other.metric and one.verdict == other.verdict
            assert (one.difference.low, one.difference.high) == pytest.approx(
                (other.difference.low, other.difference.high))


def test_smallest_margin_turns_the_verdict_of_an_equal_model(record, noisy):
    original = record(400, 1, seed=3)
    compressed = noisy(original, 0.3)
    change = by_name(compare(original, compressed, **QUICK))["auroc:class0"]
    low, value = change.difference.low, change.difference.value
    assert change.smallest_margin == value - low
    equal = replace(change.difference, value=0.0, low=low - value, high=value - low)
    assert judge(equal, change.smallest_margin * 1.001, 90, 90, False)[0] == "non-inferior"
    assert judge(equal, change.smallest_margin * 0.999, 90, 90, False)[0] == "undecided"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=14))
def test_holm_lies_between_the_p_values_and_bonferroni(p_values):
    corrected, p = holm(p_values), np.array(p_values)
    assert (corrected >= p).all() and (corrected <= np.minimum(1, len(p) * p) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()


def test_holm_of_a_known_case():
    found = holm([0.01, math.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, math.nan, 0.06, 0.06, 0.02])


def test_an_empty_class_stays_undecided(record, noisy):
    original = record(300, 2)
    original.truth[:, 1] = 0
    comparison = compare(original, noisy(original, 0.01), **QUICK)
    change = by_name(comparison)["auroc:class1"]
    assert change.verdict == "undecided" and "no positive image" in change.reason
    assert math.isnan(change.smallest_margin)
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_what_is_printed_and_saved(record, noisy, tmp_path):
    original = record(300, 2, "multilabel")
    comparison = compare(original, noisy(original, 0.3), new_thresholds=(0.4, 0.6), **QUICK)
    lines = comparison.summary()
    assert lines[0].startswith("verdict: ") and not any("\n" in line for line in lines)
    for text in ("smallest margin this test set can decide", "fell (Holm, 5%)",
                 "positives lost", "at its new threshold (0.400)"):
        assert any(text in line for line in lines), text
    assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["margin"] == 0.02
    frame = comparison.to_frame()
    assert list(frame["metric"]) == [change.metric for change in comparison.changes]
    frame.to_csv(tmp_path / "comparison.csv", index=False)
    assert {"difference", "low", "high", "verdict", "p_holm"} <= set(frame.columns)


def test_records_that_do_not_match_are_refused(record, take):
    original = record(40, 2)
    rows = np.arange(40)
    cases = [
        (take(original, rows[:39]), "same images.*40 and 39"),
        (replace(original, image_id=np.char.add(original.image_id, "x")), "same images"),
        (replace(original, classes=("a", "b")), "same classes"),
        (replace(original, task="multiclass"), "same task"),
        (replace(original, patient_id=np.full(40, "p")), "same patient"),
        (replace(original, truth=1 - original.truth), "same truth"),
    ]
    for other, message in cases:
        with pytest.raises(ValueError, match=message):
            compare(original, other)
    repeated = replace(original, image_id=np.repeat(["a", "b"], 20))
    assert align(repeated, repeated)[1] is repeated
    with pytest.raises(ValueError, match="repeat"):
        align(repeated, take(repeated, rows[::-1]))
    with pytest.raises(ValueError, match="margin"):
        compare(original, original, margin=0)
