"""Training steps are traced once, and train as before."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress.training.compilation import compile_with_optimizer


def a_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((8,)), keras.layers.Dense(4), keras.layers.BatchNormalization(),
        keras.layers.Dense(2)])
    model.layers[0].bias.trainable = False
    return model


def fitted(model: keras.Model) -> tuple[int, list]:
    """Traces of the training step, and the weights after two epochs."""
    traces, step = [], model.train_step
    model.train_step = lambda data: (traces.append(1), step(data))[1]
    random = np.random.default_rng(0)
    model.fit(random.normal(size=(32, 8)), random.normal(size=(32, 2)), batch_size=8, epochs=2,
              shuffle=False, verbose=0)
    return len(traces), model.get_weights()


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_step_is_traced_once_and_trains_alike(policy):
    keras.config.set_dtype_policy(policy)
    try:
        ordinary, built = a_model(), a_model()
        ordinary.compile(keras.optimizers.Adam(0.1), loss="mse")
        compile_with_optimizer(built, keras.optimizers.Adam(0.1), "mse")
        twice, weights = fitted(ordinary)
        once, same = fitted(built)
    finally:
        keras.config.set_dtype_policy("float32")
    assert (twice, once) == (2, 1)
    for one, other in zip(weights, same, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    assert np.ptp(same[0]) > 0 and not np.array_equal(same[0], a_model().get_weights()[0])
