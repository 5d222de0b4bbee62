"""The same network for images of other sizes, as fully convolutional networks allow."""

from __future__ import annotations

import keras

from cxcompress.errors import InputError


def at_any_size(model: keras.Model, side: int) -> keras.Model:
    """A copy of the network, weights included, that takes images of its own and of other sizes.

    Names of layers, and so paths of weights, stay. The copies of the weights are its own.

    Args:
        model: Built, with one input `(n, height, width, channels)`.
        side: Of square images that the copy must take, in pixels.

    Raises:
        InputError: If it does not, as with a dense layer after a flattened map.
    """
    try:
        # Only with known sides do layers say whether they fit; with unknown ones they fail later.
        _copy(model, side)
        copy = _copy(model, None)
    except ValueError as error:
        raise InputError(
            f"model {model.name!r} does not take {side}×{side} pixels: its layers fit other sizes "
            "only; give a multiple of 32, or its own size") from error
    copy.set_weights(model.get_weights())
    return copy


def _copy(model: keras.Model, side: int | None) -> keras.Model:
    return keras.models.clone_model(model, input_tensors=keras.Input(
        (side, side, model.inputs[0].shape[-1]), dtype=model.inputs[0].dtype))
