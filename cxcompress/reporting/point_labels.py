"""Names beside the points of a scatter plot, none over another one or over a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

RINGS = (5, 10, 16, 24, 33, 43, 54, 66, 80)
"""Distances from its point, in points of 1/72 inch, at which a name may stand."""
ANGLES = np.deg2rad(np.arange(0, 360, 22.5) + 22.5)
_POINT = 4.0
"""Half of a marker's side, in points."""
_LINE_BOXES = 12
_BESIDE = RINGS[0]
"""Farther away, a thin line leads to the point."""


def label_points(
    axes: Axes, x: ArrayLike, y: ArrayLike, names: Sequence[str], *,
    fontsize: float = 6, color: str = "#444",
) -> None:
    """Write each name at the nearest free place around its point.

    Places are given to the most crowded points first, and are free where no marker, no name and no
    edge of the axes is, nor would be struck by the line to the name; where there is none, the name
    stands where it hides least.

    Args:
        axes: Whose limits, scales and size are final.
        x, y: float `(n,)`, in the axes' data; those that are not finite get no name.
        names: `n` of them.
        fontsize, color: Of the names.
    """
    places = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    shown = np.flatnonzero(np.isfinite(places).all(axis=1))
    if not shown.size:
        return
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    dots = axes.figure.dpi / 72
    points = axes.transData.transform(places[shown])
    frame = axes.get_window_extent(renderer)
    sizes = []
    for index in shown:
        text = axes.text(0, 0, names[index], fontsize=fontsize)
        box = text.get_window_extent(renderer)
        sizes.append((box.width, box.height))
        text.remove()
    taken = np.column_stack([points - _POINT * dots, points + _POINT * dots])
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    crowded = np.argsort(-(distance < 60 * dots).sum(axis=1), kind="stable")
    for number in crowded:
        offsets, boxes = _candidates(points[number], np.array(sizes[number]), dots)
        outside = (np.maximum(frame.x0 - boxes[:, 0], 0) + np.maximum(boxes[:, 2] - frame.x1, 0)
                   + np.maximum(frame.y0 - boxes[:, 1], 0)
                   + np.maximum(boxes[:, 3] - frame.y1, 0)) * sizes[number][0]
        far = np.hypot(*offsets.T) > _BESIDE
        lines = _lines(points[number], dots * offsets)
        struck = _overlap(lines.reshape(-1, 4), taken).reshape(*lines.shape[:2], -1)
        hidden = _overlap(boxes, taken).sum(axis=1) + outside + far * struck.sum(axis=(1, 2))
        best = int(np.argmin(hidden + 1e-3 * np.arange(len(boxes))))
        taken = np.vstack([taken, boxes[best], *([lines[best]] if far[best] else [])])
        axes.annotate(
            names[shown[number]], places[shown[number]], xytext=offsets[best],
            textcoords="offset points", fontsize=fontsize, color=color,
            ha=_alignment(offsets[best][0], "right", "left"),
            va=_alignment(offsets[best][1], "top", "bottom"),
            arrowprops={"arrowstyle": "-", "color": "#999", "lw": 0.4, "shrinkA": 0,
                        "shrinkB": 2} if far[best] else None)


def _candidates(point: NDArray, size: NDArray, dots: float) -> tuple[NDArray, NDArray]:
    """Offsets in points, nearest first, and the boxes `(n, 4)` of a name there, in pixels."""
    offsets = np.array([(ring * np.cos(angle), ring * np.sin(angle))
                        for ring in RINGS for angle in ANGLES])
    offsets[np.abs(offsets) < 1e-9] = 0
    anchors = point + dots * offsets
    low = anchors - size * (1 - np.sign(offsets)) / 2
    return offsets, np.column_stack([low, low + size])


def _lines(point: NDArray, offsets: NDArray) -> NDArray:
    """Small boxes `(n, steps, 4)` along the lines from a point's edge to names at offsets."""
    length = np.linalg.norm(offsets, axis=1)[:, None, None]
    parts = np.linspace(0, 1, _LINE_BOXES)[:, None]
    start = offsets[:, None] * np.minimum(1.5 * _POINT / np.maximum(length, 1), 1)
    middles = point + start + parts * (offsets[:, None] - start)
    return np.concatenate([middles - 1, middles + 1], axis=2)


def _alignment(offset: float, negative: str, positive: str) -> str:
    return "center" if offset == 0 else negative if offset < 0 else positive


def _overlap(boxes: NDArray, taken: NDArray) -> NDArray:
    """Areas `(n, m)` that boxes share."""
    low = np.maximum(boxes[:, None, :2], taken[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], taken[None, :, 2:])
    return np.maximum(high - low, 0).prod(axis=2)
