"""Metrics of nuclei against their definitions; verdicts on the F1 of each class."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.evaluation import compare, evaluate
from cxcompress.tasks import CellMatches

CLASSES = ("positive", "negative", "lymphocyte")


def record(rng, patients=80, fields=3, hit=0.9, extra=0.1):
    true = rng.integers(1, 30, (patients * fields, 3))
    tp, fp = rng.binomial(true, hit), rng.poisson(extra * true)
    names = np.array([f"field{row}" for row in range(len(true))])
    return CellMatches(names, np.repeat(np.arange(patients), fields).astype(str), CLASSES, tp, fp,
                       true - tp, true, tp + fp)


def test_metrics_are_their_definitions():
    cells = record(np.random.default_rng(0))
    found = evaluate(cells)
    for column, name in enumerate(CLASSES):
        tp, fp, fn = (getattr(cells, count)[:, column].sum() for count in ("tp", "fp", "fn"))
        assert found[f"precision:{name}"].value == pytest.approx(tp / (tp + fp))
        assert found[f"recall:{name}"].value == pytest.approx(tp / (tp + fn))
        assert found[f"f1:{name}"].value == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert found[f"f1:{name}"].low < found[f"f1:{name}"].value < found[f"f1:{name}"].high
    assert found["f1_macro"].value == pytest.approx(
        np.mean([found[f"f1:{name}"].value for name in CLASSES]))
    errors = []
    for patient in np.unique(cells.patient_id):
        mine = cells.patient_id == patient
        (p, n), (fp, fn) = (counts[mine].sum(0)[:2] for counts in
                            (cells.true_count, cells.predicted_count))
        errors.append(abs(fp / (fp + fn) - p / (p + n)))
    assert found["ki67_absolute_error"].value == pytest.approx(np.mean(errors))
    assert found["f1_macro"].patients == 80


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Every cell is found with the same chance, so that recall is that chance."""
    covered = 0
    for seed in range(60):
        estimate = evaluate(record(np.random.default_rng(seed), 40, 1), resamples=300)[
            "recall:positive"]
        covered += estimate.low <= 0.9 <= estimate.high
    assert covered >= 50  # fewer than that has a chance below 0.1% at 95%


def test_the_same_record_is_non_inferior_and_a_worse_one_inferior():
    rng = np.random.default_rng(1)
    before = record(rng)
    same = compare(before, before)
    assert same.identical and same.verdict == "non-inferior"
    tp = rng.binomial(before.tp, 0.8)
    worse = CellMatches(before.image_id, before.patient_id, CLASSES, tp, before.fp,
                        before.true_count - tp, before.true_count, tp + before.fp)
    change = compare(before, worse)
    assert change.verdict == "inferior" and len(change.primary) == 3
    assert all(one.metric.startswith("f1:") for one in change.primary)
    assert change.to_dict()["verdict"] == "inferior" and "f1:positive" in change.summary()[0]


def test_few_patients_leave_it_undecided():
    few = record(np.random.default_rng(2), patients=12)
    comparison = compare(few, few)
    assert comparison.verdict == "undecided"
    assert "fewer than 50" in comparison.primary[0].reason
    assert "fewer than 30 patients" in evaluate(few)["f1_macro"].method


def test_records_of_other_fields_are_refused():
    rng = np.random.default_rng(4)
    with pytest.raises(ValueError, match="same fields"):
        compare(record(rng), record(rng))
