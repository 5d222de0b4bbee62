"""What a model says of its input's scale and its output's kind."""

from __future__ import annotations

import keras
import pytest

from cxcompress.models.ends import gives_logits, rescales_input


def network(*layers):
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


@pytest.mark.parametrize(("layers", "expected"), [
    ((keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(2, 3)), True),
    ((keras.layers.Conv2D(2, 3), keras.layers.Rescaling(2.0)), False),
    ((keras.layers.Dropout(0.1), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(2, 3)), True),
])
def test_rescaling_counts_only_before_the_first_kernel(layers, expected):
    assert rescales_input(network(*layers)) is expected


def test_rescaling_inside_a_nested_model_is_seen():
    inner = network(keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(2, 3))
    assert rescales_input(keras.Sequential([keras.Input((8, 8, 1)), inner]))


@pytest.mark.parametrize(("last", "expected"), [
    (keras.layers.Dense(2), True), (keras.layers.Dense(2, activation="softmax"), False),
    (keras.layers.Dense(1, activation="sigmoid"), False), (keras.layers.Softmax(), False),
    (keras.layers.Activation("sigmoid"), False), (keras.layers.Dense(2, activation="relu"), None),
    (keras.layers.Flatten(), None),
])
def test_the_last_layer_says_whether_outputs_are_logits(last, expected):
    assert gives_logits(network(keras.layers.Flatten(), last)) is expected
