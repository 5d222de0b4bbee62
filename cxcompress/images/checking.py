"""Finding damaged pictures before a training or an evaluation starts.

    fault("00000013_005.png", decode=True)      # None, or why it cannot be read
    faults(paths, decode=False)                 # {position: reason}, two files at once
    decodes("auto", len(paths))                 # whether a way to check decodes so many
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cxcompress.errors import InputError, MissingExtra
from cxcompress.images.reading import DICOM_SUFFIXES, image_shape, read_picture

END_MARKERS = {".png": b"IEND", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}
"""What a whole file of this kind ends in."""

TAIL_BYTES = 4096
"""Some writers add a few bytes after the end marker."""

DECODED_AT_OPENING = 20_000
"""Up to as many pictures are decoded once while a collection is opened, to find damaged ones."""

THREADS = 2


def fault(path: Path, *, decode: bool) -> str | None:
    """Why a picture cannot be used, or None.

    Args:
        path: PNG, JPEG, BMP, TIFF or DICOM.
        decode: Decode every pixel; else read the header and look for the end marker, which finds
            foreign and truncated files but not a flipped bit. DICOM is always decoded.
    """
    path = Path(path)
    try:
        if decode or path.suffix.lower() in DICOM_SUFFIXES:
            read_picture(path)
            return None
        image_shape(path)
        marker = END_MARKERS.get(path.suffix.lower())
        if marker is not None:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL_BYTES))
                if marker not in file.read():
                    return f"{path}: truncated (no end marker)"
    except MissingExtra:
        raise
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror or error})"
    return None


def faults(paths: Sequence[Path], *, decode: bool, watch=lambda items: items) -> dict[int, str]:
    """The pictures that cannot be used: reasons by position.

    Args:
        paths: Files.
        decode: As for `fault`.
        watch: Wraps the results as they come, for a progress bar.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        found = watch(threads.map(lambda path: fault(path, decode=decode), paths))
        return {position: reason for position, reason in enumerate(found) if reason is not None}


def decodes(check: str, count: int) -> bool:
    """Whether `count` pictures are decoded to find damaged ones, rather than only opened.

    Args:
        check: `"pixels"`, `"headers"`, or `"auto"`: pixels of up to 20,000 pictures.
        count: Pictures.
    """
    return check == "pixels" or (check == "auto" and count <= DECODED_AT_OPENING)
