"""The exact bounds, against the binomial distribution itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.evaluation.estimates import (
    Estimate,
    all_successes_low,
    lost_positives_bound,
)

COUNTS = st.lists(st.integers(1, 500), min_size=1, max_size=6)


@given(st.integers(1, 5000))
def test_one_proportion_is_clopper_and_pearson(n):
    assert all_successes_low((n,)) ** n == pytest.approx(0.025)
    assert all_successes_low((n,), independent=True) == pytest.approx(all_successes_low((n,)))


@given(COUNTS)
def test_the_independent_bound_is_the_tighter_one(counts):
    loose, tight = all_successes_low(counts), all_successes_low(counts, independent=True)
    assert 0 < loose <= tight + 1e-9 < 1 + 1e-9


@settings(max_examples=30)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_the_independent_bound_is_the_least_mean_in_the_confidence_set(counts):
    first = np.linspace(1e-9, 1, 20_001)
    with np.errstate(over="ignore"):
        second = np.exp((math.log(0.025) - counts[0] * np.log(first)) / counts[1])
    least = ((first + second) / 2)[second <= 1].min()
    assert all_successes_low(counts, independent=True) == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("counts", [(), (0,), (3, 0)])
def test_no_trials_no_bound(counts):
    with pytest.raises(ValueError, match="at least 1"):
        all_successes_low(counts)


def test_rule_of_three():
    assert lost_positives_bound(46) == 1 - 0.05 ** (1 / 46)
    assert lost_positives_bound(1000) == pytest.approx(3 / 1000, rel=0.01)
    assert lost_positives_bound(0) == 1


def test_undefined_becomes_null_in_json():
    estimate = Estimate(math.nan, math.nan, math.nan, 3, 0, 3, "undefined: no positive image")
    assert json.loads(json.dumps(estimate.to_dict(), allow_nan=False))["value"] is None
    assert str(estimate).startswith("undefined")
    assert str(Estimate(0.5, 0.4, 0.6, 9, 4, 9, "DeLong")) == "0.500 (95% interval 0.400 to 0.600)"
    assert "interval undefined" in str(Estimate(0.5, math.nan, math.nan, 9, 1, 9, "few"))
