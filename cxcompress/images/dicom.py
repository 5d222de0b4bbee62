"""Reading DICOM radiographs: rescale, window, and white always bright.

    image = read_dicom("chest.dcm")     # uint16 (h, w), 65535 = the window's upper end

Needs pydicom (`pip install 'cxcompress[dicom]'`).
"""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

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
    except Exception as error:  # of hostile files pydicom raises whatever it stumbles on
        raise InputError(f"{path}: not a DICOM file that can be read ({_said(error)})") from error
    try:
        return _picture(dataset, path)
    except InputError:
        raise
    except Exception as error:  # values are parsed when they are asked for
        raise InputError(f"{path}: a DICOM file with a field that cannot be used "
                         f"({_said(error)}); export it again") from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _picture(dataset, path) -> NDArray:
    if "PixelData" not in dataset:
        raise InputError(f"{path}: a DICOM file without an image")
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise InputError(f"{path}: holds {dataset.NumberOfFrames} frames; give single radiographs")
    rows, columns = (int(dataset.get(name) or 0) for name in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        raise InputError(f"{path}: a DICOM file that does not say how large its image is")
    if rows * columns > MAX_PIXELS:
        raise InputError(f"{path}: more than {MAX_PIXELS // 10**6} million pixels; give a smaller "
                         "picture")
    try:
        values = dataset.pixel_array
    except Exception as error:  # pydicom's decoders raise whatever their libraries raise
        raise InputError(f"{path}: its pixels cannot be decoded ({_said(error)}); save it "
                         "uncompressed") from error
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind not in GREY:
        return _colour(values, kind, path)
    if values.ndim != 2:
        raise InputError(f"{path}: grey, but with pixels of shape {values.shape}; give single "
                         "radiographs")
    values = (values.astype(np.float64) * float(dataset.get("RescaleSlope", 1) or 1)
              + float(dataset.get("RescaleIntercept", 0) or 0))
    low, high = _window(dataset, values)
    if not (np.isfinite(values).all() and np.isfinite([low, high]).all()):
        raise InputError(f"{path}: its rescaling or window gives values that are not finite; "
                         "export it again")
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
    if kind != "RGB" or values.shape[2:] != (3,) or values.dtype != np.uint8:
        raise InputError(f"{path}: pixels of kind {kind}; give grey or 8-bit RGB images")
    return values
