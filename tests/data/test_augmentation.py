"""Augmentation moves and exposes images, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.data.augmentation import Augmentation

STILL = {"shift": 0, "rotation": 0, "zoom": 0, "contrast": 0, "brightness": 0, "gamma": 0}


@pytest.fixture
def images():
    """Smooth images, so that sampling between pixels loses little."""
    y, x = np.mgrid[:28, :28] / 28
    phases = np.random.default_rng(0).uniform(0, 3, (6, 1, 1))
    return np.stack([0.5 + 0.4 * np.sin(4 * x + phases) * np.cos(3 * y)], -1).astype(np.float32)


def test_no_change_is_the_image_itself(images):
    np.testing.assert_allclose(Augmentation(**STILL)(images, np.random.default_rng(0)), images,
                               atol=1e-6)


def test_the_same_generator_gives_the_same_images_and_another_others(images):
    one, two, other = (Augmentation()(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == images.shape and one.dtype == np.float32
    assert np.abs(one - other).mean(axis=(1, 2, 3)).min() > 0.01


def test_turned_there_and_back_is_where_it_was(images):
    """One draw of one angle, then its opposite, over the middle of the images."""
    angle = np.full(6, 0.2)
    none = np.zeros(6)
    there = Augmentation()._moved(images, none, none, angle, none)
    back = Augmentation()._moved(there, none, none, -angle, none)
    middle = np.s_[:, 6:-6, 6:-6]
    np.testing.assert_allclose(back[middle], images[middle], atol=0.01)
    assert np.abs(there - images)[middle].max() > 0.05


def test_exposure_keeps_the_order_of_the_pixels(images):
    exposed = Augmentation(**STILL | {"contrast": 0.5, "brightness": 0.3, "gamma": 0.5})(
        images, np.random.default_rng(3))
    for before, after in zip(images, exposed, strict=True):
        order = np.argsort(before.ravel(), kind="stable")
        assert (np.diff(after.ravel()[order]) >= -1e-6).all()


@pytest.mark.parametrize("wrong", [{"shift": -0.1}, {"zoom": 1.0}, {"contrast": 1.5}])
def test_impossible_changes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)


@settings(max_examples=40)
@given(st.integers(0, 999), st.floats(0, 0.5), st.floats(0, 180), st.floats(0, 0.9))
def test_a_moved_image_is_bilinear_between_its_pixels_with_the_edge_repeated(
    seed, shift, rotation, zoom
):
    """Against the definition, pixel by pixel, on an image that is not square."""
    random = np.random.default_rng(seed)
    image = random.random((1, 9, 14, 3)).astype(np.float32)
    down, across, angle, scale = (random.uniform(-most, most, 1) for most in (
        shift, shift, np.deg2rad(rotation), zoom))
    augmentation = Augmentation(shift=max(shift, 1e-9), rotation=rotation, zoom=zoom)
    found = augmentation._moved(image, down, across, angle, scale)[0]
    y, x = np.mgrid[:9, :14] - np.array([4, 6.5])[:, None, None]
    rows = (1 + scale) * (np.cos(angle) * y - np.sin(angle) * x) + 4 + down * 9
    columns = (1 + scale) * (np.sin(angle) * y + np.cos(angle) * x) + 6.5 + across * 14
    rows, columns = rows.clip(0, 8), columns.clip(0, 13)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, 8), np.minimum(left + 1, 13)
    low, near = (rows - top)[..., None], (columns - left)[..., None]
    expected = ((image[0, top, left] * (1 - near) + image[0, top, right] * near) * (1 - low)
                + (image[0, bottom, left] * (1 - near) + image[0, bottom, right] * near) * low)
    np.testing.assert_allclose(found, expected, atol=1e-4)
