"""Reading DICOM radiographs: rescale, window, and white always bright.

    image = read_dicom("chest.dcm")     # uint16 (h, w), 65535 = the window's upper end

Needs pydicom (`pip install 'cxcompress[dicom]'`).
"""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from cxcompress.errors import InputError
from cxcompress.images.reading import MAX_PIXELS

GREY = ("MONOCHROME1", "MONOCHROME2")


def read_dicom(path: str | PathLike) -> NDArray:
    """Read one radiograph.

    Stored values become `value × RescaleSlope + RescaleIntercept`; then the first window of the
    file is applied linearly (DICOM PS3.3, C.11.2.1.2), or where there is none, the range from the
    least to the greatest value. MONOCHROME1, whose low values are bright, is inverted.

    Returns:
        uint16 `(h, w)`; colour files uint8 `(h, w, 3)`.

    Raises:
        InputError: If the file is missing, is no DICOM image, is compressed in a way that is not
            installed, holds several frames, or has more than 100 million pixels.
    """
    try:
        dataset = dcmread(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (InvalidDicomError, OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a DICOM file that can be read ({error})") from error
    if "PixelData" not in dataset:
        raise InputError(f"{path}: a DICOM file without an image")
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise InputError(f"{path}: holds {dataset.NumberOfFrames} frames; give single radiographs")
    if int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        raise InputError(f"{path}: more than {MAX_PIXELS // 10**6} million pixels; give a smaller "
                         "picture")
    try:
        values = dataset.pixel_array
    except Exception as error:  # pydicom's decoders raise whatever their libraries raise
        raise InputError(f"{path}: its pixels cannot be decoded ({error}); save it uncompressed") \
            from error
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind not in GREY:
        return _colour(values, kind, path)
    values = (values.astype(np.float64) * float(dataset.get("RescaleSlope", 1) or 1)
              + float(dataset.get("RescaleIntercept", 0) or 0))
    low, high = _window(dataset, values)
    bright = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    if kind == "MONOCHROME1":
        bright = 1 - bright
    return np.rint(bright * 65535).astype(np.uint16)


def _window(dataset, values: NDArray) -> tuple[float, float]:
    """The values that become black and white."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 1:
        return float(values.min()), float(values.max())
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _first(value) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, str | int | float) else value[0])


def _colour(values: NDArray, kind: str, path) -> NDArray[np.uint8]:
    if kind != "RGB" or values.ndim != 3 or values.dtype != np.uint8:
        raise InputError(f"{path}: pixels of kind {kind}; give grey or 8-bit RGB images")
    return values
