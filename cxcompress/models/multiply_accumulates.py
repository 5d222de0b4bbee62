"""Multiply-accumulate operations of one image through a model's convolutions and dense layers.

    multiply_accumulates(model)     # 15_346_630_656 for VGG16 at 224×224 without its dense head
"""

from __future__ import annotations

import math

import keras

from cxcompress.models.kernels import kernels


def multiply_accumulates(model: keras.Model) -> int:
    """MACs of one image, zeros among the weights counted as any weight.

    Args:
        model: With fixed sizes. A layer that is used twice counts once.
    """
    layers = {layer.name: layer for layer in model._flatten_layers(include_self=False)}
    total = 0
    for kernel in kernels(model):
        layer = layers[kernel.layer_name.split("/")[-1]]
        transposed = "Transpose" in type(layer).__name__
        shape = (layer.input if transposed else layer.output).shape[1:-1]
        total += math.prod(shape) * math.prod(kernel.shape)
    return total
