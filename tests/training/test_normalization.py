"""BatchNormalization statistics estimated anew: what they are, and what they leave alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress.training.normalization import estimate_statistics, normalizations


class Inputs(keras.utils.PyDataset):
    """Batches of given arrays, without labels."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, position):
        return self.arrays[position]


def network(frozen=False):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inner = keras.Sequential([
        keras.Input((6, 6, 4)), layers.Dropout(0.5), layers.Conv2D(5, 3, name="conv2"),
        layers.BatchNormalization(name="norm2")], name="inner")
    return keras.Sequential([
        keras.Input((8, 8, 1)), layers.Conv2D(4, 3, name="conv1"),
        layers.BatchNormalization(name="norm1", trainable=not frozen), layers.ReLU(), inner])


def draw(count=3):
    rng = np.random.default_rng(0)
    return [rng.normal(size, 1 + size, (6, 8, 8, 1)).astype(np.float32) for size in range(count)]


def test_statistics_are_those_of_all_the_data_together():
    model, batches = network(), draw()
    estimate_statistics(model, Inputs(*batches))
    before_norm = keras.Model(model.inputs, model.layers[0].output)
    values = np.concatenate([before_norm(batch) for batch in batches]).reshape(-1, 4)
    norm = model.get_layer("norm1")
    np.testing.assert_allclose(norm.moving_mean, values.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, values.var(0), rtol=1e-4)


def test_deeper_layers_see_shallower_ones_normalised_and_no_dropout():
    model, (batch,) = network(), draw(1)
    model.get_layer("conv1").kernel.assign(50 * model.get_layer("conv1").kernel)
    estimate_statistics(model, Inputs(batch))
    outputs = np.asarray(model(batch)).reshape(-1, 5)  # with one batch: normalised exactly
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(outputs.std(0), 1, atol=2e-3)
    inner = model.get_layer("inner")
    assert [layer.momentum for layer in normalizations(model)] == [0.99, 0.99]
    assert inner.layers[0].rate == 0.5


def test_frozen_layers_and_all_other_weights_stay():
    model = network(frozen=True)
    before = {id(variable): np.array(variable) for variable in model.variables}
    estimate_statistics(model, Inputs(*draw()))
    norm2 = model.get_layer("inner").get_layer("norm2")
    moved = {id(variable) for variable in model.variables
             if variable.dtype == "float32"
             and not np.array_equal(variable, before[id(variable)])}
    assert moved == {id(norm2.moving_mean), id(norm2.moving_variance)}


def test_no_batches_are_an_error():
    with pytest.raises(ValueError, match="no batches"):
        estimate_statistics(network(), Inputs())
