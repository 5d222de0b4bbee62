"""Truncated against whole networks: differences by class, and accuracy against size and latency.

Every function takes rows, returns nothing and writes `<stem>.png` and `<stem>.svg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from cxcompress.reporting.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, VERMILION, _save

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
MARKERS = ("o", "s", "^", "D", "v")


def differences(stem: Path, by_dropped: Mapping[int, Mapping[str, Mapping]]) -> None:
    """AUROC minus the whole network's, by class, with paired 95% intervals.

    Args:
        stem: Path without suffix.
        by_dropped: By number of dropped blocks and `auroc_macro` or `auroc:<class>`: `value`,
            `low`, `high`.
    """
    keys = list(next(iter(by_dropped.values())))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            figsize=(5.6, 0.9 + (0.16 + 0.14 * len(by_dropped)) * len(keys)))
        places = np.arange(len(keys))[::-1].astype(float)
        offsets = np.linspace(0.25, -0.25, len(by_dropped)) if len(by_dropped) > 1 else [0.0]
        for (dropped, found), offset, colour, marker in zip(
                by_dropped.items(), offsets, COLOURS, MARKERS, strict=False):
            values, low, high = (np.array([np.nan if found[key][end] is None else found[key][end]
                                           for key in keys], float)
                                 for end in ("value", "low", "high"))
            axes.errorbar(values, places + offset, xerr=np.abs(np.stack((low, high)) - values),
                          fmt=marker, color=colour, markersize=4, capsize=2,
                          label=f"{dropped} block{'s' if dropped > 1 else ''} dropped")
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_yticks(places, ["macro" if key == "auroc_macro" else key.partition(":")[2]
                                 for key in keys])
        axes.set_ylim(-0.6, len(keys) - 0.4)
        axes.set_xlabel("AUROC, truncated − whole (right: truncated better; 95% intervals, paired)")
        axes.grid(axis="x", linewidth=0.4)
        axes.legend(fontsize=7, loc="best")
        _save(figure, stem)


def size_and_latency(stem: Path, rows: Sequence[Mapping]) -> None:
    """AUROC against file bytes and against one image's time, fronts joined.

    Args:
        stem: Path without suffix.
        rows: `dropped`, `compression`, `auroc_macro` with `_low` and `_high`, `bytes`,
            `seconds_<plan>` and `front_bytes`, `front_<plan>`.
    """
    costs = {"bytes": ("bytes", 1e-3, "file [kB]")}
    for plan in ("float32", "static_int8"):
        if any(row.get(f"seconds_{plan}") for row in rows):
            costs[plan] = (f"seconds_{plan}", 1e3, f"one image, {plan} [ms]")
    sizes = list(dict.fromkeys(row["dropped"] for row in rows))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(costs), sharey=True, squeeze=False,
                                      figsize=(3.3 * len(costs), 3.2))
        for axes, (name, (key, factor, label)) in zip(panels[0], costs.items(), strict=True):
            front = sorted((row[key] * factor, row["auroc_macro"]) for row in rows
                           if row[f"front_{name}"])
            axes.plot(*zip(*front, strict=True), color=GREY, linewidth=1, zorder=0)
            for dropped, colour, marker in zip(sizes, COLOURS, MARKERS, strict=False):
                some = [row for row in rows if row["dropped"] == dropped and row[key]]
                x = [row[key] * factor for row in some]
                y = np.array([row["auroc_macro"] for row in some])
                ends = np.abs(np.array([[row["auroc_macro_low"], row["auroc_macro_high"]]
                                        for row in some]).T - y) if some else None
                axes.errorbar(x, y, yerr=ends, fmt=marker, color=colour, markersize=5, capsize=2,
                              elinewidth=0.7,
                              label="whole" if not dropped else f"{dropped} dropped")
                if name == "bytes":
                    for number, at in enumerate(np.argsort(x)):
                        axes.annotate(some[at]["compression"], (x[at], y[at]),
                                      (4, -8 if number % 2 else 3),
                                      textcoords="offset points", fontsize=6)
            axes.set_xlabel(label)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(linewidth=0.4)
        panels[0, 0].set_ylabel("AUROC on test, macro (95% intervals)")
        panels[0, 0].legend(fontsize=7, title="blocks", title_fontsize=7, loc="best")
        figure.text(0.99, -0.01, "grey line: nothing is smaller (faster) and better", ha="right",
                    va="top", fontsize=7, color=GREY)
        figure.tight_layout()
        _save(figure, stem)
