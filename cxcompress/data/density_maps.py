"""Density maps: annotated nuclei as what PathoNet learns to draw, a small peak on every centre.

    maps = density_maps(cells, (256, 256))      # float32 (256, 256, 3), peaks of 255

The peak is that of Negahbani et al. (2021): 9×9 pixels, exp(−d² / (2 · 0.5²)) · 255 with d the
distance to the centre in units of 4 pixels; another `kernel` size stretches it. Peaks that overlap
take the larger value, so that the order of the annotations does not matter; at the border they are
cut off.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

PEAK = 255.0
KERNEL = 9
"""Pixels a side of a peak."""
REACH = KERNEL // 2
"""Pixels from the centre of a peak to its edge."""
DEVIATION = 0.5
"""Of the peak, in units of its reach."""


@functools.cache
def _stamp(kernel: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Offsets `(side, side, 2)` from a cell and the peak's values there.

    An even kernel has no middle pixel; of its pixels those within its reach of the cell are kept.
    """
    reach = (kernel - 1) / 2
    steps = np.arange(-int(reach), int(reach) + 1)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1)
    distance = np.square(offsets / max(reach, 1e-9)).sum(-1)
    return offsets, (PEAK * np.exp(-distance / (2 * DEVIATION**2))).astype(np.float32)


def density_maps(
    cells: NDArray[np.integer], size: tuple[int, int], classes: int = 3,
    scale: tuple[float, float] = (1.0, 1.0), kernel: int = KERNEL,
) -> NDArray[np.float32]:
    """Draw one map a class.

    Args:
        cells: int `(cells, 3)`: x, y in pixels of the annotated image, label_id 1 … classes.
        size: Height and width of the maps.
        classes: Number of maps.
        scale: Height and width of the maps over those of the annotated image.
        kernel: Pixels a side of a peak, at least 1.

    Returns:
        float32 `(height, width, classes)`, 0 to 255.

    Raises:
        ValueError: If a label_id or the kernel is out of range.
    """
    if kernel < 1:
        raise ValueError(f"kernel is at least 1. Received: {kernel}")
    offsets, stamp = _stamp(int(kernel))
    reach = len(stamp) // 2
    cells = np.asarray(cells).reshape(-1, 3)
    label = cells[:, 2] - 1
    if len(cells) and not (0 <= label.min() and label.max() < classes):
        raise ValueError(f"label_id lies between 1 and {classes}. "
                         f"Received: {sorted(set(cells[:, 2].tolist()))}")
    padded = np.zeros((size[0] + 2 * reach, size[1] + 2 * reach, classes), np.float32)
    row, column = ((cells[:, axis] * scale[1 - axis]).astype(int) for axis in (1, 0))
    inside = (0 <= row) & (row < size[0]) & (0 <= column) & (column < size[1])
    row, column, label = (values[inside, None, None] for values in (row, column, label))
    np.maximum.at(padded, (row + reach + offsets[..., 0], column + reach + offsets[..., 1],
                           np.broadcast_to(label, (len(label), *stamp.shape))),
                  np.broadcast_to(stamp, (len(label), *stamp.shape)))
    return padded[reach:reach + size[0], reach:reach + size[1]]
