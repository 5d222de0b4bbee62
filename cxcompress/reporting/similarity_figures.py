"""Maps of similarity between layers, and pictures of filters and feature maps.

Every function takes arrays, returns nothing and writes `<stem>.png` and `<stem>.svg`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from cxcompress.reporting.figures import STYLE, _save

MOST_NAMES = 40
"""Layers up to which every one is named on an axis."""
MOST_PICTURES = 64


def similarity_map(
    stem: Path, values: NDArray, layers: tuple[Sequence[str], Sequence[str]],
    names: tuple[str, str], images: int,
) -> None:
    """CKA of every layer with every other, on one fixed scale from 0 to 1.

    Args:
        stem: Path without suffix.
        values: `(layers of the first model, layers of the second)`.
        layers: Their names, from the input on.
        names: Of the two models; the first one's layers are the rows.
        images: That the values rest on.
    """
    rows, columns = values.shape
    side = 0.16 if max(rows, columns) <= MOST_NAMES else 5.5 / max(rows, columns)
    with plt.rc_context(STYLE | {"axes.spines.top": True, "axes.spines.right": True}):
        figure, axes = plt.subplots(figsize=(2.2 + side * columns, 1.4 + side * rows))
        # cividis: as readable without red-green vision as with it, and in grey.
        picture = axes.imshow(values, vmin=0, vmax=1, cmap="cividis", origin="lower",
                              interpolation="nearest", aspect="equal")
        for axis, found, name, turn in ((axes.yaxis, layers[0], names[0], 0),
                                        (axes.xaxis, layers[1], names[1], 90)):
            step = math.ceil(len(found) / MOST_NAMES)
            places = range(0, len(found), step)
            axis.set_ticks(places, [found[place] for place in places], rotation=turn, fontsize=6)
            axis.set_label_text(f"{name}: layer, input first"
                                + (f" (every {step}th named)" if step > 1 else ""))
        figure.colorbar(picture, ax=axes, label="CKA (0 unrelated, 1 the same)", shrink=0.8)
        axes.set_title(f"{images:,} images", fontsize=8)
        _save(figure, stem)


def pictures(stem: Path, images: NDArray, title: str, signed: bool) -> None:
    """A grid of small pictures: filters or feature maps.

    Args:
        stem: Path without suffix.
        images: `(n, height, width)`; the first `MOST_PICTURES` are shown.
        title: What they are.
        signed: Whether 0 is the middle of the scale (filters) or its end.
    """
    shown = images[:MOST_PICTURES]
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    reach = float(np.abs(shown).max()) or 1.0
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(rows, columns, figsize=(1.2 + 0.6 * columns, 0.7 + 0.6 * rows),
                                    squeeze=False)
        for axes in grid.ravel():
            axes.axis("off")
        for number, (axes, one) in enumerate(zip(grid.ravel(), shown, strict=False)):
            picture = axes.imshow(one, cmap="PuOr" if signed else "cividis",
                                  vmin=-reach if signed else min(float(shown.min()), 0.0),
                                  vmax=reach, interpolation="nearest")
            axes.set_title(number, fontsize=5, pad=1)
        figure.colorbar(picture, ax=grid, label="weight" if signed else "activation", shrink=0.8)
        more = "" if len(images) <= MOST_PICTURES else f", first {MOST_PICTURES} of {len(images)}"
        figure.suptitle(title + more, fontsize=8)
        _save(figure, stem)
