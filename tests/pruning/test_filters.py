"""Structured pruning: removing dead filters changes nothing, and the rest is an ordinary model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.models.multiply_accumulates import multiply_accumulates
from cxcompress.pruning import prune_filters
from cxcompress.pruning.channels import Channels
from cxcompress.pruning.filters import filter_counts, without_channels


def silence(model, channels: Channels, gone: set[int]) -> None:
    """Make the channels that will go exactly zero wherever they are read."""
    for layer in channels.model.layers:
        if not layer.weights or layer.name in ("predictions",):
            continue
        node = layer._inbound_nodes[0]
        stays = np.zeros(channels.of_tensor[id(node.outputs[0])].size, bool)
        stays[channels.kept_of(node.outputs[0], gone)] = True
        for variable in layer.weights:
            array = variable.numpy()
            transposed = "Transpose" in type(layer).__name__ and variable.name == "kernel"
            if variable.name in ("gamma", "beta", "bias"):
                array[~stays] = 0
            elif variable.name in ("kernel", "pointwise_kernel") and not isinstance(
                    layer, keras.layers.DepthwiseConv2D):
                if transposed:
                    array[..., ~stays, :] = 0
                else:
                    array[..., ~stays] = 0
            variable.assign(array)
        # sigmoid(0) is not 0: what such a gate lets through is zero already, by its other factor.


@pytest.mark.parametrize("name", ["chain", "residual", "dense_block", "depthwise"])
def test_removing_silent_channels_changes_no_output(network, images, name):
    model = network(name, seed=2)
    channels = Channels.of(model)
    rng = np.random.default_rng(1)
    gone = set()
    for roots in channels.sets.values():
        gone |= set(map(int, rng.choice(roots, roots.size // 2, replace=False)))
    assert gone
    silence(model, channels, gone)
    smaller = without_channels(channels, gone)
    before, after = (one.predict(images[0], verbose=0) for one in (model, smaller))
    np.testing.assert_allclose(after, before, atol=2e-6)
    assert smaller.count_params() < model.count_params()


@pytest.mark.parametrize("name, scope", [("chain", "global"), ("depthwise", "layer"), *(
    pytest.param(*other, marks=pytest.mark.slow) for other in (
        ("chain", "layer"), ("residual", "layer"), ("residual", "global"),
        ("dense_block", "layer"), ("dense_block", "global"), ("depthwise", "global")))])
def test_half_the_filters_go_and_the_model_trains_saves_and_opens(
    network, images, tmp_path, name, scope
):
    model = network(name)
    weights = models.weights(model)
    smaller = prune_filters(model, 0.5, scope=scope)
    before, after = filter_counts(model), filter_counts(smaller)
    assert before.keys() == after.keys()
    assert after["predictions"] == 3
    if scope == "layer":
        for layer, count in before.items():
            assert layer == "predictions" or after[layer] == count - count // 2
    assert all(count >= 1 for count in after.values())
    assert multiply_accumulates(smaller) < multiply_accumulates(model)
    smaller.compile("adam", loss="categorical_crossentropy")
    smaller.fit(*images, verbose=0)
    smaller.save(tmp_path / "smaller.keras")
    again = models.load_model(tmp_path / "smaller.keras")
    np.testing.assert_array_equal(again.predict(images[0], verbose=0),
                                  smaller.predict(images[0], verbose=0))
    for path, array in models.weights(model).items():
        np.testing.assert_array_equal(array, weights[path])


def test_the_largest_filters_stay(network):
    model = network("chain")
    kernel = model.get_layer("conv1").kernel.numpy()
    kernel[..., [1, 4]] *= 10
    model.get_layer("conv1").kernel.assign(kernel)
    smaller = prune_filters(model, 0.75)
    np.testing.assert_array_equal(smaller.get_layer("conv1").kernel.numpy(), kernel[..., [1, 4]])
    np.testing.assert_array_equal(smaller.get_layer("conv1").bias.numpy(),
                                  model.get_layer("conv1").bias.numpy()[[1, 4]])


def test_channels_of_a_residual_stage_go_together_and_those_of_a_dense_block_alone(network):
    assert ("stem", "conv1b", "conv2b") in Channels.of(network("residual")).sets
    assert set(Channels.of(network("dense_block")).sets) == {
        ("conv0",), ("conv1",), ("conv2",), ("transition",)}
    sets = Channels.of(network("depthwise")).sets
    assert ("stem", "project") in sets and ("expand", "excite") in sets


def test_counts_are_rounded_up_to_a_multiple_and_excluded_layers_keep_theirs(network):
    model = network("chain")
    assert filter_counts(prune_filters(model, 0.5, multiple=8)) == {
        "conv1": 8, "conv2": 8, "hidden": 8, "predictions": 3}
    assert filter_counts(prune_filters(model, 0.5, exclude=["conv2"])) == {
        "conv1": 4, "conv2": 12, "hidden": 5, "predictions": 3}


@pytest.mark.parametrize("name", ["small_cxr", *(
    pytest.param(name, marks=pytest.mark.slow) for name in (
        "densenet121", "mobilenetv2", "efficientnetb0", "resnet50", "pathonet", "vgg16"))])
def test_published_networks_become_smaller_networks(name):
    model = models.build(name, (32, 32, 3), 4)
    smaller = prune_filters(model, 0.5)
    assert smaller.predict(np.zeros((1, 32, 32, 3), np.float32), verbose=0).shape == \
        model.predict(np.zeros((1, 32, 32, 3), np.float32), verbose=0).shape
    assert smaller.count_params() < 0.35 * model.count_params()


def test_what_mixes_channels_freezes_them():
    layers = keras.layers
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, name="before")(inputs)
    x = layers.LayerNormalization(name="mixes")(x)
    x = layers.Conv2D(6, 3, name="after")(x)
    x = layers.Conv2D(8, 3, groups=2, name="grouped", padding="same")(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    with pytest.raises(InputError, match="none of its filters can be removed"):
        prune_filters(model, 0.5)


def test_bad_input(network):
    model = network("chain")
    with pytest.raises(InputError, match="--sparsity 1"):
        prune_filters(model, 1.0)
    with pytest.raises(InputError, match="--exclude conv7: no layer with filters"):
        prune_filters(model, 0.5, exclude=["conv7"])
    with pytest.raises(InputError, match="--scope group"):
        prune_filters(model, 0.5, scope="group")
    with pytest.raises(InputError, match="--multiple 0"):
        prune_filters(model, 0.5, multiple=0)
    nested = keras.Sequential([keras.Input((8, 8, 1)), model])
    with pytest.raises(InputError, match="a model inside the model"):
        prune_filters(nested, 0.5)
