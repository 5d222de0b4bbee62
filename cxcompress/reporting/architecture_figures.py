"""Networks compared: AUROC against size and ImageNet accuracy, what pretraining and truncation do.

Every function takes the rows of `architecture_study.py`'s tables, returns nothing and writes
`<stem>.png` and `<stem>.svg`. Axes follow Ke et al. (2021), figures 2 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

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

FAMILIES = {"DenseNet": (BLUE, "o"), "EfficientNet": (ORANGE, "s"), "Inception": (GREEN, "D"),
            "MNASNet": (PURPLE, "^"), "MobileNet": (SKY, "v"), "ResNet": (VERMILION, "P")}
OTHER = (GREY, "X")
AXES = {"parameters": "parameters [million]", "imagenet_top1": "ImageNet top-1 accuracy [%]"}
STARTS = {"random": "from random weights", "pretrained": "pretrained"}


def auroc_by(
    stem: Path, networks: Sequence[Mapping], correlations: Sequence[Mapping], x: str
) -> None:
    """AUROC of whole networks against their size or ImageNet accuracy, a panel a start.

    Args:
        stem: Path without suffix.
        networks: `network`, `family`, `start`, `dropped`, `auroc`, `low`, `high` and x.
        correlations: `start`, `of`, `with`, `rho`, `low`, `high`, `p`.
        x: `"parameters"` or `"imagenet_top1"`.
    """
    starts = [start for start in STARTS if any(row["start"] == start for row in networks)]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(starts), sharey=True, squeeze=False,
                                      figsize=(0.8 + 3.6 * len(starts), 3.2))
        shown = [[row for row in networks if row["start"] == start and not row["dropped"]
                  and np.isfinite(row[x])] for start in starts]
        for axes, start, rows in zip(panels[0], starts, shown, strict=True):
            _points(axes, rows, x)
            found = _said(correlations, start, "auroc", x)
            axes.set_title(f"{STARTS[start]}{found}", fontsize=8)
        panels[0, 0].set_ylabel("AUROC on test, macro (95% intervals)")
        figure.tight_layout()
        for axes, rows in zip(panels[0], shown, strict=True):
            _name_points(axes, rows, x)
        _save(figure, stem)


def pretraining_gain(
    stem: Path, gains: Sequence[Mapping], correlations: Sequence[Mapping]
) -> None:
    """AUROC of the pretrained minus that of the randomly started network, against size.

    Args:
        stem: Path without suffix.
        gains: `network`, `family`, `dropped`, `parameters`, `auroc`, `low`, `high`.
        correlations: As for `auroc_by`.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 3.2))
        axes.axhline(0, color=GREY, linewidth=1)
        whole = [row for row in gains if not row["dropped"]]
        _points(axes, whole, "parameters")
        axes.set_ylabel("AUROC, pretrained − random\n(95% intervals, paired)")
        axes.set_title("gain by pretraining"
                       + _said(correlations, "pretrained", "pretraining gain", "parameters"),
                       fontsize=8)
        figure.tight_layout()
        _name_points(axes, whole, "parameters")
        _save(figure, stem)


def truncation(stem: Path, networks: Sequence[Mapping], cuts: Sequence[Mapping]) -> None:
    """Whole and truncated networks: AUROC against size, and paired differences.

    Args:
        stem: Path without suffix.
        networks: As for `auroc_by`.
        cuts: `network`, `family`, `start`, `dropped`, `parameters`, `parameters_before`, `auroc`,
            `low`, `high`.
    """
    starts = [start for start in STARTS if any(row["start"] == start for row in cuts)]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, 2, figsize=(8.2, max(3.2, 1.2 + 0.26 * len(cuts))),
            gridspec_kw={"width_ratios": (1.15, 1)})
        axes, named = panels[0], []
        for network in dict.fromkeys(row["network"] for row in networks):
            for start in starts:
                rows = sorted((row for row in networks
                               if (row["network"], row["start"]) == (network, start)),
                              key=lambda row: row["dropped"])
                if len(rows) < 2:
                    continue
                colour, marker = FAMILIES.get(rows[0]["family"], OTHER)
                x, y = ([row[key] / scale for row in rows]
                        for key, scale in (("parameters", 1e6), ("auroc", 1)))
                axes.plot(x, y, color=colour, linewidth=1.2,
                          linestyle="-" if start == "random" else ":")
                axes.plot(x[:1], y[:1], marker, color=colour, markersize=6)
                axes.plot(x[1:], y[1:], marker, color=colour, markersize=6,
                          markerfacecolor="white")
                if start == starts[0]:
                    named.append((network, x[0], y[0]))
        _log_axis(axes)
        axes.set_ylabel("AUROC on test, macro")
        axes.set_title("filled: whole; open: last blocks dropped"
                       + ("; dotted: pretrained" if len(starts) > 1 else ""), fontsize=8)
        axes = panels[1]
        places = np.arange(len(cuts))[::-1]
        for place, row in zip(places, cuts, strict=True):
            colour, marker = FAMILIES.get(row["family"], OTHER)
            axes.errorbar(row["auroc"], place, xerr=_ends([row]), fmt=marker, color=colour,
                          markersize=5, capsize=2,
                          markerfacecolor="white")
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_yticks(places, [
            f"{row['network']} −{row['dropped']}, "
            f"{row['parameters_before'] / row['parameters']:.1f}× fewer"
            + (f", {row['start']}" if len(starts) > 1 else "") for row in cuts], fontsize=7)
        axes.set_ylim(-0.6, len(cuts) - 0.4)
        axes.set_xlabel("AUROC, truncated − whole (95% intervals, paired)")
        axes.grid(axis="x", linewidth=0.4)
        figure.tight_layout()
        if named:
            names, x, y = zip(*named, strict=True)
            label_points(panels[0], x, y, names, fontsize=6.5)
        _save(figure, stem)


def _points(axes, rows: Sequence[Mapping], x: str) -> None:
    scale = 1e6 if x == "parameters" else 1.0
    for row in rows:
        colour, marker = FAMILIES.get(row["family"], OTHER)
        axes.errorbar(row[x] / scale, row["auroc"], yerr=_ends([row]), fmt=marker, color=colour,
                      markersize=6, capsize=2, elinewidth=0.8)
    if x == "parameters":
        _log_axis(axes)
    else:
        axes.set_xlabel(AXES[x])
    axes.margins(x=0.15)
    axes.grid(linewidth=0.4)


def _name_points(axes, rows: Sequence[Mapping], x: str) -> None:
    scale = 1e6 if x == "parameters" else 1.0
    label_points(axes, [row[x] / scale for row in rows], [row["auroc"] for row in rows],
                 [row["network"] for row in rows], fontsize=6.5)


def _log_axis(axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(AXES["parameters"])
    axes.grid(linewidth=0.4)


def _ends(rows: Sequence[Mapping]) -> np.ndarray:
    values = np.array([row["auroc"] for row in rows])
    return np.abs(np.array([[row["low"], row["high"]] for row in rows]).T - values)


def _said(correlations: Sequence[Mapping], start: str, of: str, other: str) -> str:
    for row in correlations:
        if (row["start"], row["of"], row["with"]) == (start, of, other) and np.isfinite(row["rho"]):
            return (f"\nSpearman's ρ {row['rho']:.2f} ({row['low']:.2f} to {row['high']:.2f}), "
                    f"P = {row['p']:.2g}, {row['networks']} networks")
    return ""
