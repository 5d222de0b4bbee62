"""Augmentation moves and exposes images, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

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
    shape = (6, 1)
    there = Augmentation._moved(images, *(value.reshape(shape) for value in
                                          (none, none, angle, none)))
    back = Augmentation._moved(there, *(value.reshape(shape) for value in
                                        (none, none, -angle, none)))
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
