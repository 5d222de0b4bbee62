"""What a model does at its two ends: does it rescale its input, does it give probabilities?"""

from __future__ import annotations

from collections.abc import Iterator

import keras

RESCALING = (keras.layers.Rescaling, keras.layers.Normalization)
PROBABILITIES = ("softmax", "sigmoid")


def rescales_input(model: keras.Model) -> bool:
    """Whether `Rescaling` or `Normalization` comes before the first layer with a kernel.

    Such a model (EfficientNet, for one) takes pixels from 0 to 255.
    """
    for layer in _in_order(model):
        if isinstance(layer, RESCALING):
            return True
        if layer.weights:
            return False
    return False


def _in_order(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model in network order, those of models inside it in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _in_order(layer)
        else:
            yield layer


def gives_logits(model: keras.Model) -> bool | None:
    """Whether the last layer gives logits: True for a linear one, False for softmax or sigmoid.

    None where the last layer does not say (neither an activation nor one of its own).
    """
    layer = model.layers[-1]
    if isinstance(layer, keras.Model):
        return gives_logits(layer)
    if isinstance(layer, keras.layers.Softmax):
        return False
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", None)
    if name in PROBABILITIES:
        return False
    return True if name == "linear" else None
