"""Ratings of images by several readers: exemplars against controls, and how far readers agree.

    ratings = Ratings(image, rater, group, value)            # one row an answer
    result = compare_groups(ratings)                         # difference, tests, intervals
    krippendorff_alpha(ratings, "ordinal")                   # agreement of the readers

Ratings of one image by six readers are no six independent observations. So beside the pooled tests
of the original analysis (Welch, Mann–Whitney, Kruskal–Wallis; labelled as such) there are three
that respect images and raters: a difference within raters with errors clustered both ways
(Cameron, Gelbach and Miller 2011), a bootstrap that draws images and raters, and a permutation
that exchanges whole images, with all ratings they got, among images seen by the same raters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import kruskal, mannwhitneyu

from cxcompress.evaluation.bootstrap import BLOCK_ELEMENTS, percentile_interval
from cxcompress.evaluation.estimates import TAIL
from cxcompress.evaluation.seed_intervals import welch_p


@dataclass(frozen=True)
class Ratings:
    """Answers to one question, one row an answer; images without an answer have no row.

    Args:
        image: int `(m,)`: 0 … images − 1.
        rater: int `(m,)`: 0 … raters − 1.
        exemplar: bool `(m,)`: whether the image is an exemplar (else a control).
        value: float `(m,)`, finite.
    """

    image: NDArray[np.intp]
    rater: NDArray[np.intp]
    exemplar: NDArray[np.bool_]
    value: NDArray[np.float64]

    def standardised(self) -> Ratings:
        """z-scores within each rater; 0 for a rater who always says the same."""
        value = np.zeros(len(self.value))
        for rater in np.unique(self.rater):
            rows = self.rater == rater
            spread = self.value[rows].std(ddof=1) if rows.sum() > 1 else 0.0
            if spread > 0:
                value[rows] = (self.value[rows] - self.value[rows].mean()) / spread
        return Ratings(self.image, self.rater, self.exemplar, value)


@dataclass(frozen=True)
class GroupComparison:
    """Exemplars against controls for one question.

    Args:
        exemplar_mean, exemplar_sd, control_mean, control_sd: Of all answers.
        exemplar_answers, control_answers, images, raters: Counts.
        difference: Exemplars − controls, within raters (least squares, a constant a rater).
        low, high: Its 95% interval, errors clustered by image and by rater.
        p_clustered: Its two-sided p-value; t with min(images, raters) − 1 degrees of freedom.
        bootstrap_low, bootstrap_high: 95% interval of draws of images and raters.
        p_permutation: Two-sided, of permutations of images; NaN where none can be exchanged.
        p_welch, p_mann_whitney, p_kruskal: Pooled answers as if independent.
    """

    exemplar_mean: float
    exemplar_sd: float
    control_mean: float
    control_sd: float
    exemplar_answers: int
    control_answers: int
    images: int
    raters: int
    difference: float
    low: float
    high: float
    p_clustered: float
    bootstrap_low: float
    bootstrap_high: float
    p_permutation: float
    p_welch: float
    p_mann_whitney: float
    p_kruskal: float


def compare_groups(
    ratings: Ratings, *, permutations: int = 9999, resamples: int = 1000, seed: int = 0
) -> GroupComparison:
    """All numbers of one question.

    Args:
        ratings: Of at least one exemplar and one control.
        permutations: Of images.
        resamples: Draws of images and raters.
        seed: Of both.

    Raises:
        ValueError: If a group has no answer.
    """
    ours, controls = ratings.value[ratings.exemplar], ratings.value[~ratings.exemplar]
    if not len(ours) or not len(controls):
        raise ValueError("both groups need answers. Received: "
                         f"{len(ours)} of exemplars, {len(controls)} of controls")
    difference, low, high, p = clustered_difference(ratings)
    bootstrap = percentile_interval(_drawn_differences(ratings, resamples, seed))
    varies = np.ptp(ratings.value) > 0

    def spread(values):
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    return GroupComparison(
        float(ours.mean()), spread(ours), float(controls.mean()), spread(controls), len(ours),
        len(controls), len(np.unique(ratings.image)), len(np.unique(ratings.rater)), difference,
        low, high, p, bootstrap.low, bootstrap.high,
        permutation_p(ratings, permutations, seed),
        float(welch_p(ours, controls)),
        float(mannwhitneyu(ours, controls, alternative="two-sided").pvalue) if varies else 1.0,
        float(kruskal(ours, controls).pvalue) if varies else 1.0)


def _within(values: NDArray, rater: NDArray, weights: NDArray) -> NDArray:
    """Values less their rater's weighted mean; both `(…, m)`, raters `(m,)`."""
    member = np.eye(int(rater.max()) + 1)[rater]
    total = weights @ member
    mean = np.divide((weights * values) @ member, total, where=total > 0,
                     out=np.zeros(np.shape(total)))
    return values - mean[..., rater]


def _differences(ratings: Ratings, weights: NDArray) -> NDArray[np.float64]:
    """Exemplars − controls within raters with weights `(…, m)`; NaN where no rater saw both."""
    x = _within(ratings.exemplar.astype(float), ratings.rater, weights)
    y = _within(ratings.value, ratings.rater, weights)
    spread = (weights * x * x).sum(axis=-1)
    return np.divide((weights * x * y).sum(axis=-1), spread, where=spread > 1e-12,
                     out=np.full(np.shape(spread), np.nan))


def clustered_difference(ratings: Ratings) -> tuple[float, float, float, float]:
    """Difference within raters, its 95% interval and p-value, clustered by image and by rater.

    Where the two-way variance is not positive, as it can be, the larger one-way one is taken.
    All but the difference NaN with fewer than 2 images or raters.
    """
    ones = np.ones(len(ratings.value))
    difference = float(_differences(ratings, ones))
    x = _within(ratings.exemplar.astype(float), ratings.rater, ones)
    residual = _within(ratings.value, ratings.rater, ones) - difference * x
    images, raters = len(np.unique(ratings.image)), len(np.unique(ratings.rater))
    if math.isnan(difference) or min(images, raters) < 2:
        return difference, math.nan, math.nan, math.nan
    spread = (x * x).sum()

    def variance(cluster):
        score = np.bincount(cluster, x * residual)
        groups = len(np.unique(cluster))
        return groups / (groups - 1) * (score @ score) / spread**2

    by_image, by_rater = variance(ratings.image), variance(ratings.rater)
    both = variance(ratings.image * (int(ratings.rater.max()) + 1) + ratings.rater)
    two_way = by_image + by_rater - both
    if two_way <= 0:
        two_way = max(by_image, by_rater)
    error, freedom = math.sqrt(two_way), min(images, raters) - 1
    if error == 0:
        return difference, difference, difference, 1.0 if difference == 0 else 0.0
    reach = float(stdtrit(freedom, 1 - TAIL)) * error
    return (difference, difference - reach, difference + reach,
            float(2 * stdtr(freedom, -abs(difference) / error)))


def _drawn_differences(ratings: Ratings, resamples: int, seed: int) -> NDArray[np.float64]:
    """The difference in draws of images (within their group) and of raters."""
    random = np.random.default_rng((seed, 2))
    image_group = dict(zip(ratings.image.tolist(), ratings.exemplar.tolist(), strict=True))
    units = [(np.array([image for image, ours in image_group.items() if ours == group]),
              ratings.image) for group in (True, False)]
    units.append((np.unique(ratings.rater), ratings.rater))
    differences, block = [], max(1, BLOCK_ELEMENTS // len(ratings.value))
    for start in range(0, resamples, block):
        draws = min(block, resamples - start)
        weights = np.ones((draws, len(ratings.value)))
        for members, of in units:
            weights *= _draw_weights(random, members, of, draws)
        differences.append(_differences(ratings, weights))
    return np.concatenate(differences)


def _draw_weights(random, members: NDArray, of: NDArray, resamples: int) -> NDArray:
    """How often each row's member is drawn `(resamples, m)`; rows of no member count 1."""
    drawn = random.integers(0, len(members), (resamples, len(members)))
    counts = np.apply_along_axis(np.bincount, 1, drawn, minlength=len(members))
    place = {int(member): position for position, member in enumerate(members)}
    columns = np.array([place.get(int(value), -1) for value in of])
    return np.where(columns >= 0, counts[:, columns], 1)


def permutation_p(ratings: Ratings, permutations: int = 9999, seed: int = 0) -> float:
    """Two-sided P of the difference within raters when groups are exchanged among images.

    An image keeps all the ratings that it got, and is exchanged only with images that the same
    raters saw, so raters' habits and image difficulty cancel. NaN where no exemplar shares its
    raters with a control.
    """
    images, position = np.unique(ratings.image, return_inverse=True)
    position = position.reshape(-1)
    group = np.zeros(len(images), bool)
    group[position] = ratings.exemplar
    seen: dict[tuple[int, ...], list[int]] = {}
    for image in range(len(images)):
        raters = tuple(sorted(ratings.rater[position == image].tolist()))
        seen.setdefault(raters, []).append(image)
    if not any(0 < group[members].sum() < len(members) for members in seen.values()):
        return math.nan
    y = _within(ratings.value, ratings.rater, np.ones(len(ratings.value)))
    of_image = np.bincount(position, y)
    answered = np.zeros((len(images), int(ratings.rater.max()) + 1))
    np.add.at(answered, (position, ratings.rater), 1)
    answers = np.maximum(answered.sum(axis=0), 1)

    def statistic(groups):
        # Least squares of y on the group within raters, from sums over each image's answers.
        by_rater = groups @ answered
        return groups @ of_image / (by_rater - by_rater**2 / answers).sum(axis=1)

    random = np.random.default_rng((seed, 3))
    observed = abs(float(statistic(group[None].astype(float))[0]))
    exceeding, block = 0, max(1, BLOCK_ELEMENTS // len(images))
    for start in range(0, permutations, block):
        groups = np.repeat(group[None], min(block, permutations - start), axis=0)
        for members in seen.values():
            groups[:, members] = random.permuted(groups[:, members], axis=1)
        exceeding += int((np.abs(statistic(groups.astype(float))) >= observed - 1e-12).sum())
    return (1 + exceeding) / (1 + permutations)


def krippendorff_alpha(
    ratings: Ratings, level: Literal["nominal", "ordinal", "interval"] = "ordinal"
) -> float:
    """Krippendorff's (2011) α: 1 = raters agree, 0 = as by chance; missing answers allowed.

    Args:
        ratings: Of all groups; images with one answer do not count.
        level: How far apart two values are: differing or not, by ranks, or by numbers.

    Returns:
        NaN where no image has two answers, or all answers are equal.
    """
    values, code = np.unique(ratings.value, return_inverse=True)
    code = code.reshape(-1)
    table = np.zeros((int(ratings.image.max()) + 1, len(values)))
    np.add.at(table, (ratings.image, code), 1)
    return _alpha(table, values, level)


def _alpha(table: NDArray, values: NDArray, level: str) -> float:
    """α of counts `(images, values)`."""
    answers = table.sum(axis=1)
    table, answers = table[answers > 1], answers[answers > 1]
    if not len(table):
        return math.nan
    coincidence = ((table / (answers - 1)[:, None]).T @ table
                   - np.diag((table / (answers - 1)[:, None]).sum(axis=0)))
    margin = coincidence.sum(axis=1)
    total = margin.sum()
    if level == "nominal":
        distance = 1.0 - np.eye(len(values))
    elif level == "interval":
        distance = (values[:, None] - values[None, :]) ** 2
    else:
        middle = np.cumsum(margin) - margin / 2
        distance = (middle[:, None] - middle[None, :]) ** 2
    expected = (margin[:, None] * margin[None, :] * distance).sum() / (total - 1)
    if expected == 0:
        return math.nan
    return float(1 - (coincidence * distance).sum() / expected)


def alpha_interval(
    ratings: Ratings, level: Literal["nominal", "ordinal", "interval"] = "ordinal", *,
    resamples: int = 1000, seed: int = 0,
) -> tuple[float, float, float]:
    """α and its 95% interval from draws of images."""
    values, code = np.unique(ratings.value, return_inverse=True)
    table = np.zeros((int(ratings.image.max()) + 1, len(values)))
    np.add.at(table, (ratings.image, code.reshape(-1)), 1)
    table = table[table.sum(axis=1) > 0]
    random = np.random.default_rng((seed, 4))
    drawn = np.array([_alpha(table[random.integers(0, len(table), len(table))], values, level)
                      for _ in range(resamples)])
    found = percentile_interval(drawn)
    return _alpha(table, values, level), found.low, found.high
