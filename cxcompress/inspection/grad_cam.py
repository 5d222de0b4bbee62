"""Grad-CAM: which places of an image speak for a class, for any Keras classifier of images.

    maps = grad_cam(model, inputs)                     # float32 (n, height, width, classes)
    maps = grad_cam(model, inputs, layer="conv4")      # of an earlier, finer feature map

Reference: Selvaraju et al., "Grad-CAM" (2017), equations 1 and 2. Of a network that ends in global
average pooling and one dense layer it is the class-activation map of Zhou et al. (2016), up to a
factor and without its negative part; `runtime.activation_maps` gives that without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxcompress.errors import InputError


def feature_layer(model: keras.Model) -> str:
    """Name of the last layer whose output has height and width, more than one place of it.

    Raises:
        InputError: If there is none.
    """
    for layer in reversed(model.layers):
        output = getattr(layer, "output", None)
        if isinstance(output, keras.KerasTensor) and len(output.shape) == 4 and (
                None in output.shape[1:3] or np.prod(output.shape[1:3]) > 1):
            return layer.name
    raise InputError(f"model {model.name!r} has no feature maps with height and width: nothing "
                     "says where it looks")


def grad_cam(
    model: keras.Model, inputs: NDArray, columns: Sequence[int] | None = None,
    layer: str | None = None, batch_size: int = 32,
) -> NDArray[np.float32]:
    """Maps of classes, 0 where nothing speaks for the class.

    Args:
        model: A functional or sequential classifier with one input and one output `(n, classes)`.
        inputs: `(n, h, w, c)`, as the model takes them.
        columns: The classes; None: all.
        layer: Whose feature maps; None: `feature_layer`.
        batch_size: Images at a time.

    Returns:
        `(n, height, width, len(columns))`, of the feature map's size. The gradient is that of the
        output before a last sigmoid or softmax, where that is a dense layer's or a layer of its
        own.

    Raises:
        InputError: If the model has several inputs or outputs or no such feature maps.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise InputError(f"model {model.name!r}: Grad-CAM needs one input and one output of "
                         "classes")
    layer = feature_layer(model) if layer is None else layer
    if layer not in [one.name for one in model.layers]:
        raise InputError(f"--layer {layer}: model {model.name!r} has no such layer")
    features = model.get_layer(layer).output
    if len(features.shape) != 4:
        raise InputError(f"--layer {layer}: its output has shape {features.shape[1:]}, not height, "
                         "width and channels")
    head = model.layers[-1]
    seen = keras.Model(model.inputs[0], [features, _before_activation(head)])
    columns = range(model.outputs[0].shape[-1]) if columns is None else columns
    found = []
    for start in range(0, len(inputs), batch_size):
        batch = tf.convert_to_tensor(inputs[start:start + batch_size])
        with tf.GradientTape(persistent=True) as tape:
            maps, entry = seen(batch, training=False)
            scores = _scores(head, entry)
            chosen = [tf.reduce_sum(scores[:, column]) for column in columns]
        weights = [tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2)) for score in chosen]
        found.append(np.stack([np.maximum(np.einsum("nhwc,nc->nhw", maps, weight), 0)
                               for weight in weights], axis=-1))
    return np.concatenate(found).astype(np.float32)


def _before_activation(head: keras.layers.Layer):
    if isinstance(head, keras.layers.Dense | keras.layers.Activation | keras.layers.Softmax):
        return head.input
    return head.output


def _scores(head: keras.layers.Layer, entry):
    if isinstance(head, keras.layers.Dense):
        scores = tf.matmul(entry, tf.cast(head.kernel, entry.dtype))
        return scores + tf.cast(head.bias, entry.dtype) if head.use_bias else scores
    return entry
