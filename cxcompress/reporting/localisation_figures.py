"""Where networks look: a gallery of maps over findings, and how often they fall on them.

Every function takes arrays, returns nothing and writes `<stem>.png` and `<stem>.svg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from cxcompress.reporting.figures import BLUE, GREY, STYLE, _save

PANELS = {"pointing_game": "hottest pixel on the finding", "iou": "overlap of the hottest pixels\n"
          "with the finding (IoU)", "energy": "share of the map on the finding"}


def gallery(stem: Path, examples: Sequence[Mapping]) -> None:
    """A row a finding: the image with the finding outlined, and every network's map over it.

    Args:
        stem: Path without suffix.
        examples: With `image` `(h, w)` or `(h, w, c)`, `mask` bool `(size, size)`, `finding`, and
            by network `maps` `(size, size)` and `scores` (probabilities).
    """
    names = list(examples[0]["maps"])
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(examples), 1 + len(names), squeeze=False,
                                    figsize=(1.9 * (1 + len(names)), 2.3 * len(examples)))
        for line, example in zip(grid, examples, strict=True):
            height, width = example["image"].shape[:2]
            extent = (0, width, height, 0)
            size = example["mask"].shape[0]
            x = (np.arange(size) + 0.5) * width / size
            y = (np.arange(size) + 0.5) * height / size
            for axes, name in zip(line, ["", *names], strict=True):
                axes.imshow(example["image"], cmap="gray", extent=extent)
                axes.contour(x, y, example["mask"], [0.5], colors="#56B4E9", linewidths=1.0)
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_visible(False)
                if not name:
                    axes.set_title(example["finding"], fontsize=8)
                    continue
                hot = example["maps"][name]
                peak = float(hot.max()) or 1.0
                axes.imshow(hot / peak, cmap="inferno", vmin=0, vmax=1, extent=extent,
                            alpha=np.clip(0.75 * hot / peak, 0, 1))
                row, column = np.unravel_index(hot.argmax(), hot.shape)
                if hot.max() > 0:
                    axes.plot(x[column], y[row], "+", color="white", markersize=7,
                              markeredgewidth=1.2)
                axes.set_title(f"{name}\np = {example['scores'][name]:.2f}", fontsize=7)
        figure.text(0.01, -0.005, "blue outline: where the finding is; bright: where the network "
                    "sees it (Grad-CAM), + its hottest pixel; p: probability given", va="top",
                    fontsize=7, color=GREY)
        figure.tight_layout(pad=0.4, h_pad=1.4)
        _save(figure, stem)


def metric_by_model(stem: Path, rows: Sequence[Mapping], names: Sequence[str]) -> None:
    """Three measures of localisation a network, with 95% intervals, and what chance would reach.

    Args:
        stem: Path without suffix.
        rows: Of all findings together: `model`, `metric`, `value`, `low`, `high`.
        names: The networks, from above.
    """
    by = {(row["model"], row["metric"]): row for row in rows}
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(PANELS), sharey=True,
                                      figsize=(8.2, 0.9 + 0.34 * len(names)))
        places = np.arange(len(names))[::-1]
        for axes, (metric, title) in zip(panels, PANELS.items(), strict=True):
            found = [by[name, metric] for name in names]
            values = np.array([row["value"] for row in found])
            ends = np.abs(np.array([[row["low"], row["high"]] for row in found]).T - values)
            axes.errorbar(values, places, xerr=ends, fmt="o", color=BLUE, markersize=4, capsize=2)
            if metric != "iou":
                axes.axvline(by[names[0], "chance"]["value"], color=GREY, linestyle="--",
                             linewidth=1)
            axes.set_xlabel(title)
            axes.set_xlim(left=0)
            axes.grid(axis="x", linewidth=0.4)
        panels[0].set_yticks(places, names)
        panels[0].set_ylim(-0.6, len(names) - 0.4)
        figure.text(0.99, -0.02, "dashed: chance; bars: 95% intervals by patient", ha="right",
                    va="top", fontsize=7, color=GREY)
        figure.tight_layout()
        _save(figure, stem)
