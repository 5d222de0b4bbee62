"""A sweep whose answers are known exactly, and laws of its parts.

Each class has one positive image. Where it ranks r-th its average precision is 1/r, so the relative
change from rank 1 is 1/r − 1.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from cxcompress.evaluation.comparison import holm
from cxcompress.evaluation.forgettability import (
    SweepMetrics,
    at_bytes,
    cooccurrence,
    first_drop,
    first_significant_drop,
    forgettability_distance,
    frequencies,
    frequency_groups,
    overlap,
    relative_change,
)
from cxcompress.evaluation.forgettability_analysis import (
    AnalysisSettings,
    agreement_at_bytes,
    agreement_at_decline,
    analyse,
    drop_places,
    profile_agreement,
)
from cxcompress.evaluation.ranking import METRICS, treatment_metrics

LEVELS = (0.25, 0.5, 0.75)
CLASSES = ("often", "less", "rare", "rarest")
TRAIN = np.diag([1000, 100, 10, 1])
CHANGES = np.array([[0, 0, 0, -0.5], [0, 0, -0.5, -0.8], [0, -0.5, -0.75, -0.9]])


def known_metrics(seeds: int = 3, series: str = "L1") -> SweepMetrics:
    precision = np.concatenate([np.ones((1, 4)), 1 + CHANGES])
    values = np.repeat(precision[None], seeds, axis=0)
    return SweepMetrics(series, LEVELS, tuple(range(seeds)), CLASSES,
                        {name: values for name in METRICS},
                        np.array([100.0, 75, 50, 25]))


def test_every_number_of_the_known_case():
    analysis = analyse(known_metrics(), TRAIN, np.eye(4, dtype=int),
                       AnalysisSettings(permutations=999))
    assert analysis.curves["AP"].median == pytest.approx(CHANGES)
    assert analysis.first_drop == [None, 0.75, 0.5, 0.25]
    assert analysis.final_impact == pytest.approx([0, -0.5, -0.75, -0.9])
    assert analysis.distance[0, 1] == pytest.approx(0.5)
    assert analysis.distance[0, 3] == pytest.approx(math.sqrt(0.5**2 + 0.8**2 + 0.9**2))
    # log n falls by equal steps, and so do the first drops, "never" one step beyond the last.
    assert analysis.associations["first_drop"].pearson.value == pytest.approx(1)
    assert analysis.associations["final_impact"].spearman.value == pytest.approx(1)
    assert analysis.frequency_difference[0, 3] == pytest.approx(3 * math.log(10))
    assert analysis.overall["AP"].median == pytest.approx([1, 0.875, 0.675, 0.4625])
    assert analysis.overall_change["AP"].median == pytest.approx([-0.125, -0.325, -0.5375])
    # Neither side varies over seeds, so Welch's p is 0 or 1 exactly.
    assert analysis.significant.first == [None, 0.75, 0.5, 0.25]
    assert analysis.overall_significant.first == [0.25]
    assert {name: members.tolist() for name, members in analysis.groups.items()} == {
        "head": [0, 1], "medium": [2], "tail": [3]}
    assert analysis.group_change["head"].median == pytest.approx([0, 0, -0.25])
    rows = analysis.class_rows()
    assert [row["class"] for row in rows] == list(CLASSES)
    assert rows[3]["final_impact"] == pytest.approx(-0.9) and rows[0]["first_drop"] is None


def test_above_chance_all_classes_can_lose_the_same():
    """All classes are wholly forgotten: by average precision the frequent one seems to lose least,
    above chance all lose everything."""
    random = np.random.default_rng(0)
    truth = random.random((2000, 4)) < (0.5, 0.1, 0.02, 0.005)
    values = {name: np.empty((12, 2, 4)) for name in METRICS}
    for seed in range(12):
        noise = random.normal(size=(2, 2000, 4))
        for level, strength in enumerate((3.0, 0.0)):
            found = treatment_metrics(strength * truth + noise[level], truth.astype(float))
            for name in METRICS:
                values[name][seed, level] = found[name]
    lost = {name: np.median(relative_change(values[name])[:, 0], axis=0)
            for name in ("AP", "AP_excess")}
    assert lost["AP"][0] > -0.55 and lost["AP"][3] < -0.9
    assert lost["AP_excess"] == pytest.approx(-1, abs=0.06)


def test_one_seed_has_medians_but_no_intervals_and_no_tests():
    analysis = analyse(known_metrics(1), TRAIN, np.eye(4, dtype=int),
                       AnalysisSettings(permutations=99))
    assert analysis.final_impact == pytest.approx([0, -0.5, -0.75, -0.9])
    assert np.isnan(analysis.curves["AP"].low).all()
    assert analysis.significant.first == [None] * 4 and np.isnan(analysis.significant.p).all()


def test_a_change_from_nothing_is_undefined_and_none_in_the_paper():
    values = np.array([[[0.0], [0.0], [0.5]]])
    assert np.isnan(relative_change(values)).all()
    assert relative_change(values, paper_compat=True)[0, 0, 0] == 0


def test_the_drop_must_be_exceeded():
    assert first_drop(np.array([[-0.2], [-0.2000001]]), (0.5, 0.9)) == [0.9]


def test_significance_is_welch_with_holm_over_all_levels_and_classes():
    random = np.random.default_rng(0)
    values = random.normal(0.6, 0.02, (8, 3, 2))
    values[:, 2, 1] -= 0.3
    found = first_significant_drop(values, (0.5, 0.9))
    p = [[ttest_ind(values[:, level, c], values[:, 0, c], equal_var=False).pvalue
          for c in range(2)] for level in (1, 2)]
    assert found.p == pytest.approx(np.reshape(holm(np.ravel(p)), (2, 2)))
    assert found.first == [None, 0.9]
    values[:, 2, 1] += 0.6     # a significant rise is no drop
    assert first_significant_drop(values, (0.5, 0.9)).first == [None, None]


def test_overlap_is_jaccards_and_the_papers_is_smaller():
    truth = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]])
    counts = cooccurrence(truth)
    assert frequencies(counts).tolist() == [3, 3, 2]
    assert overlap(counts)[0, 1] == pytest.approx(2 / 4)
    assert overlap(counts)[1, 2] == pytest.approx(2 / 3)
    # Their "counts" are column sums of the co-occurrence: 6, 7 and 5 instead of 3, 3 and 2.
    assert frequencies(counts, paper_compat=True).tolist() == counts.sum(axis=0).tolist()
    assert overlap(counts, paper_compat=True)[0, 1] == pytest.approx(
        2 / (counts[0].sum() + counts[1].sum() - 2))


def test_distances_are_a_metric_on_curves():
    curves = np.random.default_rng(0).normal(size=(5, 7))
    distance = forgettability_distance(curves)
    assert np.allclose(distance, distance.T) and (np.diag(distance) == 0).all()
    assert (distance[:, :, None] <= distance[:, None, :] + distance.T[None] + 1e-12).all()


def test_groups_by_counts_or_by_thirds():
    n = np.array([5000.0, 50, 500, 1500, 99, 100])
    assert {name: found.tolist() for name, found in frequency_groups(n, (1000, 100)).items()} == {
        "head": [0, 3], "medium": [2, 5], "tail": [1, 4]}
    assert {name: found.tolist() for name, found in frequency_groups(n).items()} == {
        "head": [0, 3], "medium": [2, 5], "tail": [1, 4]}


def test_shared_values_fall_where_sparsities_rise():
    assert drop_places([16, None, 256], (256, 16, 4)).tolist() == [-4, 0, -8]


def test_interpolation_in_log_bytes_meets_the_levels_and_stays_inside():
    curves, sizes = np.array([[0.0], [-0.1], [-0.5]]), np.array([1000.0, 100, 10])
    assert at_bytes(curves, sizes, 100) == pytest.approx([-0.1])
    assert at_bytes(curves, sizes, math.sqrt(1000)) == pytest.approx([-0.3])
    assert at_bytes(curves, sizes, 9) is None and at_bytes(curves, sizes, 1001) is None


def test_a_series_agrees_with_itself_and_not_with_noise():
    random = np.random.default_rng(0)
    profile = random.normal(size=15)
    first, second, noise = (base + random.normal(0, 0.1, (8, 15)) for base in
                            (profile, profile, np.zeros(15)))
    same = profile_agreement(first, second, permutations=999)
    assert same.association.spearman.value > 0.9 and same.across > 0.9
    assert same.association.spearman.p == pytest.approx(1 / 1000)
    other = profile_agreement(first, noise, permutations=999)
    assert abs(other.across) < 0.5 and other.within_first > 0.9


def test_equal_bytes_and_equal_decline_of_equal_series():
    analysis = analyse(known_metrics(4), TRAIN, np.eye(4, dtype=int),
                       AnalysisSettings(permutations=99))
    for found in (agreement_at_bytes(analysis, analysis, 25),
                  agreement_at_decline(analysis, analysis, 0.5)):
        assert found.association.spearman.value == pytest.approx(1)
        assert found.across == pytest.approx(1)
    assert agreement_at_bytes(analysis, analysis, 24) is None
    assert agreement_at_decline(analysis, analysis, 0.6) is None
