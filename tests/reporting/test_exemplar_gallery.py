"""Pictures of the gallery and its cards."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cxcompress.reporting.exemplar_gallery import GalleryEntry, add_gallery, to_png
from cxcompress.reporting.html import Page


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 3)])
def test_pictures_are_enlarged_by_a_whole_factor_and_keep_their_pixels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    back = np.asarray(Image.open(io.BytesIO(to_png(image, 20))))
    assert back.shape[:2] == (24, 32)
    assert np.array_equal(back[::4, ::4], image.squeeze())


def test_sixteen_bits_are_stretched_to_eight():
    image = np.array([[1000, 3000], [2000, 1000]], np.uint16)
    back = np.asarray(Image.open(io.BytesIO(to_png(image))))
    assert back.tolist() == [[0, 255], [128, 0]]


def test_names_on_cards_are_escaped(tmp_path):
    page = Page("t", "l")
    add_gallery(page, [GalleryEntry(None, "<script>", ("A&B",), 0.5, [("A&B", 0.1, 0.9)])])
    page.write(tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert "&lt;script&gt;" in text and "A&amp;B" in text and "<script>" not in text
