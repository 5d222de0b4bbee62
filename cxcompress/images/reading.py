"""Reading image files: PNG, JPEG, BMP and TIFF to plain arrays.

    image = read_image("00000013_005.png")     # uint8 (1024, 1024)

Whatever a file holds (palette, transparency, 16 bits, a camera's rotation flag), the result is
grey `(h, w)` or RGB `(h, w, 3)`, upright, uint8 or uint16.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cxcompress.errors import InputError, MissingExtra

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
"""Formats that are opened; Pillow's others stay closed."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""File names that count as images in a folder, lower case."""

DICOM_SUFFIXES = (".dcm", ".dicom")

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before their pixels are decoded."""


def read_image(path: str | PathLike | BinaryIO) -> NDArray:
    """Read an image file.

    Args:
        path: A file name, or a binary file that is open for reading (an upload).

    Returns:
        uint8 or uint16 array, grey `(h, w)` or RGB `(h, w, 3)`, turned upright by its EXIF flag.
        Transparent parts become black in grey pictures (radiographs) and white in colour ones
        (slides). 16-bit grey keeps its 16 bits; Pillow reads 16-bit colour at 8 bits.

    Raises:
        InputError: If the file is missing, is no PNG, JPEG, BMP or TIFF, is damaged, holds
            floating point pixels, or has more than 100 million pixels.
    """
    name = _name(path)
    with _opened(path, name) as image:
        try:
            image.load()
            image = ImageOps.exif_transpose(image)
        except Exception as error:  # Pillow's decoders raise whatever they stumble on
            raise InputError(f"{name}: damaged image ({error or type(error).__name__}); replace "
                             "the file") from error
        return pixels(image, name)


def read_picture(path: str | PathLike) -> NDArray:
    """`read_image`, or `read_dicom` for files named `.dcm` or `.dicom`.

    Raises:
        InputError: If the file cannot be read as what its name says.
        MissingExtra: If it is a DICOM file and pydicom is not installed.
    """
    if Path(path).suffix.lower() in DICOM_SUFFIXES:
        try:
            from cxcompress.images.dicom import read_dicom
        except ImportError as error:
            raise MissingExtra("pydicom", "dicom") from error
        return read_dicom(path)
    return read_image(path)


def image_files(names: Iterable[str | PathLike]) -> list[Path]:
    """The image files of names, folders searched through.

    Args:
        names: Files, whatever their suffix, and folders.

    Returns:
        In the order of the names; those of a folder sorted.

    Raises:
        InputError: If a name does not exist, or a folder holds no images.
    """
    found: list[Path] = []
    suffixes = (*SUFFIXES, *DICOM_SUFFIXES)
    for name in map(Path, names):
        if name.is_dir():
            inside = sorted(path for path in name.rglob("*") if path.suffix.lower() in suffixes)
            if not inside:
                raise InputError(f"{name}: a folder without images ({', '.join(suffixes)})")
            found += inside
        elif name.exists():
            found.append(name)
        else:
            raise InputError(f"{name}: no such file")
    return found


def image_shape(path: str | PathLike) -> tuple[int, int, str]:
    """Height, width and Pillow mode of an image file, from its header alone.

    Raises:
        InputError: As `read_image`, save for damage behind the header.
    """
    with _opened(path, _name(path)) as image:
        return image.height, image.width, image.mode


def pixels(image: Image.Image, name: str = "image") -> NDArray:
    """The array of a Pillow image, under the rules of `read_image`; `name` is for messages."""
    mode = image.mode
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise InputError(f"{name}: grey values from {values.min()} to {values.max()}; "
                             "save it with 8 or 16 bits per pixel")
        return values.astype(np.uint16)
    if mode == "F":
        raise InputError(f"{name}: floating point pixels; save it with 8 or 16 bits per pixel")
    if mode in ("1", "L"):
        return np.array(image.convert("L"))
    if image.has_transparency_data:
        values = np.asarray(image.convert("RGBA"))
        colour, alpha = values[..., :3], values[..., 3:]
        grey = mode == "LA" or bool((np.ptp(colour, axis=-1) == 0).all())
        backdrop = 0 if grey else 255
        if int(alpha.min(initial=255)) < 255:
            share = alpha.astype(np.float32) / 255
            colour = np.rint(colour * share + backdrop * (1 - share)).astype(np.uint8)
        return np.array(colour[..., 0] if grey else colour)
    return np.array(image.convert("RGB"))


def _name(path) -> str:
    if isinstance(path, str | PathLike):
        return str(path)
    return str(getattr(path, "name", "image"))


def _opened(path, name: str) -> Image.Image:
    if isinstance(path, str | PathLike) and Path(path).is_dir():
        raise InputError(f"{name}: a folder, not an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(name)) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that can be read; give a PNG, JPEG, BMP or TIFF "
                         "file") from error
    except Exception as error:  # as above, of headers
        raise InputError(f"{name}: cannot be opened ({error or type(error).__name__})") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(_too_large(name))
    return image


def _too_large(name: str) -> str:
    return f"{name}: more than {MAX_PIXELS // 10**6} million pixels; give a smaller picture"
