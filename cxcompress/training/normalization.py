"""BatchNormalization statistics that fit the weights as they are now, from images alone.

    models.set_weights(model, shared.weights())
    estimate_statistics(model, batches)         # no labels, no gradients: forward passes only

Coarser weights change the mean and the variance of what reaches a BatchNormalization, which still
subtracts and divides by those of the float weights. Taking both anew from training images is often
worth more than epochs of training (re-estimation of batch normalisation: Nagel et al. 2022,
"Overcoming oscillations in quantization-aware training", section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from cxcompress.training.soft_targets import inputs_and_labels


def normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The BatchNormalization layers of a model, nested ones included, that are not frozen."""
    return [layer for layer in model._flatten_layers(include_self=False)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable]


def statistics_step(model: keras.Model) -> Callable:
    """The step of `estimate_statistics`; traced once, it serves all estimates of this model."""
    return tf.function(lambda inputs: model(inputs, training=True), reduce_retracing=True)


def estimate_statistics(
    model: keras.Model, data: keras.utils.PyDataset, step: Callable | None = None
) -> None:
    """Set moving means and variances to those of the data, pooled over all its batches.

    Every layer normalises with the statistics of the batch while this runs, so that deeper layers
    see what they will see once the shallower ones are right. Dropout is off.

    Args:
        model: Built; changed in place. Frozen BatchNormalization layers keep their statistics.
        data: Batches of inputs, with or without labels; none may be much smaller than the others.
        step: `statistics_step(model)`, used for nothing else; None makes one.

    Raises:
        ValueError: If there are no batches.
    """
    if not len(data):
        raise ValueError("data holds no batches")
    found = normalizations(model)
    if not found:
        return
    forward = step or statistics_step(model)
    means = [0.0] * len(found)
    squares = [0.0] * len(found)
    with _statistics_of_one_batch(model, found):
        for position in range(len(data)):
            forward(inputs_and_labels(data[position])[0])
            for number, layer in enumerate(found):
                mean = np.asarray(layer.moving_mean, np.float64)
                means[number] += mean
                squares[number] += np.asarray(layer.moving_variance, np.float64) + mean**2
    for layer, mean, square in zip(found, means, squares, strict=True):
        mean = mean / len(data)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(np.maximum(square / len(data) - mean**2, 0))


@contextmanager
def _statistics_of_one_batch(model: keras.Model, found):
    """Moving statistics hold the last batch's own, and dropout drops nothing."""
    dropouts = [layer for layer in model._flatten_layers(include_self=False)
                if isinstance(getattr(layer, "rate", None), float)]
    momenta, rates = [layer.momentum for layer in found], [layer.rate for layer in dropouts]
    try:
        for layer in found:
            layer.momentum = 0.0
        for layer in dropouts:
            layer.rate = 0.0
        yield
    finally:
        for layer, momentum in zip(found, momenta, strict=True):
            layer.momentum = momentum
        for layer, rate in zip(dropouts, rates, strict=True):
            layer.rate = rate


class FreshStatistics(keras.callbacks.Callback):
    """Estimates the statistics again before every validation, and so for every checkpoint.

    Running means lag behind weights that still change fast: in the first few hundred steps a deep
    network can have learnt well and answer at chance.

    Args:
        data: Batches of training inputs.
        step: `statistics_step` of the model that is trained.
    """

    def __init__(self, data: keras.utils.PyDataset, step: Callable | None = None):
        super().__init__()
        self.data, self.step = data, step

    def on_test_begin(self, logs=None):
        estimate_statistics(self.model, self.data, self.step)
