"""Laws of the step from raw outputs to probabilities, findings and records."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxcompress import tasks
from cxcompress.errors import InputError
from cxcompress.tasks.probabilities import multiclass_probabilities, multilabel_probabilities

LOGITS = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)),
                elements=st.floats(-1000, 1000, width=32))


@given(LOGITS)
def test_softmax_of_any_logits_sums_to_one_and_keeps_the_order(logits):
    probabilities = multiclass_probabilities(logits, ("a", "b", "c"), from_logits=True)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    best = np.take_along_axis(probabilities, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    assert (best == probabilities.max(axis=1)).all()


@given(LOGITS)
def test_sigmoid_of_any_logits_is_a_probability(logits):
    probabilities = multilabel_probabilities(logits, ("a", "b", "c"), from_logits=True)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    mirrored = multilabel_probabilities(-logits, ("a", "b", "c"), from_logits=True)
    np.testing.assert_allclose(probabilities + mirrored, 1)


def test_probabilities_pass_unchanged():
    given_rows = np.float32([[0.25, 0.75], [1.0, 0.0]])
    assert np.array_equal(multiclass_probabilities(given_rows, ("a", "b")), given_rows)
    assert np.array_equal(multilabel_probabilities(given_rows, ("a", "b")), given_rows)


def test_logits_are_recognised_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        multiclass = multiclass_probabilities([[2.0, -1.0]], ("a", "b"))
        multilabel = multilabel_probabilities([[2.0, -1.0]], ("a", "b"))
    assert "softmax" in caplog.text and "sigmoid" in caplog.text
    np.testing.assert_allclose(multiclass, [[1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))]])
    np.testing.assert_allclose(multilabel, [[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))]])


def test_one_sigmoid_stands_for_two_classes():
    for outputs in ([[0.9], [0.2]], [0.9, 0.2]):
        np.testing.assert_allclose(multiclass_probabilities(outputs, ("a", "b")),
                                   [[0.1, 0.9], [0.8, 0.2]])
    np.testing.assert_allclose(multiclass_probabilities([[0.0], [5.0]], ("a", "b"))[:, 1],
                               [0.5, 1 / (1 + np.exp(-5))])


def test_a_sigmoid_a_class_is_divided_by_its_sum(caplog):
    with caplog.at_level(logging.WARNING):
        rows = multiclass_probabilities([[0.9, 0.3], [0.0, 0.0]], ("a", "b"))
    np.testing.assert_allclose(rows, [[0.75, 0.25], [0.5, 0.5]])
    assert "divided by their sum" in caplog.text


def test_the_coarse_steps_of_an_int8_graph_are_no_cause_for_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        rows = multiclass_probabilities([[85 / 256, 85 / 256, 85 / 256]], ("a", "b", "c"))
    np.testing.assert_allclose(rows, 1 / 3)
    assert not caplog.text


@pytest.mark.parametrize("name", ["multiclass", "multilabel"])
def test_a_wrong_width_names_both_numbers(name):
    with pytest.raises(InputError, match="gives 3 outputs.*there are 2 classes") as raised:
        tasks.get(name, ("a", "b")).findings(np.full((1, 3), 1 / 3))
    assert "--classes" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["multiclass", "multilabel"])
def test_nan_and_pictures_are_refused(name):
    task = tasks.get(name, ("a", "b"))
    with pytest.raises(InputError, match="NaN or infinite for 1 of 2 images"):
        task.findings([[0.5, 0.5], [np.nan, 0.5]])
    with pytest.raises(InputError, match="shape"):
        task.findings(np.zeros((1, 4, 4, 2)))


def test_multiclass_findings_have_one_class_a_row():
    findings = tasks.get("multiclass", ["a", "b", "c"]).findings([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    assert findings.decisions.tolist() == [[False, True, False], [True, False, False]]
    assert findings.classes == ("a", "b", "c")
    with pytest.raises(ValueError, match="no thresholds"):
        tasks.get("multiclass", "ab").findings([[0.5, 0.5]], thresholds=(0.5, 0.5))


def test_multilabel_findings_reach_their_threshold():
    task = tasks.get("multilabel", ("a", "b"))
    assert task.findings([[0.5, 0.49]]).decisions.tolist() == [[True, False]]
    assert task.findings([[0.5, 0.49]], (0.6, 0.49)).decisions.tolist() == [[False, True]]
    with pytest.raises(ValueError, match="2 finite numbers"):
        task.findings([[0.5, 0.5]], (0.5,))


@pytest.mark.parametrize("name", ["multiclass", "multilabel"])
def test_a_record_survives_the_disk(tmp_path, name):
    task = tasks.get(name, ("a", "b"))
    record = task.record(np.float32([[0.25, 0.75], [0.5, 0.5]]), [[0, 1], [np.nan, np.nan]],
                         ["x.png", "y.png"], ["p", "p"])
    assert record.task == name
    record.save(tmp_path / "record.npz")
    again = tasks.Predictions.load(tmp_path / "record.npz")
    assert again.classes == ("a", "b") and again.task == name
    for field in ("image_id", "patient_id"):
        assert np.array_equal(getattr(again, field), getattr(record, field))
    for field in ("truth", "score"):
        assert np.array_equal(getattr(again, field), getattr(record, field), equal_nan=True)


def test_findings_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        tasks.Findings(("a", "b"), np.zeros((1, 3)), np.zeros((1, 3), bool))
    with pytest.raises(ValueError, match="decisions"):
        tasks.Findings(("a", "b"), np.zeros((1, 2)), np.zeros((2, 2), bool))


def test_unknown_tasks_are_named():
    with pytest.raises(InputError, match="'regression'.*multiclass, multilabel"):
        tasks.get("regression", ("a",))
