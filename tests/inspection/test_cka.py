"""CKA: the definition, its invariances, and what it refuses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.errors import InputError
from cxcompress.inspection.cka import hsic1, layers_to_compare, similarity
from cxcompress.inspection.features import feature_maps, filters_of

L = keras.layers


def network(seed=0, width=6) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.Sequential([
        keras.Input((8, 8, 1)), L.Conv2D(width, 3, name="conv1"), L.ReLU(name="relu1"),
        L.DepthwiseConv2D(3, name="depthwise"), L.Dropout(0.5, name="dropout"),
        L.Flatten(name="flatten"), L.Dense(3, activation="softmax", name="out")], name=f"n{seed}")


def batches(count=6, size=8, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random((size, 8, 8, 1), np.float32) for _ in range(count)]


@settings(max_examples=20)
@given(n=st.integers(4, 12), seed=st.integers(0, 99))
def test_hsic1_is_the_published_sum(n, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 5)), rng.normal(size=(n, 3)) + 7
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    expected = (np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
                - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))
    assert hsic1(x @ x.T, y @ y.T) == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_hsic1_of_unrelated_features_is_zero_on_average():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2_000):
        x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
        found.append(hsic1(x @ x.T, y @ y.T))
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_the_map_equals_the_definition_from_the_activations():
    one, other, data = network(0), network(1, width=4), batches()
    found = similarity(one, other, data)
    assert found.layers == (("conv1", "relu1", "depthwise", "out"),) * 2
    assert (found.images, found.batch_size) == (48, 8)

    def activations(model, name, x):
        part = keras.Model(model.inputs[0], model.get_layer(name).output)
        return np.asarray(part(x), np.float64).reshape(len(x), -1)

    for i, a in enumerate(found.layers[0]):
        for j, b in enumerate(found.layers[1]):
            sums = np.zeros(3)
            for x in data:
                p, q = activations(one, a, x), activations(other, b, x)
                k, m = p @ p.T, q @ q.T
                sums += hsic1(k, m), hsic1(k, k), hsic1(m, m)
            assert found.values[i, j] == pytest.approx(
                sums[0] / np.sqrt(sums[1] * sums[2]), abs=2e-4)


def test_a_model_with_itself_is_symmetric_with_ones_on_the_diagonal():
    model, data = network(), batches()
    itself = similarity(model, None, data).values
    np.testing.assert_allclose(np.diag(itself), 1, atol=1e-6)
    np.testing.assert_allclose(itself, itself.T, atol=1e-12)
    np.testing.assert_allclose(similarity(model, model, data).values, itself, atol=1e-6)
    assert itself.max() <= 1 + 1e-6
    # Layers behind a ReLU are layers of their own: nothing is overwritten in place.
    assert itself[0, 1] < 0.999


def test_scale_rotation_and_shift_of_features_do_not_matter():
    one = network()
    turned = network()
    turned.set_weights(one.get_weights())
    kernel, bias = one.get_layer("conv1").get_weights()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
    turned.get_layer("conv1").set_weights([3 * kernel @ rotation, bias + 5])
    value = similarity(one, turned, batches(), ["conv1"]).values
    assert value == pytest.approx(np.ones((1, 1)), abs=1e-4)


def test_small_batches_unknown_layers_and_other_inputs_are_refused():
    model = network()
    with pytest.raises(InputError, match="a batch of 3 images: unbiased CKA needs at least 4"):
        similarity(model, None, batches(size=3))
    with pytest.raises(InputError, match="a batch of 0 images"):
        similarity(model, None, [])
    with pytest.raises(InputError, match="--layers conv9: model 'n0' has no such layer; it has"):
        similarity(model, None, batches(), ["conv9"])
    wide = keras.Sequential([keras.Input((9, 9, 1)), L.Conv2D(2, 3, name="conv1")])
    with pytest.raises(InputError, match="compares what two models make of the same images"):
        similarity(model, wide, batches())
    broken = network()
    broken.get_layer("out").bias.assign([np.nan, 0, 0])
    with pytest.raises(InputError, match="layer out: its activations hold NaN"):
        similarity(broken, None, batches())
    uneven = [*batches(), *batches(1, 3)]
    assert similarity(model, None, uneven).images == 48


def test_a_layer_that_is_constant_is_like_nothing():
    model = network()
    model.get_layer("depthwise").kernel.assign(np.zeros((3, 3, 6, 1)))
    values = similarity(model, None, batches()).values
    assert (values[2, :2] == 0).all() and np.isfinite(values).all()


def test_filters_and_feature_maps():
    model = network()
    assert layers_to_compare(model) == ["conv1", "relu1", "depthwise", "out"]
    kernel = model.get_layer("conv1").kernel.numpy()
    np.testing.assert_allclose(filters_of(model, "conv1")[4], kernel[..., 0, 4])
    assert filters_of(model, "depthwise").shape == (6, 3, 3)
    image = batches(1, 1)[0][0]
    maps = feature_maps(model, "relu1", image)
    assert maps.shape == (6, 6, 6) and maps.min() >= 0
    expected = np.maximum((kernel[..., 0, 2] * image[2:5, 1:4, 0]).sum(), 0)
    assert maps[2, 2, 1] == pytest.approx(float(expected), abs=1e-5)
    for layer, call in (("out", filters_of), ("conv9", filters_of)):
        with pytest.raises(InputError, match=f"--features {layer}"):
            call(model, layer)
    with pytest.raises(InputError, match="--features out: its output has shape"):
        feature_maps(model, "out", image)
