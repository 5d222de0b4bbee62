"""Maps add up to the logits exactly; a network without such a head gets occlusion."""

import numpy as np
import pytest

import cxcompress
from cxcompress.errors import InputError
from cxcompress.runtime import load
from cxcompress.runtime.activation_maps import activation_maps, occlusion_map


def test_the_mean_of_a_map_and_the_bias_is_the_logit(compressed):
    path, _, _ = compressed
    inputs = np.random.default_rng(3).random((4, 16, 16, 1)).astype(np.float32)
    maps = activation_maps(path)
    found = maps.of(inputs)
    assert found.shape == (4, 6, 6, 3)
    logits = found.mean(axis=(1, 2)) + maps.bias
    outputs = load(path, "float32").predict(inputs)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), outputs, atol=1e-5)
    with pytest.raises(InputError, match="takes inputs of shape"):
        maps.of(inputs[:, :8])


def test_a_map_says_which_place_a_network_looks_at(compressed, tmp_path):
    """What changes in one corner changes the map there and leaves the far corner as it was."""
    path, _, _ = compressed
    one = np.full((1, 16, 16, 1), 0.5, np.float32)
    changed = one.copy()
    changed[0, :3, :3] = 1
    difference = np.abs(activation_maps(path).of(changed) - activation_maps(path).of(one))[0]
    assert difference[0, 0].max() > 1e-4
    np.testing.assert_allclose(difference[3:, 3:], 0, atol=1e-6)


def test_occlusion_is_what_hiding_a_part_takes_from_the_output(compressed):
    path, _, _ = compressed
    model = load(path, "float32")
    one = np.random.default_rng(0).random((16, 16, 1)).astype(np.float32)
    found = occlusion_map(model, one, column=1, grid=4)
    assert found.shape == (4, 4)
    hidden = one.copy()
    hidden[4:8, 12:16] = one.mean()
    expected = model.predict(one[None])[0, 1] - model.predict(hidden[None])[0, 1]
    np.testing.assert_allclose(found[1, 3], expected, atol=1e-6)


def test_networks_without_an_averaged_head_have_no_map(tmp_path):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(),
                              layers.Dense(2)])
    result = cxcompress.compress(model, None, "uUQ", k=16, sensitivity=False)
    result.save(tmp_path / "flat.h5")
    assert activation_maps(tmp_path / "flat.h5") is None
