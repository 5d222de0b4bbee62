"""A page of exemplars: each image, its labels, what both networks say, how far they agree.

    gallery(path, "L1 at 90%", entries, lead)
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxcompress.reporting.html import Page

CARD_STYLE = (
    "<style>.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:1rem}"
    ".card{border:1px solid #ddd;border-radius:4px;padding:.6rem;font-size:.8rem}"
    ".card img{width:100%;image-rendering:auto;background:#000}.card table{width:100%}"
    ".card td,.card th{padding:.05rem .3rem;font-size:.78rem}.card .truth{font-weight:600}"
    "</style>")


@dataclass(frozen=True)
class GalleryEntry:
    """One image.

    Args:
        image: uint8 or uint16, `(h, w)` or `(h, w, c)`; None where it is not at hand.
        image_id: Its name.
        labels: Names of its true findings.
        agreement: Spearman's ρ over the classes.
        scores: Class name, original's and compressed network's probability, the classes that
            either ranks highest or that are true.
    """

    image: NDArray | None
    image_id: str
    labels: Sequence[str]
    agreement: float
    scores: Sequence[tuple[str, float, float]]


def to_png(image: NDArray, least_side: int = 1) -> bytes:
    """PNG bytes of an image, enlarged by a whole factor to at least `least_side` pixels.

    16-bit images are stretched from their least to their greatest value to 8 bits.
    """
    image = np.asarray(image)
    if image.dtype == np.uint16:
        low, high = int(image.min()), int(image.max())
        image = ((image.astype(np.float64) - low) * (255 / max(high - low, 1))).round()
        image = image.astype(np.uint8)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    picture = Image.fromarray(image)
    factor = -(-least_side // max(min(picture.size), 1))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor),
                                 Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def add_gallery(page: Page, entries: Sequence[GalleryEntry]) -> None:
    """Put the entries on the page, as cards beside each other."""
    cards = []
    for entry in entries:
        picture = ""
        if entry.image is not None:
            data = base64.b64encode(to_png(entry.image, 192)).decode()
            picture = (f'<img alt="{html.escape(entry.image_id)}" '
                       f'src="data:image/png;base64,{data}">')
        rows = "".join(
            f'<tr{" class=truth" if name in entry.labels else ""}><td>{html.escape(name)}</td>'
            f"<td>{before:.3f}</td><td>{after:.3f}</td></tr>"
            for name, before, after in entry.scores)
        cards.append(
            f'<div class=card>{picture}<div><b>{html.escape(entry.image_id)}</b>, agreement '
            f"ρ = {entry.agreement:.2f}<br>labels: "
            f"{html.escape(', '.join(entry.labels) or 'none')}</div><table><tr><th>class</th>"
            f"<th>original</th><th>compressed</th></tr>{rows}</table></div>")
    page.parts.append(f"{CARD_STYLE}<div class=cards>{''.join(cards)}</div>")
