"""Figures of what compression forgets: by class, by pair of classes, by image, by reader.

Every function takes results of `cxcompress.evaluation` and writes `<stem>.png` and `<stem>.svg`.
Axes follow the original study (Holste et al. 2023); colours are those of Okabe and Ito, and every
line has a marker or dash of its own besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from cxcompress.evaluation.associations import Association
from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.forgettability_analysis import (
    ProfileAgreement,
    SeriesAnalysis,
    drop_places,
    severities,
)
from cxcompress.evaluation.reader_study import GroupComparison
from cxcompress.reporting.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    VERMILION,
    _save,
)
from cxcompress.reporting.point_labels import label_points

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "black", GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LONG_NAMES = {"AP": "average precision", "AP_excess": "average precision above chance",
              "AUROC": "AUROC", "F1": "F1"}
GROUP_COLOURS = {"head": BLUE, "medium": GREEN, "tail": VERMILION}


def _is_sparsity(analysis: SeriesAnalysis) -> bool:
    return max(analysis.metrics.levels) < 1


def _x(analysis: SeriesAnalysis, original: bool) -> NDArray:
    """Where a series' levels lie: sparsity, or log2 of the shared values (negative: few last)."""
    places = severities(analysis.metrics.levels)
    if not original:
        return places
    step = places[1] - places[0] if len(places) > 1 else 1.0
    return np.concatenate([[0.0 if _is_sparsity(analysis) else places[0] - step], places])


def _name_levels(axes, analyses: Sequence[SeriesAnalysis], original: bool) -> None:
    if _is_sparsity(analyses[0]):
        axes.set_xlabel("sparsity (kernel weights pruned)")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        return
    levels = sorted({level for analysis in analyses for level in analysis.metrics.levels},
                    reverse=True)
    places, names = list(severities(levels)), [f"{level:g}" for level in levels]
    if original:
        step = places[1] - places[0] if len(places) > 1 else 1.0
        places, names = [places[0] - step, *places], ["float", *names]
    axes.set_xticks(places, names, fontsize=8)
    axes.set_xlabel("shared values k")


def _band_note(analyses: Sequence[SeriesAnalysis]) -> str:
    several = [analysis for analysis in analyses if len(analysis.metrics.seeds) > 1]
    if not several:
        return "1 seed: no band"
    seeds = sorted({len(analysis.metrics.seeds) for analysis in several})
    confidence = min(analysis.overall["AP"].confidence for analysis in several)
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"median of {count} seeds, band: its {100 * confidence:.0f}% interval"


def overall_decline(
    stem: Path, analyses: Mapping[str, SeriesAnalysis], metric: str = "AP"
) -> None:
    """The mean over classes against the level: a line a series, with its band.

    Args:
        stem: Path without suffix.
        analyses: By label; pruning and quantisation get a panel each.
        metric: As the analyses have it.
    """
    panels = [part for part in (
        {label: one for label, one in analyses.items() if _is_sparsity(one)},
        {label: one for label, one in analyses.items() if not _is_sparsity(one)}) if part]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(panels), figsize=(0.8 + 3.4 * len(panels), 3.0),
                                    sharey=True, squeeze=False)
        place = 0
        for axes, part in zip(grid[0], panels, strict=True):
            for label, analysis in part.items():
                curves, x = analysis.overall[metric], _x(analysis, original=True)
                colour = COLOURS[place % len(COLOURS)]
                axes.fill_between(x, curves.low, curves.high, color=colour, alpha=0.18, lw=0)
                axes.plot(x, curves.median, color=colour, marker=MARKERS[place % len(MARKERS)],
                          ms=3.5, lw=1.2, label=label)
                significant = analysis.overall_significant.first[0]
                if significant is not None and metric == analysis.settings.metric:
                    row = analysis.metrics.levels.index(significant) + 1
                    axes.plot(x[row], curves.median[row], "o", ms=10, mfc="none", mec=colour)
                place += 1
            _name_levels(axes, list(part.values()), original=True)
            axes.legend(frameon=False, fontsize=8)
        grid[0][0].set_ylabel(f"{LONG_NAMES[metric]}, mean over classes")
        figure.suptitle(_band_note(list(analyses.values()))
                        + "; ring: first significant drop", fontsize=8)
        figure.tight_layout()
        _save(figure, stem)


def chosen_classes(analysis: SeriesAnalysis, count: int = 6) -> list[int]:
    """Classes evenly spaced from the most to the least frequent, of those with a curve."""
    order = [int(c) for c in np.argsort(-analysis.train_frequency, kind="stable")
             if analysis.metrics.classes[c] not in analysis.undefined]
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [order[place] for place in places]


def forgettability_curves(
    stem: Path, analysis: SeriesAnalysis, label: str, classes: Sequence[int] | None = None
) -> None:
    """Relative change against the level for a few classes, frequent to rare, with bands.

    Args:
        stem: Path without suffix.
        analysis: Of one series.
        label: Of the title.
        classes: Their positions; None: six, evenly spaced by frequency.
    """
    classes = chosen_classes(analysis) if classes is None else classes
    curves, x = analysis.curves[analysis.settings.metric], _x(analysis, original=False)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.2, 3.4))
        axes.axhline(0, color="black", lw=0.6)
        axes.axhline(-analysis.settings.drop, color=GREY, lw=0.8, ls=":")
        for place, c in enumerate(classes):
            colour = COLOURS[place % len(COLOURS)]
            axes.fill_between(x, curves.low[:, c], curves.high[:, c], color=colour, alpha=0.12,
                              lw=0)
            axes.plot(x, curves.median[:, c], color=colour, ms=3.5, lw=1.2,
                      marker=MARKERS[place % len(MARKERS)],
                      label=f"{analysis.metrics.classes[c]} ({analysis.train_frequency[c]:.0f})")
        _name_levels(axes, [analysis], original=False)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        low = float(np.nanmin(curves.median[:, classes]))
        high = float(np.nanmax(curves.median[:, classes]))
        margin = 0.15 * max(high - low, 0.1)
        axes.set_ylim(low - margin, high + margin)
        axes.set_ylabel(f"relative change of\n{LONG_NAMES[analysis.settings.metric]}")
        axes.legend(frameon=False, fontsize=8, title="class (training images)",
                    title_fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set_title(f"{label}: {_band_note([analysis])}", fontsize=8)
        _save(figure, stem)


def group_curves(stem: Path, analyses: Mapping[str, SeriesAnalysis]) -> None:
    """Relative change of the mean of head, medium and tail classes: a panel a series."""
    columns = min(3, len(analyses))
    rows = -(-len(analyses) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(rows, columns, sharey=True, squeeze=False,
                                    figsize=(0.8 + 2.7 * columns, 0.4 + 2.6 * rows))
        for axes in grid.ravel()[len(analyses):]:
            axes.set_visible(False)
        for axes, (label, analysis) in zip(grid.ravel(), analyses.items(), strict=False):
            axes.axhline(0, color="black", lw=0.6)
            x = _x(analysis, original=False)
            for place, (name, curves) in enumerate(analysis.group_change.items()):
                colour = GROUP_COLOURS[name]
                axes.fill_between(x, curves.low, curves.high, color=colour, alpha=0.15, lw=0)
                axes.plot(x, curves.median, color=colour, marker=MARKERS[place], ms=3.5, lw=1.2,
                          label=f"{name} ({len(analysis.groups[name])} classes)")
            _name_levels(axes, [analysis], original=False)
            axes.set_title(label, fontsize=9)
        grid[0][0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for axes in grid[:, 0]:
            axes.set_ylabel("relative change of mean\n"
                            + LONG_NAMES[analysis.settings.metric])
        grid[0][0].legend(frameon=False, fontsize=7, loc="lower left")
        figure.suptitle(_band_note(list(analyses.values())), fontsize=8)
        figure.tight_layout()
        _save(figure, stem)


def _correlation_text(found: Association) -> str:
    if np.isnan(found.pearson.value):
        return "no correlation: too few classes,\nor all the same"
    lines = []
    for symbol, part in (("r", found.pearson), ("ρ", found.spearman)):
        interval = (f" ({part.low:.2f} to {part.high:.2f})" if np.isfinite(part.low) else "")
        lines.append(f"{symbol} = {part.value:.2f}{interval}, P = {part.p:.2g}")
    return "\n".join(lines)


def _regression(axes, x: NDArray, y: NDArray) -> None:
    finite = np.isfinite(x) & np.isfinite(y)
    if finite.sum() > 2 and np.ptp(x[finite]) > 0:
        slope, constant = np.polyfit(x[finite], y[finite], 1)
        ends = np.array([x[finite].min(), x[finite].max()])
        axes.plot(ends, slope * ends + constant, color=GREY, lw=1, zorder=0)


def class_correlations(stem: Path, analyses: Mapping[str, SeriesAnalysis]) -> None:
    """Log training frequency against first drop and final impact, a row a series.

    At the right the final impact above chance, whose floor is the same for every class.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(analyses), 3, figsize=(10.6, 0.3 + 3.1 * len(analyses)),
                                    squeeze=False)
        for (left, middle, right), (label, analysis) in zip(grid, analyses.items(), strict=True):
            with np.errstate(divide="ignore"):
                y = np.log(analysis.train_frequency)
            y[~np.isfinite(y)] = np.nan
            undefined = np.isnan(analysis.curves[analysis.settings.metric].median).any(axis=0)
            drops = drop_places(analysis.first_drop, analysis.metrics.levels, undefined)
            # A class that was hardly learnt has a hardly defined relative change.
            excess = np.minimum(analysis.curves["AP_excess"].median[-1], 1)
            for axes, x, name in ((left, drops, "first_drop"),
                                  (middle, analysis.final_impact, "final_impact"),
                                  (right, excess, "final_impact_excess")):
                colours = [next((GROUP_COLOURS[group] for group, members
                                 in analysis.groups.items() if c in members), GREY)
                           for c in range(len(y))]
                never = np.array([drop is None for drop in analysis.first_drop])
                _regression(axes, x, y)
                for c in range(len(y)):
                    hollow = name == "first_drop" and never[c]
                    axes.plot(x[c], y[c], "o", ms=5, mec=colours[c],
                              mfc="none" if hollow else colours[c])
                axes.set_title(_correlation_text(analysis.associations[name]), fontsize=8)
            left.set_ylabel("log training frequency")
            metric, hardest = analysis.settings.metric, analysis.metrics.levels[-1]
            _name_drops(left, analysis, drops)
            left.set_xlabel(f"{'sparsity' if _is_sparsity(analysis) else 'shared values k'} at "
                            f"first {analysis.settings.drop:.0%} loss of {metric}")
            there = f"{hardest:.0%} sparsity" if hardest < 1 else f"k = {hardest:g}"
            for axes, name in ((middle, metric), (right, "AP above chance (cut at 100%)")):
                axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
                axes.set_xlabel(f"relative change of {name}\nat {there}")
            left.text(-0.02, 1.22, label, transform=left.transAxes, fontsize=9, weight="bold")
            for axes, x in ((middle, analysis.final_impact), (right, excess)):
                _name_extremes(axes, x, y, analysis.metrics.classes, analysis.train_frequency)
        handles = [plt.Line2D([], [], marker="o", ls="", color=colour, label=name)
                   for name, colour in GROUP_COLOURS.items()]
        figure.legend(handles=handles, ncols=3, frameon=False, fontsize=8, loc="lower center",
                      bbox_to_anchor=(0.5, 1.0))
        figure.tight_layout()
        _save(figure, stem)


def _name_drops(axes, analysis: SeriesAnalysis, drops: NDArray) -> None:
    """Ticks at some levels, and at the place of classes that never drop."""
    levels, places = list(analysis.metrics.levels), list(severities(analysis.metrics.levels))
    never = drop_places([None], levels)[0]
    shown = [place for place, level in enumerate(levels)
             if places[place] >= np.nanmin(drops) - 1e-9]
    if len(shown) > 7:  # the last but one and every second before it, so that "never" has room
        shown = shown[-2::-2][::-1]
    names = [f"{levels[place]:.0%}" if _is_sparsity(analysis) else f"{levels[place]:g}"
             for place in shown]
    axes.set_xticks([*(places[place] for place in shown), never], [*names, "never"], fontsize=8)


def _name_extremes(axes, x, y, classes, frequency) -> None:
    """Name the most and least frequent class and the most and least hurt one."""
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return
    rows = np.flatnonzero(finite)
    named = {rows[np.argmax(frequency[rows])], rows[np.argmin(frequency[rows])],
             rows[np.argmax(x[rows])], rows[np.argmin(x[rows])]}
    middle = (np.nanmin(x) + np.nanmax(x)) / 2
    for c in named:
        right = x[c] > middle
        axes.annotate(classes[c], (x[c], y[c]), xytext=(-6 if right else 6, 4), fontsize=7,
                      textcoords="offset points", ha="right" if right else "left", color="#333")


def pair_correlations(stem: Path, analysis: SeriesAnalysis, label: str) -> None:
    """FCD of all class pairs against the difference of log frequencies and IoU^¼."""
    a, b = np.triu_indices(len(analysis.metrics.classes), 1)
    y = analysis.distance[a, b]
    source = "test images" if analysis.settings.paper_compat else "training images"
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, 2, figsize=(7.6, 3.3), sharey=True)
        for axes, x, name, text in (
                (grid[0], analysis.frequency_difference[a, b], "fcd_frequency",
                 f"difference of log frequencies ({source})"),
                (grid[1], analysis.overlap[a, b]**0.25, "fcd_overlap",
                 f"IoU$^{{1/4}}$ of the two findings ({source})")):
            axes.plot(x, y, "o", ms=3, color=BLUE, alpha=0.55, mew=0)
            _regression(axes, x, y)
            axes.set_xlabel(text)
            axes.set_title(_correlation_text(analysis.associations[name]), fontsize=8)
        grid[0].set_ylabel("forgettability curve\ndissimilarity (FCD)")
        pairs = int(np.isfinite(y).sum())
        figure.suptitle(f"{label}: {pairs} pairs of classes; intervals and P count classes",
                        fontsize=8, y=1.0)
        figure.tight_layout()
        _save(figure, stem)


def weight_magnitudes(
    stem: Path, histograms: Sequence[tuple[NDArray, NDArray]],
    sparsities: Sequence[float] = (0.5, 0.9),
) -> None:
    """|w| of all kernels before compression, a step line a seed, counts on a log axis.

    Args:
        stem: Path without suffix.
        histograms: Counts and edges of each seed.
        sparsities: Marked: the magnitude below which L1 pruning removes this share, of the first
            seed.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.6, 2.9))
        for counts, edges in histograms:
            axes.stairs(counts, edges, color=BLUE, alpha=max(0.15, 0.8 / len(histograms)), lw=1)
        counts, edges = histograms[0]
        share = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
        for height, sparsity in zip(np.linspace(0.99, 0.9, len(sparsities)), sparsities,
                                    strict=True):
            at = float(np.interp(sparsity, share, edges))
            axes.axvline(at, color=VERMILION, lw=0.9, ls="--")
            axes.text(at, height, f" {sparsity:.0%} of the weights are below", color=VERMILION,
                      fontsize=8, va="top", transform=axes.get_xaxis_transform())
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.set_xlabel("|w| of convolution and dense kernels")
        axes.set_ylabel("weights (log scale)")
        axes.set_title(f"{len(histograms)} seed{'s' * (len(histograms) > 1)}", fontsize=8)
        _save(figure, stem)


def prevalence_ratios(
    stem: Path, names: Sequence[str], ratios: Sequence[Estimate], label: str
) -> None:
    """Share among exemplars over the share among other images, with intervals and a line at 1.

    Args:
        stem: Path without suffix.
        names: Of the classes, or numbers of findings, from top to bottom.
        ratios: One each; undefined ones are said to be.
        label: What the names are, of the axis.
    """
    finite = [value for one in ratios for value in (one.value, one.low, one.high)
              if np.isfinite(value) and value > 0]
    least, most = min([0.5, *finite]) / 1.3, max([2.0, *finite]) * 1.3
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.2, 0.9 + 0.26 * len(names)))
        axes.axvline(1, color="black", lw=0.8, ls="--")
        for place, one in enumerate(ratios):
            if not np.isfinite(one.value):
                axes.text(1, place, " undefined", va="center", fontsize=7, color=GREY)
                continue
            colour = GREY
            if np.isfinite(one.low):
                colour = (VERMILION if one.low > 1 else BLUE if one.high < 1 else GREY)
                axes.plot([max(one.low, least), one.high], [place, place], color=colour, lw=1.4)
            if one.value > 0:
                axes.plot(one.value, place, "o", color=colour, ms=5)
            else:
                axes.plot(least, place, "<", color=colour, ms=5, clip_on=False)
        axes.set_yticks(range(len(names)), [
            f"{name} ({one.positives})" for name, one in zip(names, ratios, strict=True)])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xscale("log")
        axes.set_xlim(least, most)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(f"{label} (exemplars with it)")
        axes.set_xlabel("prevalence among exemplars / among other images, 95% interval\n"
                        "(log scale; triangle at the left edge: no exemplar has it)")
        _save(figure, stem)


def reader_summary(stem: Path, comparisons: Mapping[str, GroupComparison]) -> None:
    """Mean ± SD of each question's answers, exemplars beside controls.

    Args:
        stem: Path without suffix.
        comparisons: By question, raw answers.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(comparisons), squeeze=False,
                                    figsize=(0.6 + 2.1 * len(comparisons), 3.0))
        for axes, (question, found) in zip(grid[0], comparisons.items(), strict=True):
            for place, (mean, spread, count, colour, marker) in enumerate((
                    (found.exemplar_mean, found.exemplar_sd, found.exemplar_answers, VERMILION,
                     "o"),
                    (found.control_mean, found.control_sd, found.control_answers, BLUE, "s"))):
                axes.errorbar(place, mean, spread, color=colour, marker=marker, capsize=4, lw=1.4)
                axes.annotate(f"{mean:.2f}", (place, mean), xytext=(8, 0), fontsize=8,
                              textcoords="offset points", va="center")
                axes.text(place, 0.0, f"n = {count}", transform=axes.get_xaxis_transform(),
                          fontsize=7, ha="center", va="bottom", color=GREY)
            axes.set_xticks([0, 1], ["exemplars", "controls"])
            axes.set_xlim(-0.5, 1.7)
            axes.set_ylabel(f"{question}, mean ± SD")
            axes.set_title(f"difference {found.difference:+.2f}\n({found.low:+.2f} to "
                           f"{found.high:+.2f})\npermutation P = {found.p_permutation:.2g}",
                           fontsize=8)
        figure.tight_layout()
        _save(figure, stem)


def profile_agreements(
    stem: Path, first: str, second: str, profiles: Mapping[str, tuple[NDArray, NDArray]],
    agreements: Mapping[float, ProfileAgreement], classes: Sequence[str], group_of: Sequence[str],
    metric: str = "AP",
) -> None:
    """Do two kinds of compression hurt the same classes? A scatter, and ρ against the size.

    Args:
        stem: Path without suffix.
        first, second: Names of the series.
        profiles: One entry: the panel's title, and both series' changes `(c,)`.
        agreements: By bytes.
        classes: Names.
        group_of: "head", "medium" or "tail" of each class.
        metric: Whose changes they are.
    """
    (title, (x, y)), = profiles.items()
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.6))
        ends = [np.nanmin([x, y]) - 0.03, max(np.nanmax([x, y]) + 0.03, 0.03)]
        left.plot(ends, ends, color=GREY, lw=0.8, ls=":")
        for c in range(len(classes)):
            if np.isfinite(x[c]) and np.isfinite(y[c]):
                left.plot(x[c], y[c], "o", ms=5, color=GROUP_COLOURS.get(group_of[c], GREY))
        left.set_xlim(ends)
        left.set_ylim(ends)
        for axis in (left.xaxis, left.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        left.set_xlabel(f"{first}: relative change of {metric}")
        left.set_ylabel(f"{second}: relative change of {metric}")
        left.set_title(title, fontsize=8)
        left.legend(handles=[plt.Line2D([], [], marker="o", ls="", color=colour, label=name)
                             for name, colour in GROUP_COLOURS.items()], frameon=False,
                    fontsize=7, loc="upper left")
        sizes = np.array(sorted(agreements)) / 1e3
        ordered = [agreements[size] for size in sorted(agreements)]
        right.axhline(0, color="black", lw=0.6)
        spearman = [one.association.spearman for one in ordered]
        right.errorbar(sizes, [one.value for one in spearman],
                       [[one.value - one.low for one in spearman],
                        [one.high - one.value for one in spearman]],
                       color="black", marker="o", ms=5, capsize=3, lw=1,
                       label="ρ over classes, 95%")
        for name, values, colour, marker in (
                ("across, other seeds", [one.across for one in ordered], PURPLE, "D"),
                (f"within {first}, other seeds", [one.within_first for one in ordered], BLUE, "s"),
                (f"within {second}, other seeds", [one.within_second for one in ordered], ORANGE,
                 "^")):
            if not np.isnan(values).all():
                right.plot(sizes, values, color=colour, marker=marker, ms=4, lw=1, ls="--",
                           label=name)
        right.set_xscale("log")
        right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        right.xaxis.set_minor_formatter(NullFormatter())
        right.set_ylim(-1.05, 1.05)
        right.set_xlabel("size of both networks [kB, log scale]")
        right.set_ylabel("agreement of the classes' changes, ρ")
        right.legend(frameon=False, fontsize=7, ncols=2, loc="lower center",
                     bbox_to_anchor=(0.5, 1.0))
        figure.tight_layout()
        label_points(left, x, y, classes, fontsize=5.5)
        _save(figure, stem)
