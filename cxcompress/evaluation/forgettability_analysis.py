"""Everything that forgettability says of one series of treatments, from its metrics.

    analysis = analyse(metrics, train_counts, test_counts)
    analysis.class_rows()                        # a row a class
    analysis.associations["final_impact"]        # against log frequency
    agreement_at_bytes(analysis_of_pruning, analysis_of_quantisation, wanted=60_000)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cxcompress.evaluation.associations import (
    FEWEST_CLASSES,
    Association,
    associate,
    associate_pairs,
    weighted_pearson,
)
from cxcompress.evaluation.comparison import holm
from cxcompress.evaluation.forgettability import (
    DROP,
    Curves,
    SignificantDrop,
    SweepMetrics,
    at_bytes,
    first_drop,
    first_significant_drop,
    forgettability_curves,
    forgettability_distance,
    frequencies,
    frequency_groups,
    log_frequency_difference,
    mean_over_classes,
    overlap,
    relative_change,
)
from cxcompress.evaluation.seed_intervals import median_interval

SPLITS = 50
"""Random halves of the seeds that an agreement of two series is averaged over."""


@dataclass(frozen=True)
class AnalysisSettings:
    """What an analysis may choose.

    Args:
        metric: Whose curves drops, distances and associations are about, one of
            `ranking.METRICS`.
        drop: Relative loss that counts as a drop.
        paper_compat: The original study's definitions: 10⁻¹² in the denominator, frequencies and
            overlap from column sums of the test images' co-occurrence.
        cuts: Training images above which a class is head, below which it is tail; None: thirds.
        resamples, permutations, seed: Of the associations.
    """

    metric: str = "AP"
    drop: float = DROP
    paper_compat: bool = False
    cuts: tuple[float, float] | None = None
    resamples: int = 1000
    permutations: int = 9999
    seed: int = 0


@dataclass(frozen=True)
class SeriesAnalysis:
    """One series of treatments: see the fields' own functions in `forgettability.py`.

    Args:
        metrics: What it is made from.
        settings: How.
        change: By metric: relative changes `(seeds, levels, classes)`.
        curves: By metric: their medians `(levels, classes)`.
        overall: By metric: the mean over classes `(1 + levels,)`, the original first.
        overall_change: By metric: its relative change `(levels,)`.
        first_drop: A level or None, one a class.
        significant: Of each class; corrected over classes and levels.
        overall_significant: Of the mean over classes; corrected over levels.
        train_frequency, test_frequency: Images of each class `(c,)`.
        distance: FCD `(c, c)`.
        frequency_difference, overlap: Of class pairs `(c, c)`.
        associations: `first_drop` and `final_impact` with log training frequency, the latter also
            of `AP_excess`, whose floor is the same for all classes (`final_impact_excess`);
            `fcd_frequency` and `fcd_overlap` (with IoU^¼).
        groups: Positions of the classes of head, medium and tail.
        group_change: Relative change of each group's mean `(levels,)`.
        undefined: Classes left out, since the metric is undefined for some seed and level.
    """

    metrics: SweepMetrics
    settings: AnalysisSettings
    change: Mapping[str, NDArray[np.float64]]
    curves: Mapping[str, Curves]
    overall: Mapping[str, Curves]
    overall_change: Mapping[str, Curves]
    first_drop: list[float | None]
    significant: SignificantDrop
    overall_significant: SignificantDrop
    train_frequency: NDArray[np.float64]
    test_frequency: NDArray[np.float64]
    distance: NDArray[np.float64]
    frequency_difference: NDArray[np.float64]
    overlap: NDArray[np.float64]
    associations: Mapping[str, Association]
    groups: Mapping[str, NDArray[np.intp]]
    group_change: Mapping[str, Curves]
    undefined: tuple[str, ...]

    @property
    def final_impact(self) -> NDArray[np.float64]:
        """The chosen metric's curve at the hardest level `(c,)`."""
        return self.curves[self.settings.metric].median[-1]

    def class_rows(self) -> list[dict[str, Any]]:
        """A row a class, the most frequent first."""
        metrics, chosen = self.metrics, self.settings.metric
        curves = self.curves[chosen]
        early, late = (first_drop(band, metrics.levels, self.settings.drop)
                       for band in (curves.low, curves.high))
        group_of = {int(position): name for name, members in self.groups.items()
                    for position in members}
        rows = []
        for c in np.argsort(-self.train_frequency, kind="stable"):
            row = {
                "series": metrics.series, "class": metrics.classes[c],
                "train_positives": int(self.train_frequency[c]),
                "test_positives": int(self.test_frequency[c]),
                "group": group_of.get(int(c), ""), "seeds": len(metrics.seeds),
                "metric": chosen,
                "original": _median(metrics.values[chosen][:, 0, c]),
                "first_drop": self.first_drop[c],
                "first_drop_earliest": early[c], "first_drop_latest": late[c],
                "first_significant_drop": self.significant.first[c],
                "final_impact": curves.median[-1, c], "final_impact_low": curves.low[-1, c],
                "final_impact_high": curves.high[-1, c], "confidence": curves.confidence}
            for name, other in self.curves.items():
                if name != chosen:
                    row |= {f"final_{name}": other.median[-1, c],
                            f"final_{name}_low": other.low[-1, c],
                            f"final_{name}_high": other.high[-1, c]}
            rows.append(row)
        return rows

    def curve_rows(self) -> Iterator[dict[str, Any]]:
        """A row a metric, class and level: median relative change and its interval."""
        for name, curves in self.curves.items():
            for place, level in enumerate(self.metrics.levels):
                for c, label in enumerate(self.metrics.classes):
                    yield {"series": self.metrics.series, "metric": name, "class": label,
                           "level": level, "bytes": self.metrics.bytes[1 + place],
                           "change": curves.median[place, c], "low": curves.low[place, c],
                           "high": curves.high[place, c]}

    def overall_rows(self) -> Iterator[dict[str, Any]]:
        """A row a metric and level: the mean over classes; the original has no level."""
        for name, curves in self.overall.items():
            change = self.overall_change[name]
            for place, level in enumerate((None, *self.metrics.levels)):
                row = {"series": self.metrics.series, "metric": name, "level": level,
                       "bytes": self.metrics.bytes[place], "seeds": len(self.metrics.seeds),
                       "value": curves.median[place], "low": curves.low[place],
                       "high": curves.high[place], "confidence": curves.confidence}
                for part in ("median", "low", "high"):
                    row["change" if part == "median" else f"change_{part}"] = (
                        getattr(change, part)[place - 1] if place else 0.0)
                tested = place and name == self.settings.metric
                row["p_holm"] = self.overall_significant.p[place - 1, 0] if tested else math.nan
                yield row

    def group_rows(self) -> Iterator[dict[str, Any]]:
        """A row a group and level."""
        for name, curves in self.group_change.items():
            for place, level in enumerate(self.metrics.levels):
                yield {"series": self.metrics.series, "group": name,
                       "classes": len(self.groups[name]), "level": level,
                       "change": curves.median[place], "low": curves.low[place],
                       "high": curves.high[place], "confidence": curves.confidence}

    def pair_rows(self) -> Iterator[dict[str, Any]]:
        """A row a pair of classes."""
        names = self.metrics.classes
        for a, b in zip(*np.triu_indices(len(names), 1), strict=True):
            yield {"series": self.metrics.series, "first": names[a], "second": names[b],
                   "fcd": self.distance[a, b],
                   "log_frequency_difference": self.frequency_difference[a, b],
                   "iou": self.overlap[a, b]}

    def association_rows(self) -> list[dict[str, Any]]:
        """A row an association, with p-values corrected over them (Holm)."""
        rows: list[dict[str, Any]] = [
            {"series": self.metrics.series, "association": name, **found.to_dict()}
            for name, found in self.associations.items()]
        for kind in ("pearson", "spearman"):
            for row, p in zip(rows, holm([row[f"{kind}_p"] for row in rows]), strict=True):
                row[f"{kind}_p_holm"] = float(p)
        return rows


def analyse(
    metrics: SweepMetrics, train_counts: NDArray, test_counts: NDArray,
    settings: AnalysisSettings | None = None,
) -> SeriesAnalysis:
    """All numbers of one series.

    Args:
        metrics: Of the series.
        train_counts, test_counts: Co-occurrence `(c, c)` of training and test images
            (`forgettability.cooccurrence`).
        settings: Choices.
    """
    settings = settings or AnalysisSettings()
    paper = settings.paper_compat
    change = {name: relative_change(values, paper_compat=paper)
              for name, values in metrics.values.items()}
    curves = {name: forgettability_curves(values) for name, values in change.items()}
    means = {name: mean_over_classes(values) for name, values in metrics.values.items()}
    chosen = curves[settings.metric].median
    drops = first_drop(chosen, metrics.levels, settings.drop)
    pair_counts = test_counts if paper else train_counts
    train = frequencies(train_counts)
    pair_frequency = frequencies(pair_counts, paper_compat=paper)
    distance = forgettability_distance(chosen)
    difference = log_frequency_difference(pair_frequency)
    shared = overlap(pair_counts, paper_compat=paper)
    with np.errstate(divide="ignore"):
        log_train = np.where(train > 0, np.log(train), np.nan)
    undefined = np.asarray(np.isnan(chosen).any(axis=0))
    ranks = {"resamples": settings.resamples, "permutations": settings.permutations,
             "seed": settings.seed}
    groups = frequency_groups(train, settings.cuts)
    values = metrics.values[settings.metric]
    group_change = {
        name: forgettability_curves(relative_change(
            mean_over_classes(values[..., members])))
        for name, members in groups.items() if len(members)}
    return SeriesAnalysis(
        metrics, settings, change, curves,
        {name: Curves(*median_interval(value)) for name, value in means.items()},
        {name: forgettability_curves(relative_change(value)) for name, value in means.items()},
        drops, first_significant_drop(values, metrics.levels),
        first_significant_drop(means[settings.metric][..., None], metrics.levels),
        train, frequencies(test_counts), distance, difference, shared,
        {"first_drop": associate(log_train, drop_places(drops, metrics.levels, undefined),
                                 **ranks),
         "final_impact": associate(log_train, chosen[-1], **ranks),
         "final_impact_excess": associate(log_train, curves["AP_excess"].median[-1], **ranks),
         "fcd_frequency": associate_pairs(distance, difference, **ranks),
         "fcd_overlap": associate_pairs(distance, shared**0.25, **ranks)},
        groups, group_change,
        tuple(name for name, bad in zip(metrics.classes, undefined, strict=True) if bad))


def severities(levels: Sequence[float]) -> NDArray[np.float64]:
    """Levels as an axis that rises with what is done: sparsity, or −log2 of shared values."""
    values = np.asarray(levels, np.float64)
    return values if (values < 1).all() else -np.log2(values)


def drop_places(
    drops: Sequence[float | None], levels: Sequence[float],
    undefined: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """First drops on the axis of `severities`, for correlations.

    A class that never drops is put one step beyond the hardest level, so that ranks are right; one
    that is undefined is NaN.
    """
    axis = severities(levels)
    step = axis[-1] - axis[-2] if len(axis) > 1 else 1.0
    places = np.array([axis[-1] + step if drop is None else axis[levels.index(drop)]
                       for drop in drops])
    if undefined is not None:
        places[undefined] = np.nan
    return places


def _median(values: NDArray) -> float:
    defined = values[~np.isnan(values)]
    return float(np.median(defined)) if len(defined) else math.nan


@dataclass(frozen=True)
class ProfileAgreement:
    """Do two series hurt the same classes?

    Args:
        association: Over classes, of both series' median relative changes.
        across: Spearman's ρ between one series on half of the seeds and the other on the other
            half, mean of random halves; NaN with fewer than 4 seeds in common.
        within_first, within_second: The same within a series: as much as its own noise allows.
        first_change, second_change: Median over classes of the median relative changes.
    """

    association: Association
    across: float
    within_first: float
    within_second: float
    first_change: float
    second_change: float

    def to_dict(self) -> dict[str, float]:
        """Flat numbers."""
        return self.association.to_dict() | {
            "across_halves": self.across, "within_first": self.within_first,
            "within_second": self.within_second, "first_change": self.first_change,
            "second_change": self.second_change}


def profile_agreement(
    first: NDArray, second: NDArray, *, seed: int = 0, resamples: int = 1000,
    permutations: int = 9999,
) -> ProfileAgreement:
    """Compare the classes' relative changes under two treatments of the same seeds.

    Args:
        first, second: `(seeds, classes)`.
        seed: Of halves, draws and permutations.
        resamples, permutations: As for `associate`.

    Both treatments share their seeds' original networks, whose chance errors make them agree.
    Halves of the seeds do not: `across` is free of that, and `within_…` says how large it can be.
    All share their test images.
    """
    medians = [median_interval(values)[0] for values in (first, second)]
    association = associate(*medians, seed=seed, resamples=resamples, permutations=permutations)
    seeds = len(first)
    halves: dict[str, list[float]] = {"across": [], "first": [], "second": []}
    if seeds >= 4:
        random = np.random.default_rng((seed, 5))
        for _ in range(SPLITS):
            order = random.permutation(seeds)
            one, other = order[:seeds // 2], order[seeds // 2:]
            a, b = ([median_interval(values[half])[0] for half in (one, other)]
                    for values in (first, second))
            halves["across"] += [_spearman(a[0], b[1]), _spearman(b[0], a[1])]
            halves["first"].append(_spearman(*a))
            halves["second"].append(_spearman(*b))
    across, within_first, within_second = (
        float(np.nanmean(values)) if values and not np.isnan(values).all() else math.nan
        for values in halves.values())
    return ProfileAgreement(association, across, within_first, within_second,
                            *(_median(median) for median in medians))


def _spearman(x: NDArray, y: NDArray) -> float:
    rows = ~(np.isnan(x) | np.isnan(y))
    if rows.sum() < FEWEST_CLASSES:
        return math.nan
    return float(weighted_pearson(rankdata(x[rows]), rankdata(y[rows]),
                                  np.ones((1, int(rows.sum()))))[0])


def agreement_at_bytes(
    first: SeriesAnalysis, second: SeriesAnalysis, wanted: float
) -> ProfileAgreement | None:
    """`profile_agreement` of two series where both networks take `wanted` bytes.

    Relative changes are interpolated, linear in log bytes; None outside the sizes of either.
    """
    seeds = [seed for seed in first.metrics.seeds if seed in second.metrics.seeds]
    profiles = []
    for analysis in (first, second):
        profiles.append(at_bytes(_with_original(analysis, seeds), analysis.metrics.bytes, wanted))
    known = [profile for profile in profiles if profile is not None]
    if not seeds or len(known) < len(profiles):
        return None
    return _agreement(known, first.settings)


def agreement_at_decline(
    first: SeriesAnalysis, second: SeriesAnalysis, decline: float
) -> ProfileAgreement | None:
    """`profile_agreement` where both series have first cost `decline` of the mean over classes.

    Args:
        decline: Relative, e.g. 0.2.

    Levels are interpolated; None where a series never declines so far.
    """
    seeds = [seed for seed in first.metrics.seeds if seed in second.metrics.seeds]
    profiles = []
    for analysis in (first, second):
        overall = np.concatenate(
            [[0.0], analysis.overall_change[analysis.settings.metric].median])
        beyond = np.flatnonzero(overall <= -decline)
        if not len(beyond) or not seeds:
            return None
        place = int(beyond[0])
        curves = _with_original(analysis, seeds)
        share = (-decline - overall[place - 1]) / (overall[place] - overall[place - 1])
        profiles.append((1 - share) * curves[place - 1] + share * curves[place])
    return _agreement(profiles, first.settings)


def _with_original(analysis: SeriesAnalysis, seeds: Sequence[int]) -> NDArray[np.float64]:
    """Relative changes `(1 + levels, seeds, classes)`, the original's zeros first."""
    rows = [analysis.metrics.seeds.index(seed) for seed in seeds]
    change = analysis.change[analysis.settings.metric][rows]
    return np.concatenate([np.zeros_like(change[:, :1]), change], axis=1).swapaxes(0, 1)


def _agreement(profiles: Sequence[NDArray], settings: AnalysisSettings) -> ProfileAgreement:
    return profile_agreement(*profiles, seed=settings.seed, resamples=settings.resamples,
                             permutations=settings.permutations)
