from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from cxcompress import models
from cxcompress.errors import InputError


def nested_model():
    """Every kind of kernel; an eagerly and a lazily built inner model; a layer used twice."""
    def inner(name, start):
        return keras.Sequential(
            [*start, layers.Conv2D(4, 3, padding="same", name="c"),
             layers.BatchNormalization(name="bn"), layers.Dropout(0.5, name="drop")], name=name)
    images = keras.Input((8, 8, 4), name="image")
    x = inner("eager", [layers.Input((8, 8, 4))])(images)
    x = inner("lazy", [])(x)
    twice = layers.Conv2D(4, 1, name="twice")
    x = layers.Add(name="add")([twice(x), twice(images)])
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2DTranspose(3, 2, name="up")(x)
    x = layers.Reshape((-1, 3), name="tokens")(x)
    x = layers.MultiHeadAttention(1, 2, name="mha")(x, x)
    x = layers.LSTM(3, name="lstm")(x)
    return keras.Model(images, layers.Dense(2, name="out")(x), name="nested")


def test_families_paths_and_order():
    found = [(kernel.path, kernel.family, kernel.layer_name)
             for kernel in models.kernels(nested_model())]
    expected = [
        ("eager/c/kernel", "conv"), ("lazy/c/kernel", "conv"), ("twice/kernel", "conv"),
        ("separable/depthwise_kernel", "depthwise"), ("separable/pointwise_kernel", "conv"),
        ("depthwise/kernel", "depthwise"), ("up/kernel", "conv"), ("mha/query/kernel", "dense"),
        ("mha/key/kernel", "dense"), ("mha/value/kernel", "dense"),
        ("mha/attention_output/kernel", "dense"), ("out/kernel", "dense"),
    ]
    assert {(path, family) for path, family, _ in found} == set(expected)
    assert [path for path, *_ in found][-1] == "out/kernel"
    assert all(path.rpartition("/")[0] == layer for path, _, layer in found)


def test_paths_do_not_depend_on_how_the_model_came_to_be(tmp_path):
    model = nested_model()
    paths = set(models.variables_by_path(model))
    assert len(paths) == len(model.weights)
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    again = [
        keras.models.load_model(tmp_path / "m.keras", compile=False),
        keras.models.load_model(tmp_path / "m.h5", compile=False),
        keras.models.model_from_json(model.to_json()),
        nested_model(),
    ]
    for other in again:
        assert set(models.variables_by_path(other)) == paths
    lazily_built = keras.Sequential([layers.Dense(2, name="d")])
    lazily_built.build((None, 3))
    assert list(models.variables_by_path(lazily_built)) == ["d/kernel", "d/bias"]


def test_weights_round_trip_into_a_new_model():
    model, other = nested_model(), nested_model()
    images = np.random.default_rng(0).random((3, 8, 8, 4), np.float32)
    assert not np.array_equal(model(images), other(images))
    arrays = models.weights(model)
    models.set_weights(other, arrays)
    np.testing.assert_array_equal(model(images), other(images))
    arrays["out/kernel"][:] = 0  # copies: the model keeps its own
    assert models.weights(model)["out/kernel"].any()


def test_states_of_generators_metrics_and_optimizers_are_not_weights():
    model = models.build("small_cxr", (16, 16, 1), 2)
    before = set(models.variables_by_path(model))
    model.compile("adam", "mse", metrics=["mae"])
    model.train_on_batch(np.zeros((2, 16, 16, 1)), np.zeros((2, 2)))
    assert set(models.variables_by_path(model)) == before
    assert not [path for path in before if "seed" in path]


def test_set_weights_is_strict():
    model = models.build("small_cxr", (16, 16, 1), 2)
    arrays = models.weights(model)
    missing = dict(arrays)
    del missing["stem/kernel"]
    with pytest.raises(InputError, match="no weights for stem/kernel"):
        models.set_weights(model, missing)
    with pytest.raises(InputError, match="no variable named other/kernel"):
        models.set_weights(model, arrays | {"other/kernel": arrays["stem/kernel"]})
    with pytest.raises(InputError, match=r"stem/kernel has shape \(3, 3, 1, 24\).*\(9, 24\)"):
        models.set_weights(model, arrays | {"stem/kernel": np.zeros((9, 24), np.float32)})
    for path, array in models.weights(model).items():
        np.testing.assert_array_equal(array, arrays[path])


@keras.saving.register_keras_serializable("test_kernels")
class Twins(layers.Layer):
    """A composite layer whose two parts have the same name."""

    def build(self, shape):
        self.first, self.second = layers.Dense(3, name="part"), layers.Dense(3, name="part")
        self.first.build(shape)
        self.second.build((*shape[:-1], 3))

    def call(self, x):
        return self.second(self.first(x))


def test_coinciding_paths_get_a_stable_suffix():
    model = keras.Sequential([layers.Input((2,)), Twins(name="twins")])
    paths = {"twins/part/kernel", "twins/part/bias", "twins/part/kernel_1", "twins/part/bias_1"}
    assert set(models.variables_by_path(model)) == paths
    again = keras.models.model_from_json(models.architecture_json(model))
    models.set_weights(again, models.weights(model))
    np.testing.assert_array_equal(again(np.ones((1, 2))), model(np.ones((1, 2))))


def test_nothing_to_compress():
    pool = keras.Sequential([layers.Input((4, 4, 1)), layers.BatchNormalization(),
                             layers.GlobalAveragePooling2D()])
    with pytest.raises(InputError, match="no convolution and no dense layer"):
        models.kernels(pool)
    with pytest.raises(InputError, match="is not built"):
        models.kernels(keras.Sequential([layers.Dense(2)]))
