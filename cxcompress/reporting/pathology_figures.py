"""Figures of patients' indices: Bland–Altman, confusion of cut-off classes, models side by side.

Every function writes `<stem>.png` and `<stem>.svg`, in the colours of `figures.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.pathology import ENOUGH_NUCLEI, PatientIndices
from cxcompress.reporting.figures import BLUE, GREEN, GREY, ORANGE, STYLE, VERMILION, _save

TITLES = {"ki67_index": "Ki-67 index", "til_fraction": "TIL fraction"}
CLASS_COLOURS = (VERMILION, BLUE, GREEN, ORANGE)


def bland_altman(
    stem: Path, patients: PatientIndices, estimates: Mapping[str, Estimate], index: str,
    title: str,
) -> None:
    """Found − annotated against their mean, a dot a patient; bias and limits of agreement.

    Args:
        stem: Path without suffix.
        patients: Indices.
        estimates: Of `evaluate_patients`; the shaded bands are their 95% intervals.
        index: A key of `TITLES`.
        title: Of the figure.
    """
    found, annotated, known = patients.pairs(index)
    difference, middle = 100 * (found - annotated)[known], 50 * (found + annotated)[known]
    few = patients.annotated_tumour[known] < ENOUGH_NUCLEI
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 3.4))
        for key, label, colour in (("bias", "mean difference", BLUE),
                                   ("limit_low", "limits of agreement", ORANGE),
                                   ("limit_high", None, ORANGE)):
            estimate = estimates[f"{index}_{key}"]
            axes.axhline(100 * estimate.value, color=colour, label=label)
            if np.isfinite(estimate.low):
                axes.axhspan(100 * estimate.low, 100 * estimate.high, color=colour, alpha=0.15,
                             linewidth=0)
        axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
        for chosen, marker, label in (
                (~few, "o", f"patient, {ENOUGH_NUCLEI} tumour nuclei or more"),
                (few, "^", f"patient, fewer than {ENOUGH_NUCLEI}")):
            if chosen.any():
                axes.plot(middle[chosen], difference[chosen], marker, color="black", markersize=4,
                          markerfacecolor="none" if marker == "^" else "black", label=label)
        axes.set_xlabel(f"{TITLES[index]}, mean of annotated and found [%]")
        axes.set_ylabel("found − annotated [percentage points]")
        axes.set_title(f"{title}, n = {int(known.sum())} patients", fontsize=9)
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18),
                    ncols=2)
        _save(figure, stem)


def confusion(
    stem: Path, table: NDArray[np.int64], labels: Sequence[str], index: str, title: str
) -> None:
    """Patients by annotated and found class of the cut-offs.

    Args:
        stem: Path without suffix.
        table: int `(c, c)`: annotated (rows) by found.
        labels: Of the classes, lowest first.
        index: A key of `TITLES`.
        title: Of the figure.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(3.4, 3.2))
        axes.imshow(table, cmap="Blues", vmin=0, vmax=max(1, table.max()))
        for row, column in np.ndindex(table.shape):
            axes.text(column, row, str(table[row, column]), ha="center", va="center",
                      color="white" if table[row, column] > 0.6 * table.max() else "black")
        ticks = range(len(labels))
        axes.set_xticks(ticks, labels, fontsize=8)
        axes.set_yticks(ticks, labels, fontsize=8)
        axes.set_xlabel(f"found {TITLES[index]}")
        axes.set_ylabel(f"annotated {TITLES[index]}")
        axes.set_title(f"{title}, patients", fontsize=9)
        _save(figure, stem)


def models(stem: Path, rows: Sequence[Mapping], classes: Sequence[str], title: str) -> None:
    """F1 of each cell class and RMSE of the Ki-67 index, a row a model, with 95% intervals.

    Args:
        stem: Path without suffix.
        rows: Mappings with `model` and, by key, an `Estimate`'s `value`, `low`, `high` of
            `f1:<class>` and `ki67_index_rmse`.
        classes: Cell classes.
        title: Of the figure.
    """
    places = np.arange(len(rows))[::-1]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(8.2, 1.3 + 0.42 * len(rows)), sharey=True, width_ratios=(2, 1),
            layout="constrained")
        for number, name in enumerate(classes):
            shift = 0.2 * (number - (len(classes) - 1) / 2)
            _intervals(left, [row[f"f1:{name}"] for row in rows], places - shift,
                       CLASS_COLOURS[number % len(CLASS_COLOURS)], name)
        _intervals(right, [row["ki67_index_rmse"] for row in rows], places, "black", None)
        left.set_yticks(places, [row["model"] for row in rows], fontsize=8)
        left.set_xlabel("F1 of cells (one-to-one)")
        right.set_xlabel("RMSE of patients' Ki-67 index")
        right.set_xlim(left=0)
        figure.suptitle(title, fontsize=9)
        figure.legend(frameon=False, fontsize=7, loc="outside lower center", ncols=len(classes))
        _save(figure, stem)


def _intervals(axes, estimates: Sequence[Mapping], places: NDArray, colour: str,
               label: str | None) -> None:
    values = np.array([_number(one["value"]) for one in estimates])
    low, high = (np.array([_number(one[side]) for one in estimates]) for side in ("low", "high"))
    reach = np.nan_to_num(np.stack([values - low, high - values])).clip(min=0)
    axes.errorbar(values, places, xerr=reach, fmt="o", color=colour, markersize=4, capsize=2,
                  linewidth=1, label=label)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
