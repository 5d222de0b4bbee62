"""A fully convolutional network gives the same answers at another size; others are refused."""

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
    copy = models.at_size(model, 16)
    assert copy.input_shape == (None, 16, 16, 3)
    assert list(models.weights(copy)) == list(models.weights(model))
    image = np.random.default_rng(0).random((1, 32, 32, 3)).astype(np.float32)
    whole, part = model.predict(image, verbose=0), copy.predict(image[:, :16, :16], verbose=0)
    np.testing.assert_allclose(part, whole[:, :14, :14], atol=1e-6)
    before = models.weights(model)["first/kernel"].copy()
    copy.set_weights([array + 1 for array in copy.get_weights()])
    np.testing.assert_array_equal(models.weights(model)["first/kernel"], before)


@pytest.mark.parametrize("side", [16, 2])
def test_layers_that_fit_one_size_are_refused(side):
    model = keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(),
        keras.layers.Dense(2)], name="flat")
    with pytest.raises(InputError, match=f"'flat' does not take {side}×{side} pixels"):
        models.at_size(model, side)
