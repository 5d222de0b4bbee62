"""Pictures of the page: a map laid over a radiograph, and one cell cut out of its field.

    overlay(answer.pixels, answer.map, opacity=0.4)      # uint8 (h, w, 3)
    cell_crop(answer.pixels, answer.size, x=120.5, y=88.0)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_COLOURS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]],
                    np.float64)
"""Of matplotlib's "inferno": rising lightness, which colour-blind readers see too."""
_CELL_SIDE = 48
_SHOWN_CELL = 240


def overlay(pixels: NDArray[np.uint8], seen: NDArray[np.float32], opacity: float) -> NDArray:
    """A map over its picture; what speaks against the class (below 0) stays clear.

    Args:
        pixels: uint8 `(h, w)` or `(h, w, 3)`.
        seen: float `(rows, columns)`.
        opacity: Of the map's strongest place, 0 to 1.

    Returns:
        uint8 `(h, w, 3)`.
    """
    shown = np.asarray(Image.fromarray(pixels).convert("RGB"), np.float64)
    strength = np.maximum(np.asarray(seen, np.float32), 0)
    if strength.max() > 0:
        strength = strength / strength.max()
    picture = Image.fromarray(strength).resize(shown.shape[1::-1], Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(picture, np.float64), 0, 1)
    places = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(strength, places, _COLOURS[:, band]) for band in range(3)], -1)
    share = (opacity * strength)[..., None]
    return np.rint(shown * (1 - share) + colours * share).astype(np.uint8)


def cell_crop(
    pixels: NDArray[np.uint8], size: tuple[int, int], x: float, y: float
) -> Image.Image:
    """One cell, enlarged, in the middle of what surrounds it.

    Args:
        pixels: The field as it is shown.
        size: Height and width of the field as it came, in whose pixels the cell's place is given.
        x, y: The cell's centre.
    """
    scale = pixels.shape[1] / size[1]
    field = Image.fromarray(pixels).convert("RGB")
    half = max(8.0, _CELL_SIDE / 2 * max(pixels.shape[:2]) / 512)
    x, y = x * scale, y * scale
    crop = field.transform((_SHOWN_CELL, _SHOWN_CELL), Image.Transform.EXTENT,
                           (x - half, y - half, x + half, y + half), Image.Resampling.BICUBIC)
    middle, arm = _SHOWN_CELL // 2, _SHOWN_CELL // 16
    draw = ImageDraw.Draw(crop)
    for width, colour in ((3, "white"), (1, "black")):
        draw.line((middle - arm, middle, middle + arm, middle), fill=colour, width=width)
        draw.line((middle, middle - arm, middle, middle + arm), fill=colour, width=width)
    return crop
