"""How much each weight moves the outputs: squared gradients, for quantisers that ask.

    found = squared_gradients(model, inputs, "multilabel")
    shared = share_model(model, compression, sample_weight=found)
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.models import ends
from cxcompress.runs import progress

IMAGES = 64
"""Training images that gradients are taken on, at most."""
_SMALLEST_PROBABILITY = 1e-6


def squared_gradients(
    model: keras.Model, inputs: NDArray, task: str, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Mean squared change of the outputs for each kernel's weights, by path.

    The diagonal of the Gauss-Newton matrix JᵀJ, J the outputs' derivatives (log-odds for
    probabilities, logits and maps as they are), estimated with one random ±1 projection of the
    outputs of each image (Hutchinson's estimator). No labels are used, so a network that fits
    them perfectly still tells its weights apart.

    Args:
        model: Holding the weights to differentiate at; unchanged.
        inputs: Images as the model takes them, `(n, …)`.
        task: `"multiclass"`, `"multilabel"` or `"nuclei"`.
        seed: Of the projections.

    Returns:
        float32 arrays in the kernels' shapes.

    Reference: Dong et al., "HAWQ-V2" (2020), for the use of second-order sensitivities to
    allocate bits; Hutchinson (1990) for the estimator.
    """
    kernels = {kernel.path: kernel.variable.value for kernel in models.kernels(model)}
    random = np.random.default_rng(seed)
    probabilities = task != "nuclei" and ends.gives_logits(model) is not True

    @tf.function(reduce_retracing=True)
    def gradients(image: tf.Tensor, signs: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(kernels.values()))
            outputs = model(image, training=False)
            if probabilities:
                low, high = _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY
                clipped = tf.clip_by_value(outputs, low, high)
                outputs = tf.math.log(clipped) - tf.math.log(1 - clipped)
            total = tf.reduce_sum(outputs * signs)
        return tape.gradient(total, list(kernels.values()),
                             unconnected_gradients=tf.UnconnectedGradients.ZERO)

    shape = model.compute_output_shape((1, *inputs.shape[1:]))
    sums = [np.zeros(kernel.shape) for kernel in kernels.values()]
    for image in progress(inputs, "Sensitivity", total=len(inputs)):
        signs = random.choice(np.float32([-1, 1]), shape)
        for total, gradient in zip(sums, gradients(tf.constant(image[None]), tf.constant(signs)),
                                   strict=True):
            total += np.square(gradient.numpy(), dtype=np.float64)
    return {path: (total / len(inputs)).astype(np.float32)
            for path, total in zip(kernels, sums, strict=True)}
