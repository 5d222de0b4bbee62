"""What a search found: files' bytes against what the worst class misses.

`bytes_and_shortfall(stem, rows, …)` takes rows, returns nothing and writes `<stem>.png` and
`<stem>.svg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cxcompress.reporting.figures import BLUE, GREEN, GREY, STYLE, VERMILION, _save

LINEAR = 0.01
"""Differences from the margin up to this are drawn to scale, larger ones logarithmically."""


def bytes_and_shortfall(
    stem: Path, rows: Sequence[Mapping], margin: float, images: int, task: str
) -> None:
    """Every candidate: bytes against what its worst class leaves of the margin, the front joined.

    Args:
        stem: Path without suffix.
        rows: `file_bytes`, `shortfall`, `stage` (0: screened on few images), `best_epoch`,
            `undecidable`, `front`, `recommended`.
        margin: Non-inferiority margin.
        images: Validation images.
        task: As `Task.name`; says what the metric is.
    """
    kinds = (
        ("screened, on few images", GREY, "o", lambda row: not row["stage"]),
        ("not fine-tuned", BLUE, "o", lambda row: row["stage"] and not row["best_epoch"]),
        ("fine-tuned", VERMILION, "^", lambda row: row["stage"] and row["best_epoch"]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.6, 3.8))
        for label, colour, marker, wanted in kinds:
            some = [row for row in rows if wanted(row)]
            if some:
                axes.plot([row["file_bytes"] / 1000 for row in some],
                          [-row["shortfall"] for row in some], marker, color=colour,
                          markersize=4 if colour == GREY else 5, linestyle="none", label=label,
                          alpha=0.5 if colour == GREY else 0.9)
        front = sorted((row["file_bytes"] / 1000, -row["shortfall"]) for row in rows
                       if row["front"])
        if front:
            axes.plot(*zip(*front, strict=True), color=GREY, linewidth=1, zorder=0,
                      label="Pareto front")
        for row in rows:
            if row["recommended"]:
                axes.plot(row["file_bytes"] / 1000, -row["shortfall"], "o", markersize=12,
                          markerfacecolor="none", color=GREEN, markeredgewidth=1.8,
                          label="recommended")
        axes.axhline(0, color=GREY, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=LINEAR)
        axes.set_xlabel("compressed file [kB], execution plans included")
        metric = "F1" if task == "nuclei" else "AUROC or balanced accuracy"
        axes.set_ylabel(f"worst class: room left within the\nmargin of {margin:g} ({metric},\n"
                        "lower bound, widened for the choice)")
        decided = not any(row["undecidable"] for row in rows)
        said = ("non-inferior on {} validation images" if decided else
                "fit; {} images do not decide every class")
        axes.annotate(f"{said.format(images)} ↑", (0.99, 0), (0, 3),
                      xycoords=axes.get_yaxis_transform(), textcoords="offset points", ha="right",
                      fontsize=7, color=GREY)
        axes.margins(y=0.06)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(linewidth=0.4)
        handles, labels = axes.get_legend_handles_labels()
        first = np.unique(labels, return_index=True)[1]
        axes.legend([handles[i] for i in sorted(first)], [labels[i] for i in sorted(first)],
                    fontsize=7, loc="best")
        _save(figure, stem)
