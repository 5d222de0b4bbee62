"""The same network for images of another size, as fully convolutional networks allow."""

from __future__ import annotations

import keras

from cxcompress.errors import InputError


def at_size(model: keras.Model, side: int) -> keras.Model:
    """A copy of the network, weights included, that takes square images of another size.

    Names of layers, and so paths of weights, stay. The copies of the weights are its own.

    Args:
        model: Built, with one input `(n, height, width, channels)`.
        side: Pixels a side of the copy's input.

    Raises:
        InputError: If a layer fits one size only, as a dense layer after a flattened map does.
    """
    shape = (side, side, model.inputs[0].shape[-1])
    try:
        copy = keras.models.clone_model(
            model, input_tensors=keras.Input(shape, dtype=model.inputs[0].dtype))
        copy.set_weights(model.get_weights())
    except ValueError as error:
        raise InputError(
            f"model {model.name!r} does not take {side}×{side} pixels: its layers fit other sizes "
            "only; give a multiple of 32, or its own size") from error
    return copy
