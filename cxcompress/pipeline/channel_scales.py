"""Output channels made as large as they matter, without a change of what the network answers.

    model, importance, count = with_scaled_channels(model, squared_gradients(model, …))

One step for a whole kernel rounds every output channel equally, whatever hangs on it. A
BatchNormalization that follows divides by each channel's own spread, so a channel's weights may be
multiplied by any s > 0 if its statistics are, too: the answers stay, and the same step is finer
for a channel that was enlarged. Files do not grow, since they hold those numbers anyway. The idea
is that of weight equalisation (Nagel et al. 2019, "Data-free quantization through weight
equalization and bias correction", section 4.1); the scales follow sensitivities, not ranges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.pruning.channels import POOLINGS

_KERNELS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense)
"""Layers whose kernel has its output channels on the last axis."""
_HOMOGENEOUS = (keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)
"""Activations f with f(s x) = s f(x) for every s > 0."""
_PASSED = (*POOLINGS, layers.LeakyReLU, layers.Dropout, layers.SpatialDropout2D)
"""Layers of which the same is true, whatever their settings."""
EXPONENT = 0.375
"""Of a channel's mean squared gradient. 1/2 makes rounding errors of all channels equally harmful
where steps are fine and gradients exact; a little less does better with coarse steps."""
MOST = 8.0
"""A channel's scale against the layer's typical one, at most; at least its inverse."""


def with_scaled_channels(
    model: keras.Model, squared: Mapping[str, NDArray]
) -> tuple[keras.Model, dict[str, NDArray], int]:
    """A network that answers alike, with kernels scaled by output channel for quantisation.

    Only channels that go to a BatchNormalization (with a scale, along the last axis) and nowhere
    else are scaled, by (mean squared gradient / the layer's geometric mean) ^ `EXPONENT`. ReLU,
    LeakyReLU, pooling and dropout may come between.

    Args:
        model: Not changed.
        squared: Squared gradients of each kernel, by path (`sensitivities.squared_gradients`).

    Returns:
        A new model of the same architecture; the squared gradients of its kernels; how many
        output channels were scaled.
    """
    scaled = models.model_from_architecture(models.architecture_json(model))
    weights = models.weights(model)
    importance = dict(squared)
    path_of = {id(variable): path for path, variable in models.variables_by_path(scaled).items()}
    count = 0
    for layer, normalization in _pairs(scaled):
        path = path_of[id(layer.kernel)]
        variance = weights[path_of[id(normalization.moving_variance)]]
        if path not in importance or not (variance + normalization.epsilon > 0).all():
            continue
        scale = _scales(importance[path])
        count += scale.size
        importance[path] = importance[path] / np.square(scale, dtype=np.float32)
        weights |= _scaled(layer, normalization, scale, weights, path_of)
    models.set_weights(scaled, weights)
    return scaled, importance, count


def _scales(squared: NDArray) -> NDArray[np.float64]:
    """Of the channels on the last axis, with a geometric mean of 1 before they are limited."""
    means = np.mean(squared, axis=tuple(range(squared.ndim - 1)), dtype=np.float64)
    if not means.any():
        return np.ones_like(means)
    logarithms = np.log(np.maximum(means, means.max() * 1e-6))
    return np.clip(np.exp(EXPONENT * (logarithms - logarithms.mean())), 1 / MOST, MOST)


def _scaled(layer, normalization, scale: NDArray, weights: Mapping[str, NDArray],
            path_of: Mapping[int, str]) -> dict[str, NDArray]:
    """The arrays that change, by path; ε is as small against the new variance as it was."""
    def of(variable) -> tuple[str, NDArray]:
        path = path_of[id(variable)]
        return path, weights[path].astype(np.float64)

    linear = [layer.kernel, normalization.moving_mean] + ([layer.bias] if layer.use_bias else [])
    changed = {path: array * scale for path, array in map(of, linear)}
    path, variance = of(normalization.moving_variance)
    changed[path] = variance * scale**2
    gamma_path, gamma = of(normalization.gamma)
    epsilon = normalization.epsilon
    changed[gamma_path] = gamma * np.sqrt((changed[path] + epsilon) / (variance + epsilon)) / scale
    return {path: array.astype(np.float32) for path, array in changed.items()}


def _pairs(model: keras.Model) -> Iterator[tuple[layers.Layer, layers.BatchNormalization]]:
    """Layers with a kernel whose outputs go to one BatchNormalization and nowhere else."""
    graphs = [graph for graph in (getattr(layer, "_functional", None) or layer
                                  for layer in model._flatten_layers())
              if getattr(graph, "_nodes_by_depth", None)]
    nodes = [node for graph in graphs for some in graph._nodes_by_depth.values() for node in some]
    calls = Counter(id(node.operation) for node in nodes)
    uses = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    uses.update(id(tensor) for graph in graphs for tensor in graph.outputs)
    for node in nodes:
        normalization = node.operation
        if not (isinstance(normalization, layers.BatchNormalization) and normalization.scale
                and calls[id(normalization)] == 1):
            continue
        [reached] = node.input_tensors
        alone = uses[id(reached)] == 1
        while alone and _passes_scales(reached._keras_history.operation):
            operation, number, _ = reached._keras_history
            [reached] = operation._inbound_nodes[number].input_tensors
            alone = uses[id(reached)] == 1
        layer = reached._keras_history.operation
        if (alone and isinstance(layer, _KERNELS) and layer.activation in _HOMOGENEOUS
                and calls[id(layer)] == 1
                and normalization.axis in (-1, len(reached.shape) - 1)
                and getattr(layer, "data_format", "channels_last") == "channels_last"):
            yield layer, normalization


def _passes_scales(layer: layers.Layer) -> bool:
    """Whether larger inputs give outputs larger by the same factor, channel by channel."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return False  # it pools over the channels that its input has
    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and not layer.threshold
    if isinstance(layer, layers.Activation):
        return layer.activation in _HOMOGENEOUS
    return isinstance(layer, _PASSED)
