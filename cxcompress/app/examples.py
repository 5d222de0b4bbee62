"""Pictures that every user has: generated ones, and scikit-image's real field of IHC.

    examples.names("nuclei")
    examples.picture("generated radiograph 1").content      # PNG
"""

from __future__ import annotations

import io
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxcompress.app.uploads import Picture

SIDE = 256
_RADIOGRAPHS = {f"generated radiograph {number}": number for number in (1, 2, 3)}
_FIELDS = {f"generated Ki-67 field {number}": number for number in (1, 2)}
_REAL_FIELD = "real IHC field (scikit-image)"


def names(task: str) -> list[str]:
    """Examples for a model of this task."""
    return [*_FIELDS, _REAL_FIELD] if task == "nuclei" else list(_RADIOGRAPHS)


def picture(name: str) -> Picture:
    """The example of this name."""
    if name in _RADIOGRAPHS:
        pixels = _radiograph(_RADIOGRAPHS[name])
    elif name in _FIELDS:
        from cxcompress.data.synthetic_ki67 import generate_fields

        pixels, _, _ = next(iter(generate_fields(1, size=SIDE, seed=7, first=_FIELDS[name] * 6)))
    else:
        from skimage.data import immunohistochemistry

        pixels = immunohistochemistry()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Picture(f"{name}.png", file.getvalue())


def _radiograph(number: int) -> NDArray[np.uint8]:
    """Of the first test patients' radiographs the one with the most findings; only it is drawn."""
    from cxcompress.data.synthetic_cxr import radiographs

    cohort = [one for one in islice(radiographs(number), 40) if one.part == "test"]
    return max(cohort, key=lambda one: len(one.reported)).draw(SIDE)
