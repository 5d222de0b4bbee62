"""Channels scaled by how much they matter: the same answers, and less error for the same bytes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from cxcompress import models
from cxcompress.pipeline.channel_scales import EXPONENT, MOST, with_scaled_channels
from cxcompress.pipeline.sensitivities import squared_gradients
from cxcompress.pipeline.sharing import share_model
from cxcompress.quantization import Compression
from cxcompress.quantization.quality import quality
from tests.pipeline.test_batch_normalization import PARTS, normalised  # noqa: F401
from tests.pipeline.test_compressing import collection, compress


def with_drawn_weights(model: keras.Model) -> keras.Model:
    """Statistics, scales and biases that matter, and output channels of different spread."""
    random = np.random.default_rng(1)
    drawn = {}
    for path, array in models.weights(model).items():
        values = random.normal(size=array.shape)
        if path.endswith("variance"):
            values = np.exp(values)
        elif path.startswith("head"):
            values *= 0.1  # no probability of nearly 0 or 1
        elif path.endswith("kernel"):
            values *= np.exp(random.normal(size=array.shape[-1])) / np.sqrt(array[..., 0].size)
        drawn[path] = values.astype(array.dtype)
    models.set_weights(model, drawn)
    return model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """What may be scaled: `plain`, `pooled`, `nested` and `dense`; what may not: all others."""
    def block(x, name, scale=True, **more):
        return layers.BatchNormalization(name=f"{name}_bn", scale=scale)(
            layers.Conv2D(6, 3, padding="same", name=name, **more)(x))

    inside = keras.Input((12, 12, 6))
    nested = keras.Model(inside, layers.ReLU()(block(inside, "nested")), name="inner")
    image = keras.Input((12, 12, 2))
    x = layers.ReLU()(block(image, "plain"))
    x = layers.ReLU()(block(x, "unscaled", scale=False))
    x = block(x, "activated", activation="tanh")
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="pooled")(x)
    x = layers.Dropout(0.5)(layers.LeakyReLU()(layers.MaxPooling2D(2, 1, "same")(x)))
    x = layers.BatchNormalization(name="pooled_bn")(x)
    x = layers.BatchNormalization(name="capped_bn")(layers.ReLU(6.0)(
        layers.Conv2D(6, 3, padding="same", name="capped")(x)))
    twice = layers.Conv2D(6, 3, padding="same", name="twice")(x)
    x = layers.Add()([layers.BatchNormalization(name="twice_bn")(twice), twice])
    x = layers.BatchNormalization(name="depthwise_bn")(
        layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    shared = layers.BatchNormalization(name="shared_bn")
    x = layers.Add()([shared(layers.Conv2D(6, 1, name="first")(x)),
                      shared(layers.Conv2D(6, 1, name="second")(x))])
    x = layers.GlobalAveragePooling2D()(nested(x))
    x = layers.ReLU()(layers.BatchNormalization(name="dense_bn")(
        layers.Dense(8, use_bias=False, name="dense")(x)))
    outputs = layers.Dense(3, activation="softmax", name="head")(x)
    return with_drawn_weights(keras.Model(image, outputs))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(32, 12, 12, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def squared(network, images) -> dict[str, np.ndarray]:
    return squared_gradients(network, images, "multiclass")


def test_the_network_answers_as_before_and_only_what_may_be_scaled_is(network, images, squared):
    before = models.weights(network)
    scaled, _, count = with_scaled_channels(network, squared)
    np.testing.assert_allclose(scaled(images).numpy(), network(images).numpy(), atol=1e-5)
    after = models.weights(scaled)
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert {path for path in changed if path.endswith("kernel")} == {
        "plain/kernel", "pooled/kernel", "inner/nested/kernel", "dense/kernel"}
    assert count == 6 + 6 + 6 + 8
    for path, array in models.weights(network).items():
        np.testing.assert_array_equal(array, before[path])  # the caller's model is left alone


def test_scales_follow_the_gradients(network, squared):
    scaled, importance, _ = with_scaled_channels(network, squared)
    path = "plain/kernel"
    scale = (models.weights(scaled)[path] / models.weights(network)[path]).mean(axis=(0, 1, 2))
    means = squared[path].mean(axis=(0, 1, 2))
    order = np.argsort(means)
    assert (np.diff(scale[order]) >= 0).all() and scale.max() > 1 > scale.min()
    ratio = scale[order[-1]] / scale[order[-2]]
    assert ratio == pytest.approx((means[order[-1]] / means[order[-2]]) ** EXPONENT, rel=1e-3)
    # A weight that is s times as large moves the outputs 1 / s as much.
    np.testing.assert_allclose(importance[path], squared[path] / scale**2, rtol=1e-4)
    np.testing.assert_array_equal(importance["head/kernel"], squared["head/kernel"])


def test_no_channel_is_scaled_beyond_the_limit_and_dead_layers_stay(network, squared):
    spread = np.broadcast_to(np.float32([1e-6, 1, 1e-6, 1, 1e-6, 1]),
                             squared["plain/kernel"].shape)
    extreme = squared | {"plain/kernel": spread,
                         "dense/kernel": np.zeros_like(squared["dense/kernel"])}
    scaled, _, _ = with_scaled_channels(network, extreme)
    before, after = models.weights(network), models.weights(scaled)
    scale = (after["plain/kernel"] / before["plain/kernel"]).mean(axis=(0, 1, 2))
    assert scale.min() == pytest.approx(1 / MOST) and scale.max() == pytest.approx(MOST)
    np.testing.assert_array_equal(after["dense/kernel"], before["dense/kernel"])


def test_a_variance_of_no_data_is_left_alone(network, squared):
    model = keras.models.clone_model(network)
    weights = models.weights(network)
    weights["plain_bn/moving_variance"] = weights["plain_bn/moving_variance"] * np.float32(-1)
    models.set_weights(model, weights)
    scaled, _, count = with_scaled_channels(model, squared)
    assert count == 6 + 6 + 8
    np.testing.assert_array_equal(models.weights(scaled)["plain/kernel"], weights["plain/kernel"])


def test_a_trellis_of_the_same_bits_moves_the_outputs_less(network, squared):
    def cost(model: keras.Model, importance) -> tuple[float, float]:
        """What rounding does to the outputs, to first order, in dB; entropy in bits a weight."""
        weights = models.weights(model)
        shared = share_model(model, Compression.parse("TCQ", sqnr_db=22), 0, importance)
        moved = sum(np.sum(importance[path] * np.square(shared.kernel(path) - weights[path]))
                    for path in shared.kernels)
        kernels = shared.kernels.items()
        bits = [quality(weights[path], kernel.indices, shared.codebooks[kernel.codebook])
                .entropy_bits for path, kernel in kernels]
        return 10 * np.log10(moved), np.average(
            bits, weights=[kernel.indices.size for _, kernel in kernels])

    plain, bits = cost(network, squared)
    scaled, fewer_bits = cost(*with_scaled_channels(network, squared)[:2])
    assert scaled - plain + 6.02 * (fewer_bits - bits) < -0.5  # dB at equal bits


def test_a_compressed_file_holds_the_scaled_network_and_says_so(normalised):  # noqa: F811
    before = {path: array.copy() for path, array in models.weights(normalised).items()}
    data, compression = collection(parts=PARTS), Compression.parse("TCQ", sqnr_db=25)
    fisher, channels = (compress(normalised, data, compression, preprocessing="0-1",
                                 sensitivity=False, importance=importance)
                        for importance in ("fisher", "channels"))
    assert any("24 output channels scaled" in note for note in channels.notes)
    assert channels.container.card.provenance["sensitivity"] == "channels"
    gamma = next(path for path in before if path.endswith("gamma"))
    gammas = [result.container.shared.unshared[gamma] for result in (fisher, channels)]
    assert not np.allclose(*gammas)
    for metric, estimate in fisher.before.items():  # the original answers as before
        assert channels.before[metric].value == pytest.approx(estimate.value, rel=1e-3, nan_ok=True)
    assert channels.after["cross_entropy"].value < channels.before["cross_entropy"].value + 0.01
    for path, array in models.weights(normalised).items():
        np.testing.assert_array_equal(array, before[path])
