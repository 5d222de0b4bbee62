"""Squared gradients against finite differences, and the bits that they move between layers."""

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.pipeline.sensitivities import squared_gradients
from cxcompress.pipeline.sharing import share_model
from cxcompress.quantization import Compression


def network(activation) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
        keras.layers.Flatten(), keras.layers.Dense(1, activation=activation, name="head")])


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return network("sigmoid")


def test_those_of_logits_are_those_of_their_probabilities(model):
    inputs = np.random.default_rng(0).random((3, 6, 6, 1), np.float32)
    logits = network(None)
    models.set_weights(logits, models.weights(model))
    assert (np.asarray(logits(inputs)) < 0).any()
    found = squared_gradients(logits, inputs, "multilabel")
    for path, expected in squared_gradients(model, inputs, "multilabel").items():
        np.testing.assert_allclose(found[path], expected, rtol=1e-4)


def test_they_are_squared_changes_of_log_odds(model):
    """With one output its sign does not matter, so one projection is exact."""
    inputs = np.random.default_rng(0).random((3, 6, 6, 1), np.float32)
    found = squared_gradients(model, inputs, "multilabel")
    assert {path: array.shape for path, array in found.items()} == {
        kernel.path: kernel.variable.shape for kernel in models.kernels(model)}
    weights = models.weights(model)
    path, place, move = "conv/kernel", (1, 2, 0, 3), 1e-2

    def log_odds(change: float) -> np.ndarray:
        array = weights[path].copy()
        array[place] += change
        models.set_weights(model, weights | {path: array})
        outputs = np.asarray(model(inputs), np.float64)
        models.set_weights(model, weights)
        return np.log(outputs / (1 - outputs)).ravel()

    slope = (log_odds(move) - log_odds(-move)) / (2 * move)
    assert found[path][place] == pytest.approx(np.mean(slope**2), rel=1e-2)
    np.testing.assert_array_equal(squared_gradients(model, inputs, "multilabel")[path],
                                  found[path])


def test_layers_that_matter_more_get_smaller_steps_and_a_total_that_is_reached():
    random = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(40, name="a"),
                              keras.layers.Dense(50, name="b")])
    for layer in model.layers:
        layer.set_weights([random.laplace(size=layer.kernel.shape), *layer.get_weights()[1:]])
    compression = Compression.parse("TCQ", sqnr_db=20)
    alike = share_model(model, compression)
    assert alike.codebooks["a/kernel"].step == pytest.approx(alike.codebooks["b/kernel"].step)
    weight = {"a/kernel": np.full((30, 40), 9.0), "b/kernel": np.full((40, 50), 1.0)}
    unlike = share_model(model, compression, sample_weight=weight)
    assert unlike.codebooks["b/kernel"].step == pytest.approx(
        3 * unlike.codebooks["a/kernel"].step, rel=1e-5)
    kernels = {path: models.weights(model)[path] for path in weight}
    for shared, own in ((alike, dict.fromkeys(weight, 1.0)), (unlike, {
            "a/kernel": 9.0, "b/kernel": 1.0})):
        signal = sum(own[path] * np.square(kernels[path]).sum() for path in kernels)
        noise = sum(own[path] * np.square(kernels[path] - shared.kernel(path)).sum()
                    for path in kernels)
        assert 10 * np.log10(signal / noise) == pytest.approx(20, abs=0.5)
        for codebook in shared.codebooks.values():
            assert codebook.grid_integers is not None and codebook.k % 2 == 1


def test_importance_needs_images_and_steps_that_may_differ(model):
    from cxcompress.pipeline import compress

    with pytest.raises(InputError, match="--sensitivity fisher needs images"):
        compress(model, None, "uCWS", importance="fisher")
    with pytest.raises(InputError, match="take TCQ with --sqnr"):
        share_model(model, Compression.parse("uTCQ"),
                    sample_weight={"conv/kernel": np.ones((3, 3, 1, 4))})
