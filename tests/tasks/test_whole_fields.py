"""Laws of whole fields: tiles and blocks leave no trace, whatever the field's size."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.data.density_maps import density_maps
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.tasks import NucleiTask
from cxcompress.tasks.whole_fields import _tiles, cells_of_field, network_scale

TASK = NucleiTask(("positive", "negative", "lymphocyte"))
SQUARE = Preprocessing.preset("none", (64, 64), 3)


def drawn(rng, height, width, count):
    """A picture whose colours are the density maps of random cells, crowded ones among them."""
    cells = np.stack([rng.integers(0, width, count), rng.integers(0, height, count),
                      rng.integers(1, 4, count)], axis=1)
    return np.rint(density_maps(cells, (height, width))).astype(np.uint8)


def as_set(cells):
    return sorted(map(tuple, np.round(cells, 6)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.5))
@settings(max_examples=40)
def test_tiles_and_blocks_find_the_cells_of_the_whole_map(seed, height, width, crowding):
    """With a network that repeats its input, the cells are those of the picture."""
    image = drawn(np.random.default_rng(seed), height, width,
                  int(crowding * height * width / 200))
    (whole,) = TASK.findings(image[None].astype(np.float32))
    calls = []

    def repeats(inputs):
        calls.append(inputs.shape)
        return inputs

    found = cells_of_field(image, repeats, SQUARE, TASK, block=96, halo=64)
    assert as_set(found) == as_set(whole)
    assert set(calls) == {(1, 64, 64, 3)}


@given(st.integers(1, 2000), st.integers(16, 256))
def test_tiles_cover_every_pixel_once_and_keep_away_from_their_borders(length, side):
    tiles = _tiles(length, side)
    assert tiles[0].first == 0 and tiles[-1].stop == length
    for one, following in zip(tiles, tiles[1:], strict=False):
        assert one.stop == following.first
        margin = int(side / 8)
        assert one.stop <= one.start + side - margin and following.first >= following.start + margin
    assert all(tile.first >= tile.start and tile.stop <= tile.start + side for tile in tiles)
    if length > side:
        assert all(0 <= tile.start and tile.start + side <= length for tile in tiles)


def test_a_cell_on_a_seam_counts_once_wherever_the_seam_lies():
    for offset in range(40, 80):
        cells = np.array([[offset, 100, 1], [offset, 160, 2]])
        image = np.rint(density_maps(cells, (200, 180))).astype(np.uint8)
        found = cells_of_field(image, lambda inputs: inputs, SQUARE, TASK, block=56, halo=24)
        assert [int(label) for label in found[:, 2]] in ([1, 2], [2, 1])
        order = np.argsort(found[:, 2])
        np.testing.assert_allclose(found[order, :2], cells[:, :2], atol=0.01)


@pytest.mark.parametrize("scale", [0.3125, 0.5, 2.0])
def test_cells_come_back_in_pixels_of_the_field(scale):
    """A field that is stored at another scale shows the same cells at that scale's places."""
    rng = np.random.default_rng(1)
    places = np.array([[40 + 50 * x, 30 + 45 * y] for x in range(4) for y in range(3)])
    places = places + rng.integers(-8, 9, places.shape)
    cells = np.column_stack([places, rng.integers(1, 4, len(places))])
    side = 300
    large = round(side / scale)
    kernel = max(3, round(9 / scale)) | 1
    stored = (cells * (1 / scale, 1 / scale, 1)).astype(int)
    image = np.rint(density_maps(stored, (large, large), kernel=kernel)).astype(np.uint8)
    found = cells_of_field(image, lambda inputs: inputs, SQUARE, TASK, scale=scale)
    assert len(found) == len(cells)
    gaps = np.hypot(*(found[:, None, :2] - stored[None, :, :2]).transpose(2, 0, 1))
    assert gaps.min(0).max() <= 1.5 / min(scale, 1)
    assert (found[gaps.argmin(0), 2] == stored[:, 2]).all()


def test_a_region_is_what_the_whole_picture_gives_there():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (301, 420, 3), np.uint8)
    for method, height in (("bilinear", 90), ("bicubic", 90), ("area", 43)):
        preprocessing = Preprocessing((height, 120), 3, resize=method)
        whole = preprocessing(image)
        across, down = 420 / 120, 301 / height
        part = preprocessing.region(
            image, (30 * across, 20 * down, 80 * across, 40 * down), (20, 50))
        np.testing.assert_allclose(part, whole[20:40, 30:80], atol=2e-6)


def test_grey_and_sixteen_bits_are_fields_too():
    image = np.zeros((70, 90), np.uint16)
    image[30:37, 40:47] = 65535
    found = cells_of_field(image, lambda inputs: inputs, SQUARE, TASK)
    assert found[:, 2].tolist() == [1, 2, 3]
    np.testing.assert_allclose(found[:, :2], [[43, 33]] * 3)


def test_scales_that_do_not_fit_are_refused_and_coarse_ones_warned_of(caplog):
    assert network_scale(0.25, 0.8) == pytest.approx(0.3125)
    with caplog.at_level(logging.WARNING):
        assert network_scale(1.6, 0.8) == 2
    assert "2.0 times as coarse" in caplog.text
    for field, model in ((0, 0.8), (-1, 0.8), (0.25, float("nan")), (250, 0.8), (0.00025, 0.8)):
        with pytest.raises(InputError, match="microns"):
            network_scale(field, model)


@pytest.mark.slow
def test_a_field_of_a_hundred_million_pixels_is_no_trouble():
    cells = np.array([[500 + 1000 * x, 500 + 1000 * y] for x in range(10) for y in range(10)])
    image = np.zeros((10_000, 10_000, 3), np.uint8)
    for x, y in cells:
        image[y - 35:y + 36, x - 35:x + 36, 0] = 255
    found = cells_of_field(image, lambda inputs: inputs, SQUARE, TASK, scale=0.1)
    assert len(found) == 100 and set(found[:, 2]) == {1}
    gaps = np.hypot(*(found[:, None, :2] - cells[None]).transpose(2, 0, 1))
    assert gaps.min(0).max() < 6
