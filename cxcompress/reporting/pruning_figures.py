"""Figures of pruning: what each strategy costs at each sparsity.

Every function takes plain numbers, returns nothing and writes `<stem>.png` and `<stem>.svg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from cxcompress.reporting.figures import BLUE, GREEN, ORANGE, PURPLE, STYLE, _save

LABELS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
          "auroc_macro": "AUROC, macro"}
FORMS = {"oneshot": (BLUE, "o", "one-shot"), "iterative": (ORANGE, "s", "iterative"),
         "layerwise": (GREEN, "^", "layerwise")}


def accuracy_and_sparsity(
    stem: Path, rows: Sequence[Mapping], dense: Sequence[Mapping], metrics: Sequence[str],
    unit: str = "weights",
) -> None:
    """Metrics against sparsity, a line a strategy, with the dense networks' mean dotted.

    Args:
        stem: Path without suffix.
        rows: Means over runs: mappings with `strategy`, `sparsity`, `runs`, `n`, and for each
            metric `<metric>`, `<metric>_low` and `<metric>_high` (95% interval of the images).
        dense: The dense networks' numbers under the same names.
        metrics: Which to draw, a column each.
        unit: What was pruned: `"weights"` or `"filters"`.
    """
    levels = sorted({row["sparsity"] for row in rows})
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(metrics), figsize=(0.8 + 2.9 * len(metrics), 2.9),
                                    squeeze=False)
        for axes, metric in zip(grid[0], metrics, strict=True):
            whole, low, high = (sum(row[metric + end] for row in dense) / len(dense)
                                for end in ("", "_low", "_high"))
            axes.axhspan(low, high, color="black", alpha=0.07, lw=0)
            axes.axhline(whole, color="black", lw=0.8, ls=":", label="dense, with its interval")
            for shift, name in enumerate(dict.fromkeys(row["strategy"] for row in rows)):
                colour, marker, label = FORMS.get(name, (PURPLE, "v", name))
                chosen = sorted((row for row in rows if row["strategy"] == name),
                                key=lambda row: row["sparsity"])
                # Beside each other, so that intervals of equal values can be told apart.
                places = [levels.index(row["sparsity"]) + 0.12 * (shift - 1) for row in chosen]
                axes.vlines(places, [row[f"{metric}_low"] for row in chosen],
                            [row[f"{metric}_high"] for row in chosen], color=colour, lw=1)
                axes.plot(places, [row[metric] for row in chosen], marker=marker, color=colour,
                          ms=4, lw=1.2, label=label)
            axes.set_xticks(range(len(levels)), [f"{100 * level:g}" for level in levels])
            axes.set_xlabel(f"pruned [% of {unit}]")
            axes.set_ylabel(LABELS.get(metric, metric))
        handles, captions = grid[0][0].get_legend_handles_labels()
        figure.tight_layout()
        figure.legend(handles, captions, ncols=4, loc="lower center", frameon=False,
                      bbox_to_anchor=(0.5, 1.0))
        _save(figure, stem)
