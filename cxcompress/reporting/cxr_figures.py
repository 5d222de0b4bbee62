"""Figures of chest X-ray studies: ROC, precision–recall and calibration curves, classes, training.

Every function takes plain numbers, returns nothing and writes `<stem>.png` and `<stem>.svg`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cxcompress.reporting.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    STYLE,
    VERMILION,
    _save,
    plt,
)

COLUMNS = 5


def co_occurrence(stem: Path, classes: Sequence[str], together: NDArray) -> None:
    """Which classes occur together, as counts in a grid.

    Args:
        stem: Path without suffix.
        classes: Names.
        together: int `(c, c)`; the diagonal counts each class.
    """
    count = len(classes)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(2.2 + 0.36 * count, 1.8 + 0.3 * count))
        axes.imshow(np.log10(1 + together), cmap="Blues", aspect="auto")
        dark = np.log10(1 + together.max()) / 2
        for row in range(count):
            for column in range(count):
                number = int(together[row, column])
                if number:
                    axes.text(column, row, f"{number}", ha="center", va="center", fontsize=6,
                              color="white" if math.log10(1 + number) > dark else "black")
        axes.set_xticks(range(count), classes, rotation=90)
        axes.set_yticks(range(count), classes)
        axes.spines[:].set_visible(False)
        axes.set_title("images with both classes (shade: logarithm)", fontsize=9)
        _save(figure, stem)


def _panels(count: int):
    rows = math.ceil(count / COLUMNS)
    columns = min(count, COLUMNS)
    figure, grid = plt.subplots(rows, columns, figsize=(1.75 * columns + 0.5, 1.85 * rows + 0.7),
                                sharex=True, sharey=True, squeeze=False)
    for axes in grid.ravel()[count:]:
        axes.set_visible(False)
    return figure, grid


def _finished(figure, grid, count: int, x: str, y: str, stem: Path, handles=()) -> None:
    columns = grid.shape[1]
    for number, axes in enumerate(grid.ravel()[:count]):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xticklabels(("0", ".5", "1"))
        axes.set_yticklabels(("0", ".5", "1"))
        axes.tick_params(labelbottom=number + columns >= count, labelsize=7.5)
    figure.supxlabel(x, fontsize=9, y=0.02)
    figure.supylabel(y, fontsize=9, x=0.01)
    figure.tight_layout(rect=(0.01, 0.01, 1, 1))
    if handles:
        figure.legend(handles=handles, ncols=len(handles), loc="lower center",
                      bbox_to_anchor=(0.5, 0.99), frameon=False, fontsize=8)
    _save(figure, stem)


def roc_curves(stem: Path, curves: Sequence[Mapping]) -> None:
    """ROC curves, a panel a class, with the AUROC's interval and the chosen threshold's point.

    Args:
        stem: Path without suffix.
        curves: Mappings with `name`, `positives`, `value`, `low`, `high` (of the AUROC, NaN =
            undefined), `false_positive_rate` and `true_positive_rate` (arrays), and `point`:
            (1 − specificity, sensitivity) at the threshold, or None.
    """
    with plt.rc_context(STYLE):
        figure, grid = _panels(len(curves))
        for axes, curve in zip(grid.ravel(), curves, strict=False):
            axes.plot((0, 1), (0, 1), color=GREY, lw=0.6, ls=":")
            axes.set_title(f"{curve['name']}\n{curve['positives']} positive", fontsize=7.5)
            if not math.isfinite(curve["value"]):
                axes.text(0.5, 0.5, "undefined", ha="center", fontsize=8, color=VERMILION)
                continue
            axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=BLUE, lw=1.2)
            if curve["point"] is not None:
                axes.plot(*curve["point"], "o", color=VERMILION, ms=4)
            axes.text(0.98, 0.03, _interval(curve), ha="right", fontsize=7)
        handles = [plt.Line2D([], [], color=BLUE, label="ROC; AUROC (95% interval) in the corner"),
                   plt.Line2D([], [], color=VERMILION, marker="o", ls="", ms=4,
                              label="threshold chosen on validation")]
        _finished(figure, grid, len(curves), "1 − specificity", "sensitivity", stem, handles)


def precision_recall_curves(stem: Path, curves: Sequence[Mapping]) -> None:
    """Precision–recall curves, a panel a class; the dotted line is prevalence, which is chance.

    Args:
        stem: Path without suffix.
        curves: Mappings with `name`, `positives`, `prevalence`, `value`, `low`, `high` (of average
            precision), `recall` and `precision` (arrays).
    """
    with plt.rc_context(STYLE):
        figure, grid = _panels(len(curves))
        for axes, curve in zip(grid.ravel(), curves, strict=False):
            axes.set_title(f"{curve['name']}\n{curve['positives']} positive", fontsize=7.5)
            if not math.isfinite(curve["value"]):
                axes.text(0.5, 0.5, "undefined", ha="center", fontsize=8, color=VERMILION)
                continue
            axes.axhline(curve["prevalence"], color=GREY, lw=0.6, ls=":")
            axes.step(curve["recall"], curve["precision"], where="post", color=BLUE, lw=1.2)
            axes.text(0.98, 0.88, _interval(curve), ha="right", fontsize=7)
        handles = [plt.Line2D([], [], color=BLUE, label="average precision (95% interval) in the "
                              "corner"),
                   plt.Line2D([], [], color=GREY, ls=":", lw=0.8, label="prevalence (chance)")]
        _finished(figure, grid, len(curves), "recall (sensitivity)",
                  "precision (positive predictive value)", stem, handles)


def calibration_curves(stem: Path, curves: Sequence[Mapping]) -> None:
    """Observed frequency against predicted probability, a panel a class, before and after scaling.

    Args:
        stem: Path without suffix.
        curves: Mappings with `name`, `calibration_error` and `bins`: mappings of `predicted`,
            `observed`, `low`, `high`, `count`; and, where a temperature was fitted,
            `scaled_error` and `scaled_bins`.
    """
    with plt.rc_context(STYLE):
        figure, grid = _panels(len(curves))
        for axes, curve in zip(grid.ravel(), curves, strict=False):
            axes.plot((0, 1), (0, 1), color=GREY, lw=0.6, ls=":")
            kinds = [("bins", BLUE, "o", curve["calibration_error"])]
            if "scaled_bins" in curve:
                kinds.append(("scaled_bins", ORANGE, "s", curve["scaled_error"]))
            for place, (key, colour, marker, error) in enumerate(kinds):
                bins = curve[key]
                x, y, low, high = (np.array([entry[what] for entry in bins], float)
                                   for what in ("predicted", "observed", "low", "high"))
                # Intervals of the scaled bins are much the same: drawn once, to be seen.
                axes.errorbar(x, y, None if place else (y - low, high - y), color=colour,
                              marker=marker, ms=3, lw=1, elinewidth=0.6,
                              mfc="none" if place else colour)
                axes.text(0.03, 0.9 - 0.13 * place, f"ECE {error:.3f}", color=colour, fontsize=7)
            axes.set_title(curve["name"], fontsize=7.5)
        handles = [plt.Line2D([], [], color=BLUE, marker="o", ms=3, label="as predicted"),
                   plt.Line2D([], [], color=ORANGE, marker="s", ms=3, mfc="none",
                              label="after temperature scaling")]
        some_scaled = any("scaled_bins" in curve for curve in curves)
        _finished(figure, grid, len(curves), "predicted probability (mean of the bin)",
                  "observed frequency (95% interval)", stem, handles if some_scaled else ())


def _interval(curve: Mapping) -> str:
    if not math.isfinite(curve["low"]):
        return f"{curve['value']:.2f} (–)"
    return f"{curve['value']:.2f} ({curve['low']:.2f}–{curve['high']:.2f})"


def class_intervals(stem: Path, rows: Sequence[Mapping], metric: str = "AUROC",
                    chance: float | None = 0.5) -> None:
    """A metric of every class with its interval, one or several treatments side by side.

    Args:
        stem: Path without suffix.
        rows: Mappings with `class`, `treatment`, `value`, `low`, `high`; classes and treatments
            are drawn in the order in which they first come, undefined values not at all.
        metric: Its name.
        chance: A dotted line there; None draws none.
    """
    classes = list(dict.fromkeys(row["class"] for row in rows))
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    colours = (BLUE, ORANGE, GREEN, VERMILION, GREY)
    markers = "osD^v"
    step = 0.75 / len(treatments)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            figsize=(5.6, 0.8 + len(classes) * (0.16 + 0.11 * len(treatments))))
        if chance is not None:
            axes.axvline(chance, color=GREY, lw=0.8, ls=":")
        for row in rows:
            if row["value"] is None or not math.isfinite(row["value"]):
                continue
            number = treatments.index(row["treatment"])
            y = classes.index(row["class"]) + step * (number - (len(treatments) - 1) / 2)
            low, high = (row["value"] if row[end] is None or not math.isfinite(row[end])
                         else row[end] for end in ("low", "high"))
            axes.plot((low, high), (y, y), color=colours[number % 5], lw=1.4)
            axes.plot(row["value"], y, markers[number % 5], color=colours[number % 5], ms=4)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.set_xlabel(f"{metric} (95% interval)")
        if len(treatments) > 1:
            axes.legend(handles=[plt.Line2D([], [], color=colours[number % 5],
                                            marker=markers[number % 5], ms=4, lw=1.4, label=name)
                                 for number, name in enumerate(treatments)],
                        frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1.0),
                        ncols=2)
        _save(figure, stem)


def training_curves(stem: Path, history: Mapping[str, Sequence[float]], best_epoch: int) -> None:
    """Loss, and macro average precision where it was watched, after each epoch.

    Args:
        stem: Path without suffix.
        history: `loss` and `val_loss`, perhaps `val_macro_ap`: one number an epoch.
        best_epoch: The epoch that was kept, from 0.
    """
    watched = "val_macro_ap" in history
    epochs = np.arange(1, 1 + len(history["val_loss"]))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, 1 + watched, figsize=(3.6 + 3.2 * watched, 2.6),
                                    squeeze=False)
        axes = grid[0, 0]
        axes.plot(epochs, history["loss"], "s--", color=ORANGE, ms=3, lw=1, label="training")
        axes.plot(epochs, history["val_loss"], "o-", color=BLUE, ms=3, lw=1, label="validation")
        axes.axvline(best_epoch + 1, color=VERMILION, lw=0.8, ls=":", label="kept")
        axes.set(xlabel="epoch", ylabel="loss [nats]")
        axes.legend(frameon=False, fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if watched:
            other = grid[0, 1]
            other.plot(epochs, history["val_macro_ap"], "o-", color=BLUE, ms=3, lw=1)
            other.axvline(best_epoch + 1, color=VERMILION, lw=0.8, ls=":")
            other.set(xlabel="epoch", ylabel="average precision, macro, validation")
            other.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.tight_layout()
        _save(figure, stem)
