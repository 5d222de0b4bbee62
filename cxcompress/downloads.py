"""Files fetched once into the cache folder, checked, and refused in one line.

    path = fetch("https://…/pneumoniamnist.npz", "pneumoniamnist.npz", md5="28209eda…")

The cache is the folder in the environment variable `CXCOMPRESS_CACHE`, or the system's own.
"""

from __future__ import annotations

import os
from pathlib import Path

from cxcompress.errors import InputError, MissingExtra

TIMEOUT = 60
"""Seconds without an answer."""


def fetch(url: str, file: str, md5: str | None) -> Path:
    """The path of a checked copy in the cache; downloaded where it is not there yet.

    Args:
        url: Where it lies.
        file: Its name in the cache.
        md5: Of the published file; None where none was published.

    Raises:
        InputError: If the download fails or the file is not the published one.
        MissingExtra: If pooch is not installed.
    """
    try:
        import pooch
    except ImportError as error:
        raise MissingExtra("pooch", "train") from error
    folder = os.environ.get("CXCOMPRESS_CACHE") or pooch.os_cache("cxcompress")
    try:
        return Path(pooch.retrieve(url, md5 and f"md5:{md5}", fname=file, path=folder,
                                   downloader=pooch.HTTPDownloader(timeout=TIMEOUT)))
    except ValueError as error:
        if "hash" not in str(error):
            raise InputError(f"{url}: cannot be fetched ({error})") from error
        raise InputError(f"{url}: not the published file (its MD5 is not {md5}); "
                         "try again later or check the address") from error
    except OSError as error:
        reason = str(error).split("\n")[0][:160] or type(error).__name__
        raise InputError(f"{url}: cannot be fetched ({reason}); check the connection, or "
                         f"put the file into {folder}") from error
