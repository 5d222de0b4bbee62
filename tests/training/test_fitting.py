"""Fitting: labels are smoothed, fields cropped and turned with their maps, the best epoch kept."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import ndimage

from cxcompress.data import open_collection
from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Part
from cxcompress.data.density_maps import PEAK
from cxcompress.data.orientations import oriented
from cxcompress.data.stain_augmentation import StainAugmentation
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.training import DensityBatches, PartBatches, fit_density
from cxcompress.training.fitting import smoothed

SQUARE = Preprocessing.preset("0-1", 64, 3)


@pytest.fixture(scope="module")
def fields():
    return open_collection("synthetic:ki67_64", count=40)


def test_smoothed_labels_keep_their_sum_and_order():
    one_hot = np.eye(3, dtype=np.float32)[[0, 2, 1]]
    np.testing.assert_allclose(smoothed(one_hot, 0.3).sum(1), 1)
    assert (smoothed(one_hot, 0.3).argmax(1) == one_hot.argmax(1)).all()
    many = np.array([[1, 1, 0], [0, np.nan, 0]], np.float32)
    np.testing.assert_allclose(smoothed(many, 0.2),
                               [[0.9, 0.9, 0.1], [0.1, np.nan, 0.1]], atol=1e-6)
    assert smoothed(many, 0) is many


def test_augmented_batches_repeat_for_an_epoch_and_differ_between_epochs(fields):
    part = open_collection("synthetic:cxr_64", count=150).train
    grey = Preprocessing.preset("0-1", 64, 1)
    one, two = (PartBatches(part, grey, 8, 3, Augmentation()) for _ in range(2))
    np.testing.assert_array_equal(one[0][0], two[0][0])
    one.on_epoch_begin()
    assert not np.array_equal(np.sort(one[0][0].ravel()), np.sort(two[0][0].ravel()))


@pytest.mark.parametrize("crop", [None, 32])
def test_maps_move_with_their_fields(fields, crop):
    """Peaks stay on the same pixels of the field, whatever was cut out and turned."""
    plain = DensityBatches(fields.train, SQUARE, 4)
    moved = DensityBatches(fields.train, SQUARE, 4, seed=5, augment=True, crop=crop)
    moved.order = plain.order
    inputs, maps = moved[0]
    assert inputs.shape[1:] == maps.shape[1:] == (crop or 64, crop or 64, 3)
    colours = {}  # colour of each pixel that holds a peak, over whole fields
    whole, drawn = plain[0]
    for image, peaks in zip(whole, drawn, strict=True):
        for colour in image[(peaks == PEAK).any(-1)]:
            colours[tuple(colour)] = True
    found = [tuple(colour) for image, peaks in zip(inputs, maps, strict=True)
             for colour in image[(peaks == PEAK).any(-1)]]
    assert found and all(colour in colours for colour in found)


def test_zoomed_maps_stay_on_their_nuclei():
    """White squares on black: after any zoom the peaks lie on white."""
    cells = np.array([[20 + 24 * x, 20 + 24 * y, 1 + (x + y) % 3]
                      for x in range(5) for y in range(5)])
    image = np.zeros((128, 128, 3), np.uint8)
    for x, y, _ in cells:
        image[y - 3:y + 4, x - 3:x + 4] = 255
    part = Part([image] * 6, [cells] * 6, np.arange(6).astype(str), np.arange(6).astype(str))
    batches = DensityBatches(part, Preprocessing.preset("0-1", 128, 3), 6, seed=1,
                             augment=True, crop=64, zoom=1.6)
    inputs, maps = batches[0]
    peaks = (maps == PEAK).any(-1)
    assert peaks.sum() > 12 and (inputs[peaks] > 0.5).all()
    # A square that is seen wholly is 49 pixels at scale 1, and up to 1.6 times as wide or narrow.
    areas = [np.bincount(ndimage.label(one > 0.5)[0].ravel())[1:].max() for one in inputs[..., 0]]
    assert max(areas) > 60 and min(areas) < 45


def test_stain_changes_and_nuclei_do_not():
    fields = open_collection("synthetic:ki67_64", count=24).train
    plain, stained = (DensityBatches(fields, SQUARE, 8, seed=2, stain=stain)
                      for stain in (None, StainAugmentation()))
    (inputs, maps), (changed, same) = plain[0], stained[0]
    np.testing.assert_array_equal(maps, same)
    assert changed.dtype == np.float32 and 0 <= changed.min() and changed.max() <= 1
    for before, after in zip(inputs, changed, strict=True):
        assert np.abs(before - after).mean() > 0.005
        # What was dark stays dark: the picture is the same one.
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.7
    calm = StainAugmentation(0, 0, 0, 0, 0)
    np.testing.assert_allclose(calm(inputs[0], np.random.default_rng(0)),
                               np.maximum(inputs[0], 1 / 255), atol=1e-5)


def test_the_papers_recipe_steps_down_twice(fields):
    from cxcompress.training.density_fitting import _schedule

    rates = [float(_schedule("paper", 0.01, 30)(step)) for step in (0, 10, 11, 20, 21, 29)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-5)
    with pytest.raises(ValueError, match="recipe"):
        _schedule("other", 0.01, 30)


def test_eight_ways_are_eight_different_images():
    image = np.arange(27.0).reshape(3, 3, 3)
    ways = {oriented(image, way).tobytes() for way in range(8)}
    assert len(ways) == 8


def test_density_fitting_lowers_the_validation_loss(fields):
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 5, padding="same", activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1, activation="relu")(x))
    history = fit_density(model, fields, SQUARE, epochs=4, learning_rate=0.02, batch_size=8,
                          crop=32)
    assert min(history["val_loss"]) < history["val_loss"][0]


def test_fields_that_cannot_be_cropped_are_refused(fields):
    with pytest.raises(InputError, match="--crop 96"):
        fit_density(None, fields, SQUARE, crop=96)
    with pytest.raises(InputError, match="annotated nuclei"):
        fit_density(None, open_collection("synthetic:cxr_64", count=150), SQUARE)
