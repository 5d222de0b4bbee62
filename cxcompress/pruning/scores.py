"""How much each weight matters: scores that pruning takes the largest of.

    scores = magnitude(model, kernels)                   # |w|
    scores = random(seed=0)(model, kernels)              # a baseline that every score must beat
    scores = taylor(batches, "multiclass")(model, kernels)      # |w · gradient of the loss|

A score is a function of a model and some of its kernels that gives, by kernel path, float32 arrays
of the kernels' shapes, larger = keep. Yours may be any such function.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.models.kernels import Kernel

Score = Callable[[keras.Model, Sequence[Kernel]], Mapping[str, NDArray[np.float32]]]
NAMES = ("magnitude", "random", "taylor")
TAYLOR_BATCHES = 16
"""Batches that gradients are taken on, at most."""


def magnitude(model: keras.Model, kernels: Sequence[Kernel]) -> dict[str, NDArray[np.float32]]:
    """|w|: an L1 magnitude. Han et al. (2015), "Learning both weights and connections"."""
    return {kernel.path: np.abs(values_of(kernel)) for kernel in kernels}


def random(seed: int = 0) -> Score:
    """Uniform random scores; the same for a seed and a kernel's path, whatever the weights."""
    def score(model, kernels):
        return {kernel.path: np.random.default_rng((seed, zlib.crc32(kernel.path.encode())))
                .random(kernel.shape, np.float32) for kernel in kernels}
    return score


def taylor(data: keras.utils.PyDataset, task: str, batches: int = TAYLOR_BATCHES) -> Score:
    """|w · g|, summed over batches: how much the loss would move if the weight were 0.

    Args:
        data: Batches `(inputs, labels)`; the first ones are used.
        task: `"multiclass"` or `"multilabel"`, for the loss.
        batches: How many, at most.

    Reference: Molchanov et al. (2017), "Pruning convolutional neural networks for resource
    efficient inference", equation 7, for single weights.
    """
    def score(model, kernels):
        import tensorflow as tf

        from cxcompress.models import ends
        from cxcompress.training.soft_targets import KnownLabelLoss

        loss = KnownLabelLoss(task, from_logits=ends.gives_logits(model) is True)
        variables = [kernel.variable.value for kernel in kernels]

        @tf.function(reduce_retracing=True)
        def products(inputs, labels):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                value = tf.reduce_mean(loss.call(labels, model(inputs, training=False)))
            gradients = tape.gradient(value, variables,
                                      unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [tf.abs(tf.cast(variable, tf.float32) * tf.cast(gradient, tf.float32))
                    for variable, gradient in zip(variables, gradients, strict=True)]

        sums = [np.zeros(kernel.shape, np.float32) for kernel in kernels]
        for position in range(min(batches, len(data))):
            inputs, labels = data[position]
            for total, part in zip(sums, products(inputs, np.asarray(labels, np.float32)),
                                   strict=True):
                total += part.numpy()
        return {kernel.path: total for kernel, total in zip(kernels, sums, strict=True)}
    return score


def get(name: str | Score, *, seed: int = 0, data: keras.utils.PyDataset | None = None,
        task: str = "multiclass") -> Score:
    """A score by name, or itself where it is a function.

    Raises:
        InputError: If the name is unknown, or `"taylor"` has no data.
    """
    if callable(name):
        return name
    if name == "magnitude":
        return magnitude
    if name == "random":
        return random(seed)
    if name == "taylor":
        if data is None:
            raise InputError("the score taylor needs images with labels to take gradients on")
        return taylor(data, task)
    raise InputError(f"no score is named {name!r}; choose one of {', '.join(NAMES)}")


def values_of(kernel: Kernel) -> NDArray[np.float32]:
    """The kernel's weights now, float32."""
    return np.asarray(keras.ops.convert_to_numpy(kernel.variable), np.float32)
