"""What a search prefers, and what it takes for non-inferior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.errors import InputError
from cxcompress.search.candidates import Candidate, judged_row
from cxcompress.search.smallest_file import (
    STARTS,
    Space,
    best_first,
    front,
    nearest,
    recommended,
)
from cxcompress.tasks import Predictions

ROWS = st.lists(st.builds(
    lambda size, shortfall, stage, allowed: {
        "bytes": size, "shortfall": shortfall, "stage": stage, "allowed": allowed,
        "feasible": shortfall < 0},
    st.integers(1, 30), st.integers(-10, 10).map(lambda n: n / 100), st.integers(0, 3),
    st.booleans()), min_size=1, max_size=30)


@given(ROWS)
def test_nothing_beats_what_is_on_the_front(rows):
    kept = front(rows)
    for row in rows:
        beaten = [other for other in rows if other["bytes"] <= row["bytes"]
                  and other["shortfall"] <= row["shortfall"]
                  and (other["bytes"], other["shortfall"]) != (row["bytes"], row["shortfall"])]
        same = [one for one in kept if (one["bytes"], one["shortfall"])
                == (row["bytes"], row["shortfall"])]
        assert bool(beaten) != bool(same)


@given(ROWS)
def test_best_first_orders_all_allowed_rows_and_beaten_ones_come_later(rows):
    ordered = best_first(rows)
    assert sorted(map(id, ordered)) == sorted(id(row) for row in rows if row["allowed"])
    assert not ordered or ordered[0]["shortfall"] == min(row["shortfall"] for row in ordered)


@given(ROWS)
def test_the_recommended_file_is_the_smallest_that_is_fit_on_all_images(rows):
    best = recommended(rows)
    fit = [row["bytes"] for row in rows
           if row["stage"] and row["allowed"] and row["shortfall"] < 0]
    assert (best is None) == (not fit)
    if best is not None:
        assert best["bytes"] == min(fit) and best["feasible"]
    assert nearest(rows)["shortfall"] >= min(row["shortfall"] for row in rows)


def records(rng, positives: int, negatives: int, loss: float):
    """An original and a model whose positives' scores partly become those of negatives."""
    truth = np.r_[np.ones(positives), np.zeros(negatives)]
    score = np.clip(rng.normal(0.35 + 0.3 * truth, 0.08), 0.01, 0.99)
    worse = score.copy()
    wrong = rng.random(len(truth)) < loss
    worse[wrong] = rng.permutation(score)[wrong]
    names = np.array([f"image{number}" for number in range(len(truth))])

    def record(values):
        return Predictions(names, names, ("finding",), truth[:, None].astype(np.float32),
                           values[:, None].astype(np.float32), "multilabel")
    return record(score), record(worse)


def test_many_images_decide_and_shortfall_is_the_missing_part_of_the_interval():
    rng = np.random.default_rng(0)
    for loss, feasible in ((0.0005, True), (0.3, False)):
        row = judged_row(*records(rng, 1500, 1500, loss), 0.02, (0.5,), 50, 0)
        assert row["undecidable"] == [] and row["feasible"] is feasible
        assert row["shortfall"] == pytest.approx(-0.02 - row["lowest"])


def test_where_few_patients_decide_nothing_the_outputs_must_stay():
    rng = np.random.default_rng(1)
    original, same = records(rng, 20, 20, 0.0)
    row = judged_row(original, same, 0.02, (0.5,), 50, 0)
    assert row["undecidable"] == ["auroc:finding"] and row["feasible"]
    # The ranking is the same, but probabilities are not: nothing could show the harm.
    squeezed = Predictions(same.image_id, same.patient_id, same.classes, same.truth,
                           same.score * 0.5, same.task)
    row = judged_row(original, squeezed, 0.02, (0.5,), 50, 0)
    assert row["mean_change"] > 0.1 and not row["feasible"]
    assert row["shortfall"] == pytest.approx(row["mean_change"] - 0.02)


def test_some_of_the_images_are_compared_with_the_same_of_the_original():
    original, other = records(np.random.default_rng(2), 300, 300, 0.05)
    rows = np.arange(0, 600, 3)
    few = judged_row(original, other.select(rows), 0.02, (0.5,), 50, 0)
    assert few == judged_row(original.select(rows), other.select(rows), 0.02, (0.5,), 50, 0)
    assert few["n"] == 200


def test_a_space_without_a_start_leaves_it_out():
    assert len(Space().starts()) == len(STARTS)
    assert [one["quantizer"] for one in Space(quantizers=("UQ",)).starts()] == ["UQ", "UQ"]
    assert Space(quantizers=("TCQ",)).starts() == []


def test_candidates_are_named_apart_and_refuse_contradictions():
    some = [Candidate("uCWS", 16), Candidate("uCWS", 16, pruned=50.0), Candidate("CWS", 16),
            Candidate("uCWS", 16, epochs=3), Candidate("uCWS", 16, epochs=3, learning_rate=1e-4),
            Candidate("TCQ", sqnr_db=16.0), Candidate("TCQ", sqnr_db=16.0, sensitivity="fisher"),
            Candidate("uECSQ", 16, lambd=0.1), Candidate("uCWS", 16, dropped=1)]
    assert len({one.name for one in some}) == len(some)
    assert some[3].untuned == some[0] and some[3].key == some[0].key != some[1].key
    assert some[1].parsed.name == "pruCWS"
    with pytest.raises(InputError, match="lambd"):
        Candidate("uCWS", 16, lambd=0.1).parsed  # noqa: B018
