"""`medmnist:<name>[_64|_128|_224]`: MedMNIST's collections, fetched once and checked.

    collection = open_medmnist("medmnist:pneumoniamnist")

Files come from MedMNIST's Zenodo record 10519652 (or from the address in the environment variable
`CXCOMPRESS_MEDMNIST_URL`) into the cache folder (`CXCOMPRESS_CACHE`, or the system's own) and
are used only if their MD5 is the published one. The facts are in `medmnist_files.json`.

Reference: Yang et al. (2023), MedMNIST v2, Scientific Data 10:41.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from importlib import resources

from cxcompress.data.arrays import open_arrays
from cxcompress.data.collection import Collection
from cxcompress.downloads import fetch
from cxcompress.errors import InputError

MEDMNIST = json.loads(
    resources.files("cxcompress.data").joinpath("medmnist_files.json").read_text("utf-8"))
"""By name: class names in label order, whether multilabel, licence, and MD5 by image size."""

RECORD = "https://zenodo.org/records/10519652/files/"


def open_medmnist(name: str) -> Collection:
    """Open one of MedMNIST's 2D collections; the first call downloads it.

    Args:
        name: `medmnist:<set>` for 28 pixels, or with `_64`, `_128` or `_224`.

    Raises:
        InputError: If the name is unknown, the download fails or the file is not the published
            one.
        MissingExtra: If pooch is not installed.
    """
    match = re.fullmatch(r"medmnist:([a-z]+?)(?:_(28|64|128|224))?", name)
    if match is None or match[1] not in MEDMNIST:
        raise InputError(f"{name}: unknown; write medmnist:<set> with _64, _128 or _224 for larger "
                         f"images, where <set> is one of {', '.join(MEDMNIST)}")
    stem, size = match[1], match[2] or "28"
    facts = MEDMNIST[stem]
    file = stem + ("" if size == "28" else f"_{size}") + ".npz"
    base = os.environ.get("CXCOMPRESS_MEDMNIST_URL", RECORD).rstrip("/")
    collection = open_arrays(fetch(f"{base}/{file}?download=1", file, facts["md5"][size]))
    credit = f"MedMNIST v2 (Yang et al. 2023), {stem}; {facts['licence']}"
    return replace(collection, name=name, credit=credit)
