"""Networks without their final blocks: fewer parameters, finer feature maps, a new head.

    blocks(model)                                  # ("conv1", …, "conv4", "conv5")
    smaller = truncate(model, 1)                   # DenseNet121: without dense block 4, 1.6× fewer

A block is what runs at one resolution, or what the network's authors call a block or stage.
Dropping it drops everything around it too: DenseNet's transition before it, EfficientNet's and
MobileNet's last convolution behind it. What stays keeps its weights; global average pooling and one
dense layer follow.
Reference: Ke et al., "CheXtransfer" (2021), arXiv:2101.06871, section 3.4.
"""

from __future__ import annotations

import re
from itertools import groupby

import keras
from keras import layers

from cxcompress.errors import InputError
from cxcompress.models.kernels import set_weights, weights

_ENDS = (
    r"(conv\d)_block\d+_concat",                              # DenseNet
    r"(conv\d)_block\d+_out",                                 # ResNet50, 101
    r"(stage\d)_block\d+_relu2",                              # ResNet18, 34
    r"(block\d)[a-z]_(?:add|project_bn)",                     # EfficientNet
    r"(stack\d)_block\d+_(?:add|project_bn)",                 # MNASNet
    r"(inception_[abc])\d+_concat",                           # Inception-v4
    r"(stage\d)_relu2",                                       # small_cxr
    r"(block\d)_pool",                                        # VGG
)
"""Last layers of blocks, by name; the first group is the block."""
_ENDS_OF_UNITS = (
    r"mixed\d+",                                              # Inception-v3
    r"(?:block_\d+|expanded_conv)_(?:add|project_BN)",        # MobileNetV2
    r"expanded_conv(?:_\d+)?_(?:add|project_bn)",             # MobileNetV3
)
"""Last layers of units; a block is a run of units with equally many channels."""


def blocks(model: keras.Model) -> tuple[str, ...]:
    """Names of the blocks that `truncate` can drop, from the first to the last.

    Raises:
        InputError: If the network has no blocks that are known here.
    """
    return tuple(name for name, _ in _blocks(model))


def truncate(
    model: keras.Model, dropped: int, classes: int | None = None,
    activation: str | None = "same",
) -> keras.Model:
    """The network without its last blocks.

    Args:
        model: A functional classifier whose blocks are known: those of `models.build` and the
            same networks of `keras.applications`.
        dropped: How many blocks, at least 1; the first one stays.
        classes: Outputs of the new head; None: as many as before.
        activation: Of the new head; `"same"`: as before.

    Returns:
        A new model, not compiled, that shares no variable with the old one. Its head is drawn
        anew. The old one's name, `-` and the number of dropped blocks is its name.

    Raises:
        InputError: If there are not so many blocks, or none are known.
    """
    end = _last_kept(model, dropped)
    head = model.layers[-1]
    if classes is None:
        classes = model.output.shape[-1]
    if activation == "same":
        given = getattr(head, "activation", None)
        activation = keras.activations.serialize(given) if given is not None else None
    kept = keras.Model(model.inputs, end.output)
    copy = keras.models.clone_model(kept)
    set_weights(copy, weights(kept))
    x = layers.GlobalAveragePooling2D(name="average_pool")(copy.output)
    x = layers.Dense(classes, activation=activation, dtype="float32", name="predictions")(x)
    return keras.Model(copy.inputs, x, name=f"{model.name}-{dropped}")


def truncated_parameters(model: keras.Model, dropped: int) -> int:
    """Parameters of `truncate(model, dropped)`, without building it.

    Args:
        model, dropped: As for `truncate`.

    Raises:
        InputError: As `truncate`.
    """
    end = _last_kept(model, dropped)
    kept = keras.Model(model.inputs, end.output)
    return kept.count_params() + (end.output.shape[-1] + 1) * model.output.shape[-1]


def _last_kept(model: keras.Model, dropped: int) -> keras.layers.Layer:
    """The layer that global average pooling follows when `dropped` blocks have gone."""
    found = _blocks(model)
    if not 1 <= dropped < len(found):
        raise InputError(f"{model.name} has the blocks {', '.join(name for name, _ in found)}: "
                         f"1 to {len(found) - 1} can be dropped, not {dropped}")
    return found[len(found) - 1 - dropped][1]


def _blocks(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """Each block with its last layer."""
    for pattern in _ENDS:
        ends = {}
        for layer in model.layers:
            if match := re.fullmatch(pattern, layer.name):
                ends[match[1]] = layer
        if len(ends) > 1:
            return list(ends.items())
    for pattern in _ENDS_OF_UNITS:
        units = [layer for layer in model.layers if re.fullmatch(pattern, layer.name)]
        if len(units) > 1:
            runs = [list(run) for _, run in groupby(units, lambda layer: layer.output.shape[-1])]
            return [(f"units{number}", run[-1]) for number, run in enumerate(runs, start=1)]
    raise InputError(f"{model.name}: no blocks that are known here; take a network of "
                     "cxcompress.models.names()")
