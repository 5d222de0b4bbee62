"""Readers' answers: published values, and tests that respect images and raters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kruskal, mannwhitneyu, ttest_ind

from cxcompress.evaluation.reader_study import (
    Ratings,
    alpha_interval,
    compare_groups,
    krippendorff_alpha,
    permutation_p,
)

KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example C."""


def crossed(images=40, raters=6, effect=0.0, image_sd=0.8, rater_sd=0.7, seed=0) -> Ratings:
    """Every rater sees every image; the first half are exemplars."""
    random = np.random.default_rng(seed)
    image, rater = (part.ravel() for part in np.mgrid[:images, :raters])
    exemplar = image < images // 2
    value = (random.normal(0, image_sd, images)[image] + random.normal(0, rater_sd, raters)[rater]
             + random.normal(0, 0.6, images * raters) + effect * exemplar + 3)
    return Ratings(image, rater, exemplar, value)


@pytest.mark.parametrize("level, alpha", [
    ("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_the_published_example(level, alpha):
    rows = [line.split() for line in KRIPPENDORFF.split("\n") if line]
    cells = [(image, rater, float(answer)) for rater, row in enumerate(rows)
             for image, answer in enumerate(row) if answer != "."]
    image, rater, value = map(np.array, zip(*cells, strict=True))
    ratings = Ratings(image, rater, image < 6, value)
    assert krippendorff_alpha(ratings, level) == pytest.approx(alpha, abs=5e-4)
    found = alpha_interval(ratings, level, resamples=200)
    assert found[1] < found[0] < found[2]


def test_pooled_tests_are_scipys():
    ratings = crossed(effect=0.3)
    found = compare_groups(ratings, permutations=99, resamples=50)
    ours, controls = ratings.value[ratings.exemplar], ratings.value[~ratings.exemplar]
    assert found.p_welch == pytest.approx(ttest_ind(ours, controls, equal_var=False).pvalue)
    assert found.p_mann_whitney == pytest.approx(mannwhitneyu(ours, controls).pvalue)
    assert found.p_kruskal == pytest.approx(kruskal(ours, controls).pvalue)
    assert found.exemplar_mean == pytest.approx(ours.mean())
    assert found.difference == pytest.approx(ours.mean() - controls.mean())   # crossed: the same
    assert found.low < found.difference < found.high
    assert found.bootstrap_low < found.difference < found.bootstrap_high


def test_without_an_effect_clustered_tests_keep_their_level_and_pooled_ones_do_not():
    p = {"permutation": [], "clustered": [], "welch": []}
    for seed in range(120):
        found = compare_groups(crossed(seed=seed), permutations=99, resamples=2)
        p["permutation"].append(found.p_permutation)
        p["clustered"].append(found.p_clustered)
        p["welch"].append(found.p_welch)
    share = {name: np.mean(np.array(values) <= 0.05) for name, values in p.items()}
    assert share["permutation"] <= 0.10 and share["clustered"] <= 0.12
    assert share["welch"] >= 0.15


def test_a_clear_effect_is_found_even_where_raters_differ_much():
    found = compare_groups(crossed(effect=2.0, rater_sd=5.0), permutations=999, resamples=50)
    assert found.p_permutation == pytest.approx(1 / 1000) and found.p_clustered < 0.01
    assert found.low < 2 < found.high


def test_images_are_exchanged_only_among_those_that_the_same_raters_saw():
    """A harsh rater sees exemplars alone, a mild one controls alone: nothing can be said."""
    image = np.arange(20)
    exemplar = image < 10
    ratings = Ratings(image, exemplar.astype(int), exemplar, np.where(exemplar, 1.0, 5.0))
    assert np.isnan(permutation_p(ratings, 99))
    found = compare_groups(ratings, permutations=99, resamples=20)
    assert np.isnan(found.difference) and np.isnan(found.p_clustered)


def test_z_scores_are_within_raters_and_survive_a_rater_without_opinion():
    ratings = crossed(raters=3)
    ratings.value[ratings.rater == 1] = 4.0
    z = ratings.standardised().value
    assert z[ratings.rater == 0].mean() == pytest.approx(0, abs=1e-12)
    assert z[ratings.rater == 2].std(ddof=1) == pytest.approx(1)
    assert (z[ratings.rater == 1] == 0).all()


def test_missing_answers_and_one_rater_are_allowed():
    ratings = crossed(images=10, raters=1)
    found = compare_groups(ratings, permutations=99, resamples=20)
    assert np.isnan(found.p_clustered) and found.p_permutation > 0
    kept = np.random.default_rng(0).random(240) < 0.7
    full = crossed()
    some = Ratings(full.image[kept], full.rater[kept], full.exemplar[kept], full.value[kept])
    found = compare_groups(some, permutations=99, resamples=20)
    assert found.low < found.difference < found.high


def test_all_equal_answers_show_no_difference():
    ratings = crossed()
    same = Ratings(ratings.image, ratings.rater, ratings.exemplar, np.full(240, 3.0))
    found = compare_groups(same, permutations=99, resamples=20)
    assert found.difference == 0 and found.p_kruskal == 1 and found.p_permutation == 1
    assert np.isnan(krippendorff_alpha(same))
