"""Laws of patients' indices: pooled counts, cut-offs at their edges, intervals by patient."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cxcompress.errors import InputError
from cxcompress.evaluation.cut_offs import CutOffs
from cxcompress.evaluation.pathology import (
    ENOUGH_NUCLEI,
    PatientIndices,
    confusion,
    evaluate_patients,
)
from cxcompress.tasks import CellMatches

CLASSES = ("positive", "negative", "lymphocyte")
KNOWN = CutOffs.known()


def record(true, found, patients):
    """Of counts `(fields, 3)`, all that can be right being right."""
    true, found = np.asarray(true), np.asarray(found)
    tp = np.minimum(true, found)
    names = np.array([f"f{row}" for row in range(len(true))])
    return CellMatches(names, np.asarray(patients, str), CLASSES, tp, found - tp, true - tp, true,
                       found)


def random_record(seed, patients=40, fields=4, spread=0.05):
    rng = np.random.default_rng(seed)
    index = np.repeat(rng.beta(1.1, 1.8, patients), fields)
    tumour = rng.integers(60, 260, len(index))
    positive = rng.binomial(tumour, index)
    shown = rng.binomial(tumour, np.clip(index + rng.normal(0, spread, len(index)), 0, 1))
    til = rng.integers(0, 9, len(index))
    return record(np.stack([positive, tumour - positive, til], 1),
                  np.stack([shown, tumour - shown, til], 1),
                  np.repeat([f"p{n}" for n in range(patients)], fields))


def test_indices_of_a_patient_by_hand():
    cells = record([[10, 90, 0], [30, 30, 40]], [[20, 80, 0], [0, 0, 5]], ["a", "a"])
    patients = PatientIndices.of(cells)
    annotated = {name: values[0] for name, values in patients.annotated.items()}
    assert annotated == pytest.approx({
        "ki67_index": 40 / 160, "ki67_mean_of_fields": (0.1 + 0.5) / 2,
        "ki67_hottest_field": 0.5, "til_fraction": 40 / 200})
    found = {name: values[0] for name, values in patients.found.items()}
    # The second field shows no tumour nucleus: it has no index of its own.
    assert found == pytest.approx({
        "ki67_index": 0.2, "ki67_mean_of_fields": 0.2, "ki67_hottest_field": 0.2,
        "til_fraction": 5 / 105})
    (row,) = patients.rows()
    assert row["annotated_tumour_nuclei"] == 160 and row["annotated_too_few_nuclei"]
    assert row["fields"] == 2 and row["patient"] == "a"


def test_five_hundred_nuclei_are_enough():
    for tumour, few in ((ENOUGH_NUCLEI - 1, True), (ENOUGH_NUCLEI, False)):
        cells = record([[100, tumour - 100, 7]], [[1, 1, 1]], ["a"])
        row = PatientIndices.of(cells).rows()[0]
        assert row["annotated_too_few_nuclei"] is few and row["found_too_few_nuclei"] is True


def test_patients_without_nuclei_are_left_out_and_misses_count():
    cells = record([[0, 0, 3], [20, 20, 0], [5, 15, 0]], [[1, 0, 3], [0, 0, 0], [5, 15, 0]],
                   ["none", "missed", "right"])
    found = evaluate_patients(cells, KNOWN)
    rmse = found["ki67_index_rmse"]
    assert rmse.patients == 2 and rmse.value == pytest.approx(np.sqrt(0.5**2 / 2))
    assert found["til_fraction_rmse"].patients == 3
    assert PatientIndices.of(cells).rows()[1]["annotated_ki67_index"] is None


def test_a_patient_with_one_field_has_one_index_three_ways():
    patients = PatientIndices.of(random_record(1, fields=1))
    for side in (patients.annotated, patients.found):
        np.testing.assert_allclose(side["ki67_index"], side["ki67_mean_of_fields"])
        np.testing.assert_allclose(side["ki67_index"], side["ki67_hottest_field"])


def test_estimates_are_their_definitions_and_all_have_intervals():
    cells = random_record(3)
    estimates = evaluate_patients(cells, KNOWN)
    patients = PatientIndices.of(cells)
    difference = patients.found["ki67_index"] - patients.annotated["ki67_index"]
    assert estimates["ki67_index_rmse"].value == pytest.approx(np.sqrt((difference**2).mean()))
    assert estimates["ki67_index_bias"].value == pytest.approx(difference.mean())
    for name in ("pathonet", "ikwg"):
        table = confusion(cells, KNOWN[name])
        assert table.sum() == 40
        assert estimates[f"ki67_index_accuracy:{name}"].value == pytest.approx(
            np.trace(table) / 40)
    assert "til_fraction_accuracy:pathonet" in estimates
    assert "til_fraction_accuracy:ikwg" not in estimates
    for name in ("ki67_index_rmse", "ki67_index_icc", "ki67_index_kappa:ikwg",
                 "ki67_hottest_field_rmse"):
        assert estimates[name].low < estimates[name].value < estimates[name].high
        assert estimates[name].patients == 40 and estimates[name].n == 160
    same = random_record(3)
    exact = evaluate_patients(record(same.true_count, same.true_count, same.patient_id), KNOWN)
    assert exact["til_fraction_rmse"].value == 0 and exact["ki67_index_kappa:ikwg"].value == 1
    # Draws that all agree say nothing of spread; of a proportion the binomial still does.
    assert np.isnan(exact["ki67_index_kappa:ikwg"].low)
    assert exact["ki67_index_accuracy:ikwg"].low == pytest.approx(0.912, abs=0.001)


def test_the_interval_of_the_bias_covers_the_truth_about_as_often_as_it_says():
    covered = sum(
        found.low <= 0 <= found.high for found in (
            evaluate_patients(random_record(seed, 40, 1), {}, resamples=300)["ki67_index_bias"]
            for seed in range(60)))
    assert covered >= 50  # fewer than that has a chance below 0.1% at 95%


@pytest.mark.parametrize("name, index, values, expected", [
    ("pathonet", "ki67_index", [0, 0.159, 0.16, 0.30, 0.301, 1], [0, 0, 1, 1, 2, 2]),
    ("pathonet", "til_fraction", [0.10, 0.101, 0.599, 0.60], [0, 1, 1, 2]),
    ("ikwg", "ki67_index", [0.05, 0.051, 0.299, 0.30], [0, 1, 1, 2]),
    ("ikwg", "ki67_index", [5 / 100, 30 / 100, 6 / 20], [0, 2, 2])])
def test_edges_belong_where_the_source_says(name, index, values, expected):
    assert KNOWN[name].classes(index, values).tolist() == expected
    assert len(KNOWN[name].labels(index)) == 3


def test_cut_offs_come_from_files_too(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"mine": {"ki67_index": [[0.2, "upper"]]}}))
    mine = CutOffs.known(path)["mine"]
    assert mine.labels("ki67_index") == ["< 20%", "≥ 20%"]
    assert mine.classes("ki67_index", [0.19, 0.2]).tolist() == [0, 1]
    for text in ("", "[]", '{"a": {"ki67_index": [[16, "upper"]]}}',
                 '{"a": {"ki67_index": [[0.3, "upper"], [0.2, "upper"]]}}',
                 '{"a": {"ki67_index": [[0.3, "middle"]]}}', '{"a": {"ki67_index": [0.3]}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="mine.json"):
            CutOffs.known(path)
    with pytest.raises(InputError, match="nowhere"):
        CutOffs.known(tmp_path / "nowhere.json")
