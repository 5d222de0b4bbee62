"""Ways of training with several seeds: means and paired differences; and subgroups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxcompress.evaluation import compare, evaluate
from cxcompress.evaluation.arms import arm_differences, arm_estimates
from cxcompress.evaluation.subgroups import subgroup_rows
from cxcompress.tasks import Predictions


def records(count=2, n=300, seed=0, strength=1.5):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 3)) < (0.4, 0.2, 0.0)).astype(float)
    ids = np.arange(n).astype(str)
    patients = (np.arange(n) // 3).astype(str)
    about = {"sex": np.array(["F", "M", ""])[rng.integers(0, 3, n)],
             "age": np.where(rng.random(n) < 0.1, np.nan, rng.uniform(1, 95, n))}
    return [Predictions(ids, patients, ("a", "b", "c"), truth, 1 / (1 + np.exp(
        -(strength * truth + rng.normal(size=truth.shape)))), "multilabel", about)
        for _ in range(count)]


def test_one_seed_is_the_plain_metric_and_several_their_mean():
    many = records(3)
    each = [evaluate(record, resamples=2) for record in many]
    one, mean = arm_estimates(many[:1], resamples=50), arm_estimates(many, resamples=50)
    for key in ("auroc_macro", "auroc:a", "average_precision_macro", "average_precision:b"):
        assert one[key].value == pytest.approx(each[0][key].value)
        assert mean[key].value == pytest.approx(np.mean([found[key].value for found in each]))
        assert mean[key].low < mean[key].value < mean[key].high
    assert np.isnan(mean["auroc:c"].value) and "undefined" in mean["auroc:c"].method
    # Averaging over seeds averages their noise out.
    assert mean["auroc:a"].high - mean["auroc:a"].low < one["auroc:a"].high - one["auroc:a"].low


def test_the_difference_of_one_seed_is_the_paired_comparison():
    before, after = records(2)
    ours = arm_differences([before], [after], resamples=200, seed=4)
    theirs = {change.metric: change.difference
              for change in compare(before, after, resamples=200, seed=4).changes}
    for key in ("auroc_macro", "auroc:a", "average_precision:a"):
        assert ours[key].value == pytest.approx(theirs[key].value)
        assert ours[key].low == pytest.approx(theirs[key].low, abs=1e-9)
        assert ours[key].high == pytest.approx(theirs[key].high, abs=1e-9)


def test_an_arm_does_not_differ_from_itself_and_order_does_not_matter():
    many = records(2)
    shuffled = [record.select(np.random.default_rng(1).permutation(300)) for record in many]
    change = arm_differences(many, shuffled, resamples=20)["auroc_macro"]
    assert (change.value, change.low, change.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="same images"):
        arm_differences(many, [record.select(np.arange(200)) for record in many])
    with pytest.raises(ValueError, match="none"):
        arm_estimates([])


def test_subgroups_cover_every_image_once_a_fact():
    record = records(1)[0]
    rows = subgroup_rows(record)
    for fact in ("sex", "age"):
        assert sum(row["n"] for row in rows if row["fact"] == fact) == 300
    women = next(row for row in rows if row["group"] == "F")
    alone = evaluate(record.select(record.about["sex"] == "F"), resamples=2)
    assert women["auroc:a"] == alone["auroc:a"]
    assert {row["group"] for row in rows if row["fact"] == "age"} == {
        "0 to 17", "18 to 39", "40 to 64", "65 and over", "unknown"}


def test_what_is_known_of_images_is_saved_and_follows_them(tmp_path):
    record = records(1)[0]
    record.save(tmp_path / "a.npz")
    again = Predictions.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.about["sex"], record.about["sex"])
    np.testing.assert_array_equal(again.about["age"], record.about["age"])
    with pytest.raises(ValueError, match="about"):
        replace(record, about={"sex": np.array(["F"])})
