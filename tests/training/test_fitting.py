"""Fitting: labels are smoothed, fields cropped and turned with their maps, the best epoch kept."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.data.augmentation import Augmentation
from cxcompress.data.density_maps import PEAK
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.training import DensityBatches, PartBatches, fit_density
from cxcompress.training.density_fitting import turned
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


def test_eight_ways_are_eight_different_images():
    image = np.arange(27.0).reshape(3, 3, 3)
    ways = {turned(image, way).tobytes() for way in range(8)}
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
