"""Laws of agreement: the textbook's formulas, and a patient counted twice is two patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from cxcompress.evaluation import agreement


def pairs(seed, number=12):
    rng = np.random.default_rng(seed)
    truth = rng.random(number)
    return truth + rng.normal(0, 0.1, number), truth, rng.integers(0, 4, (number, 5)).astype(float)


def icc_of_anova(found, annotated):
    """ICC(A,1) from the mean squares of a two-way analysis of variance."""
    table = np.stack([found, annotated], axis=1)
    n, k = table.shape
    whole = table.mean()
    rows = k * np.square(table.mean(1) - whole).sum() / (n - 1)
    columns = n * np.square(table.mean(0) - whole).sum() / (k - 1)
    error = np.square(table - table.mean(1, keepdims=True) - table.mean(0) + whole).sum() / (
        (n - 1) * (k - 1))
    return (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)


@given(st.integers(0, 2**32 - 1))
def test_every_number_is_its_definition_on_repeated_patients(seed):
    found, annotated, counts = pairs(seed)
    low, high = agreement.limits_of_agreement(found, annotated, counts)
    one, other = (np.digitize(values, (0.3, 0.6)) for values in (found, annotated))
    for draw in range(counts.shape[1]):
        rows = np.repeat(np.arange(len(found)), counts[:, draw].astype(int))
        if len(rows) < 3:
            continue
        f, a = found[rows], annotated[rows]
        once = counts[:, [draw]]
        assert agreement.root_mean_square_error(found, annotated, once)[0] == pytest.approx(
            np.sqrt(np.mean((f - a) ** 2)))
        assert agreement.bias(found, annotated, once)[0] == pytest.approx(np.mean(f - a))
        assert agreement.intraclass_correlation(found, annotated, once)[0] == pytest.approx(
            icc_of_anova(f, a), abs=1e-9)
        spread = 1.96 * np.std(f - a, ddof=1)
        assert (high - low)[draw] / 2 == pytest.approx(spread, abs=1e-9)
        assert (high + low)[draw] / 2 == pytest.approx(np.mean(f - a))
        assert agreement.same_class(one, other, once)[0] == np.mean(one[rows] == other[rows])
        if len(np.unique([one[rows], other[rows]])) > 1:
            assert agreement.weighted_kappa(one, other, once, 3)[0] == pytest.approx(
                cohen_kappa_score(one[rows], other[rows], weights="quadratic", labels=[0, 1, 2]))


def test_perfect_agreement_and_no_spread():
    values, counts = np.array([0.1, 0.5, 0.9]), np.ones((3, 1))
    assert agreement.intraclass_correlation(values, values, counts)[0] == pytest.approx(1)
    assert agreement.weighted_kappa(np.array([0, 1, 2]), np.array([0, 1, 2]), counts, 3)[0] == 1
    same = np.full(3, 0.4)
    assert np.isnan(agreement.intraclass_correlation(same, same, counts)[0])
    assert np.isnan(agreement.weighted_kappa(np.zeros(3, int), np.zeros(3, int), counts, 3)[0])
    assert np.isnan(agreement.root_mean_square_error(values, values, np.zeros((3, 1)))[0])
    assert np.isnan(agreement.limits_of_agreement(values[:1], values[:1], counts[:1])[0][0])
