"""Structured pruning: filters are removed for real, so that every engine runs the network faster.

    smaller = prune_filters(model, 0.5)                      # half of every layer's filters
    smaller = prune_filters(model, 0.5, scope="global", exclude=["stem"])
    smaller.fit(…)                                           # an ordinary Keras functional model

Channels that hang together (residual connections, depthwise convolutions) go together; see
`channels`. Biases, BatchNormalization and the next layers' inputs lose the same channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.models.kernels import kernels as kernels_of
from cxcompress.pruning import scores as scoring
from cxcompress.pruning.channels import (
    CONVOLUTIONS,
    DEPTHWISE,
    SEPARABLE,
    TRANSPOSED,
    Channels,
    nodes,
)
from cxcompress.pruning.masks import check_sparsity
from cxcompress.pruning.thresholds import keep_largest

SCOPES = ("layer", "global")


def prune_filters(
    model: keras.Model,
    share: float,
    *,
    score: str | scoring.Score = "magnitude",
    scope: str = "layer",
    exclude: Iterable[str] = (),
    multiple: int = 1,
    seed: int = 0,
) -> keras.Model:
    """A smaller model without the least important filters.

    A filter's importance is the sum of its weights' scores over the mean of its layer's filters,
    summed over the layers whose channels hang together. The output layer keeps its units.

    Args:
        model: Functional or sequential; unchanged.
        share: Of filters to remove, 0 ≤ share < 1.
        score: `"magnitude"`, `"random"`, or a function as in `scores`.
        scope: `"layer"`: the share of each layer's filters; `"global"`: of all together, at least
            one filter staying in each layer.
        exclude: Names of layers whose filters all stay.
        multiple: Filters kept are rounded up to a multiple of this: some engines like 4 or 8.
        seed: Of random scores.

    Returns:
        A functional model with the same layer names, not compiled.

    Raises:
        InputError: If an argument is out of range, the model has no graph, or no filter may go.

    Reference: Li et al. (2017), "Pruning filters for efficient ConvNets".
    """
    check_sparsity(share)
    if scope not in SCOPES:
        raise InputError(f"--scope {scope}: filters are pruned by {' or '.join(SCOPES)}")
    if multiple < 1:
        raise InputError(f"--multiple {multiple}: must be at least 1")
    channels = Channels.of(model, exclude)
    sets = channels.sets
    if not sets:
        raise InputError(f"model {model.name!r}: none of its filters can be removed")
    importance = _importance(model, channels, scoring.get(score, seed=seed))
    kept = ([keep_largest([importance[roots]], _rounded(roots.size, share, multiple))[0]
             for roots in sets.values()] if scope == "layer"
            else _kept_globally(importance, list(sets.values()), share, multiple))
    gone = {int(root) for roots, stays in zip(sets.values(), kept, strict=True)
            for root in roots[~stays]}
    return without_channels(channels, gone)


def _rounded(count: int, share: float, multiple: int) -> int:
    keep = max(count - math.floor(share * count + 1e-9), 1)
    return min(math.ceil(keep / multiple) * multiple, count)


def _kept_globally(importance: NDArray, sets: list[NDArray], share: float, multiple: int):
    arrays = [importance[roots] for roots in sets]
    total = sum(array.size for array in arrays)
    kept = keep_largest(arrays, total - math.floor(share * total + 1e-9))
    counts = [min(math.ceil(max(int(stays.sum()), 1) / multiple) * multiple, stays.size)
              for stays in kept]
    return [keep_largest([array], count)[0] for array, count in zip(arrays, counts, strict=True)]


def _importance(model: keras.Model, channels: Channels, score: scoring.Score) -> NDArray:
    """By channel number: float64; 0 where nothing makes it."""
    own = {kernel.layer_name.split("/")[-1]: kernel for kernel in kernels_of(model)
           if kernel.family != "depthwise"}
    scores = score(model, list(own.values()))
    importance = np.zeros(len(channels.parent))
    for name, numbers in channels.makers.items():
        array = np.asarray(scores[own[name].path], np.float64)
        if isinstance(model.get_layer(name), TRANSPOSED):
            array = np.swapaxes(array, -1, -2)
        each = array.reshape(-1, array.shape[-1]).sum(axis=0)
        np.add.at(importance, channels.roots(numbers), each / (each.mean() or 1.0))
    return importance


def without_channels(channels: Channels, gone: set[int]) -> keras.Model:
    """The model without some channels, given by number (`Channels.sets`)."""
    model = channels.model
    calls: dict[int, Any] = {}
    for node in nodes(model):
        if not node.is_input:
            calls.setdefault(id(node.operation), node)

    def smaller(layer):
        config = layer.get_config()
        if layer.name in channels.makers:
            stays = channels.kept(channels.makers[layer.name], gone)
            config["units" if isinstance(layer, layers.Dense) else "filters"] = int(stays.size)
        elif isinstance(layer, layers.Reshape) and id(layer) in calls:
            stays = channels.kept_of(calls[id(layer)].outputs[0], gone)
            config["target_shape"] = (*layer.target_shape[:-1], int(stays.size))
        return type(layer).from_config(config)

    result = keras.models.clone_model(model, clone_function=smaller)
    for layer in model.layers:
        if layer.weights:
            result.get_layer(layer.name).set_weights(
                _sliced(layer, calls[id(layer)], channels, gone))
    return result


def _sliced(layer, node, channels: Channels, gone: set[int]) -> list[NDArray]:
    """The layer's weights without the channels."""
    arrays = {variable.name: np.asarray(variable) for variable in layer.weights}
    incoming = channels.kept_of(node.input_tensors[0], gone)
    if layer.name in channels.makers:
        outgoing = channels.kept(channels.makers[layer.name], gone)
    else:
        outgoing = channels.kept_of(node.outputs[0], gone)
    return [_cut(layer, name, array, incoming, outgoing) for name, array in arrays.items()]


def _cut(layer, name: str, array: NDArray, incoming: NDArray, outgoing: NDArray) -> NDArray:
    if isinstance(layer, layers.BatchNormalization):
        return array[outgoing]
    if isinstance(layer, DEPTHWISE):
        return array[..., incoming, :] if name == "kernel" else array[outgoing]
    if name == "bias" and (isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE))
                           or isinstance(layer, layers.Dense)):
        return array[outgoing]
    if isinstance(layer, SEPARABLE):
        if name == "depthwise_kernel":
            return array[..., incoming, :]
        wide = (incoming[:, None] * layer.depth_multiplier
                + np.arange(layer.depth_multiplier)).ravel()
        return array[..., wide, :][..., outgoing]
    if isinstance(layer, TRANSPOSED):
        return array[..., outgoing, :][..., incoming]
    if isinstance(layer, (*CONVOLUTIONS, layers.Dense)) and getattr(layer, "groups", 1) == 1:
        return array[..., incoming, :][..., outgoing]
    return array


def filter_counts(model: keras.Model) -> Mapping[str, int]:
    """Filters (units) of every layer that makes channels, in network order."""
    channels = Channels.of(model)
    return {name: int(numbers.size) for name, numbers in channels.makers.items()}
