"""Grad-CAM against its definition, against the runtime's exact maps, and where it cannot be."""

import keras
import numpy as np
import pytest
from keras import layers

import cxcompress
from cxcompress.errors import InputError
from cxcompress.inspection.grad_cam import feature_layer, grad_cam
from cxcompress.runtime.activation_maps import activation_maps


def network(head=("pool", "dense"), activation="sigmoid"):
    keras.utils.set_random_seed(2)
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(6, 3, activation="relu", name="conv1")(inputs)
    x = layers.Conv2D(5, 3, strides=2, activation="relu", name="conv2")(x)
    x = layers.GlobalAveragePooling2D()(x) if "pool" in head else layers.Flatten()(x)
    if "hidden" in head:
        x = layers.Dense(7, activation="relu")(x)
    x = layers.Dense(3, activation=None if "apart" in head else activation)(x)
    if "apart" in head:
        x = layers.Activation(activation)(x)
    return keras.Model(inputs, x)


@pytest.fixture
def images():
    return np.random.default_rng(1).random((5, 12, 12, 1)).astype(np.float32)


def test_of_an_averaged_head_it_is_the_positive_part_of_the_class_activation_map(images, tmp_path):
    model = network()
    cxcompress.compress(model, compression="uCWS", k=256, plans=("float32",)).save(
        tmp_path / "model.h5")
    opened = cxcompress.models.load_model(tmp_path / "model.h5")
    exact = np.maximum(activation_maps(tmp_path / "model.h5").of(images), 0)
    places = exact.shape[1] * exact.shape[2]
    found = grad_cam(opened, images)
    assert found.shape == exact.shape and found.max() > 0
    np.testing.assert_allclose(found, exact / places, atol=1e-6)


@pytest.mark.parametrize("layer", [None, "conv1"])
def test_weights_are_the_mean_gradients_of_the_logit(images, layer):
    model = network(("flat", "hidden"))
    found = grad_cam(model, images, [1], layer)
    # The gradient once more, by nudging every channel of the feature map as a whole.
    layer = layer or feature_layer(model)
    features = keras.Model(model.inputs[0], model.get_layer(layer).output)(images).numpy()
    first = [one.name for one in model.layers].index(layer) + 1

    def logit(maps):
        for one in model.layers[first:-1]:
            maps = one(maps)
        return (maps @ model.layers[-1].kernel + model.layers[-1].bias).numpy()[:, 1]

    weights = np.empty((5, features.shape[-1]))
    for channel in range(features.shape[-1]):
        nudge = np.zeros(features.shape[-1], np.float32)
        nudge[channel] = 1e-3
        weights[:, channel] = (logit(features + nudge) - logit(features - nudge)) / 2e-3
    weights /= features.shape[1] * features.shape[2]
    expected = np.maximum(np.einsum("nhwc,nc->nhw", features, weights), 0)
    assert expected.max() > 0
    # A nudge may cross a ReLU's bend; most places must agree.
    np.testing.assert_allclose(found[..., 0], expected, atol=0.05 * expected.max())


def test_a_last_activation_of_its_own_is_seen_through(images):
    np.testing.assert_allclose(grad_cam(network(activation="softmax"), images),
                               grad_cam(network(("pool", "apart"), "softmax"), images), atol=1e-6)


def test_what_has_no_feature_maps_is_refused(images):
    model = keras.Sequential([keras.Input((12, 12, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(InputError, match="nothing says where it looks"):
        grad_cam(model, images)
    with pytest.raises(InputError, match="no such layer"):
        grad_cam(network(), images, layer="conv9")
    flat = network()
    with pytest.raises(InputError, match="not height"):
        grad_cam(flat, images, layer=flat.layers[-1].name)
    maps = keras.Sequential([keras.Input((12, 12, 1)), layers.Conv2D(2, 3)])
    with pytest.raises(InputError, match="one output of classes"):
        grad_cam(maps, images)
