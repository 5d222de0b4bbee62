"""Laws of orientations: cells stay on their nuclei, and six ways differ."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.data.density_maps import density_maps
from cxcompress.data.orientations import SIX_WAYS, WAYS, oriented, oriented_cells


@given(st.integers(0, 2**32 - 1), st.sampled_from(WAYS), st.integers(1, 30), st.integers(1, 40))
def test_maps_of_turned_cells_are_turned_maps(seed, way, height, width):
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 12)
    cells = np.stack([rng.integers(0, width, count), rng.integers(0, height, count),
                      rng.integers(1, 4, count)], axis=1)
    maps = density_maps(cells, (height, width))
    turned = oriented(maps, way)
    np.testing.assert_array_equal(
        density_maps(oriented_cells(cells, way, maps.shape), turned.shape[:2]), turned)


def test_six_ways_are_those_of_the_paper():
    image = np.arange(12).reshape(3, 4)
    expected = [image, image[::-1], image[:, ::-1], *(np.rot90(image, k) for k in (1, 2, 3))]
    for way, picture in zip(SIX_WAYS, expected, strict=True):
        np.testing.assert_array_equal(oriented(image, way), picture)
