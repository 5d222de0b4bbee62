"""A fully convolutional network gives the same answers at other sizes; others are refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.errors import InputError


def test_the_copy_answers_alike_and_has_weights_of_its_own():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, padding="valid", name="first"),
        keras.layers.BatchNormalization(name="norm"), keras.layers.Conv2D(2, 1, name="last")])
    copy = models.at_any_size(model, 16)
    assert copy.input_shape == (None, None, None, 3)
    assert list(models.weights(copy)) == list(models.weights(model))
    image = np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)
    whole = model.predict(image, verbose=0)
    np.testing.assert_allclose(copy.predict(image, verbose=0), whole, atol=1e-6)
    part = copy.predict(image[:, :16, :12], verbose=0)
    np.testing.assert_allclose(part, whole[:, :14, :10], atol=1e-6)
    before = models.weights(model)["first/kernel"].copy()
    copy.set_weights([array + 1 for array in copy.get_weights()])
    np.testing.assert_array_equal(models.weights(model)["first/kernel"], before)


@pytest.mark.parametrize("side", [16, 2])
def test_layers_that_fit_one_size_are_refused(side):
    model = keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(),
        keras.layers.Dense(2)], name="flat")
    with pytest.raises(InputError, match=f"'flat' does not take {side}×{side} pixels"):
        models.at_any_size(model, side)


def test_a_map_that_meets_no_equal_one_at_the_size_is_refused():
    inputs = keras.Input((32, 32, 3))
    halved = keras.layers.UpSampling2D()(keras.layers.MaxPooling2D()(inputs))
    model = keras.Model(inputs, keras.layers.Concatenate()([inputs, halved]), name="skips")
    assert models.at_any_size(model, 18)(np.zeros((1, 18, 18, 3), np.float32)).shape[1] == 18
    with pytest.raises(InputError, match="'skips' does not take 17×17 pixels"):
        models.at_any_size(model, 17)
