"""The eight orientations of a square picture, and of the cells in it.

    oriented(image, way)                       # way 0 to 7; rectangles turn too
    oriented_cells(cells, way, image.shape)    # the same cells in that picture

PathoNet's authors train on six of them, `SIX_WAYS`: as it is, mirrored in both directions, and
turned by one, two and three quarters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WAYS = range(8)
SIX_WAYS = (0, 6, 4, 1, 2, 3)


def oriented(image: NDArray, way: int) -> NDArray:
    """A picture `(h, w, …)` turned `way % 4` quarters to the left, then mirrored if `way` >= 4."""
    image = np.rot90(image, way % 4)
    return image[:, ::-1] if way >= 4 else image


def oriented_cells(cells: NDArray, way: int, shape: tuple[int, ...]) -> NDArray:
    """Where `oriented` takes cells.

    Args:
        cells: int `(cells, 3)`: x, y in pixels of the picture, label_id.
        way: As for `oriented`.
        shape: Of the picture before: height and width first.
    """
    cells = np.array(cells)
    height, width = shape[:2]
    for _ in range(way % 4):
        cells[:, 0], cells[:, 1] = cells[:, 1].copy(), width - 1 - cells[:, 0]
        height, width = width, height
    if way >= 4:
        cells[:, 0] = width - 1 - cells[:, 0]
    return cells
