"""Cells drawn into their field, and as GeoJSON that QuPath opens. Needs Pillow only.

    write_atomic("field.png", cell_picture(image, found, annotated))
    write_atomic("field.geojson", cell_geojson(found, classes))
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of Okabe and Ito (2008), by label_id: positive vermilion, negative blue, lymphocytes green."""


def cell_picture(
    image: NDArray, found: NDArray, annotated: NDArray | None = None, *, enlarge: int = 1
) -> bytes:
    """The field with a circle around each found cell and a cross on each annotated one, as PNG.

    Args:
        image: uint8 or uint16, `(h, w)` or `(h, w, 3)`.
        found, annotated: float `(cells, 3)`: x, y in pixels of the image, label_id.
        enlarge: Pixels of the picture for one of the image.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    picture = Image.fromarray(image.squeeze()).convert("RGB")
    picture = picture.resize((picture.width * enlarge, picture.height * enlarge))
    draw = ImageDraw.Draw(picture)
    radius, pen = max(3, min(picture.size) // 64), max(2, min(picture.size) // 384)
    for x, y, label in found:
        x, y = (x + 0.5) * enlarge, (y + 0.5) * enlarge
        # A pale rim inside and outside: rings are seen on dark and on brown nuclei alike.
        for reach, width, colour in ((radius + pen // 2, 2 * pen, "white"),
                                     (radius, pen, COLOURS[int(label - 1) % len(COLOURS)])):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), width=width,
                         outline=colour)
    for x, y, label in () if annotated is None else annotated:
        x, y, arm = (x + 0.5) * enlarge, (y + 0.5) * enlarge, max(2, radius // 2)
        colour = COLOURS[int(label - 1) % len(COLOURS)]
        for width, shade in ((2 * pen, "white"), (pen, colour)):
            draw.line((x - arm, y - arm, x + arm, y + arm), fill=shade, width=width)
            draw.line((x - arm, y + arm, x + arm, y - arm), fill=shade, width=width)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def cell_geojson(cells: NDArray, classes: Sequence[str]) -> bytes:
    """Cells as a GeoJSON FeatureCollection of points, which QuPath imports as detections.

    Args:
        cells: float `(cells, 3)`: x, y in pixels of the image, label_id.
        classes: Names, in the order of label_id.
    """
    return json.dumps({"type": "FeatureCollection", "features": [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [float(x), float(y)]},
         "properties": {"objectType": "detection", "classification": {
             "name": classes[int(label) - 1],
             "color": [int(COLOURS[int(label - 1) % len(COLOURS)][at:at + 2], 16)
                       for at in (1, 3, 5)]}}}
        for x, y, label in cells]}).encode()
