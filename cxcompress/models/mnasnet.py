"""MNASNet 1.0 (Tan et al. 2019) in torchvision's topology, which keras.applications lacks.

With 1000 classes it has 4,383,312 trainable parameters, as published.

    model = cxcompress.models.build("mnasnet", (224, 224, 1), classes=14, activation="sigmoid")

Reference: Tan et al., "MnasNet: Platform-aware neural architecture search for mobile" (2019).
"""

from __future__ import annotations

from keras import KerasTensor, layers

STACKS = ((24, 3, 2, 3, 3), (40, 5, 2, 3, 3), (80, 5, 2, 6, 3), (96, 3, 1, 6, 2), (192, 5, 2, 6, 4),
          (320, 3, 1, 6, 1))
"""Filters, kernel size, stride, expansion and number of blocks of each stack."""
HEAD_FILTERS = 1280
_DROPOUT = 0.2


def _normalised(x: KerasTensor, name: str, relu: bool = True) -> KerasTensor:
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _pointwise(x: KerasTensor, filters: int, name: str, relu: bool = True) -> KerasTensor:
    x = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal", name=name)(x)
    return _normalised(x, name, relu)


def _depthwise(x: KerasTensor, size: int, stride: int, name: str) -> KerasTensor:
    # Padded on all sides, as in torchvision; Keras' "same" would shift strided maps.
    x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = layers.DepthwiseConv2D(size, strides=stride, use_bias=False, name=name,
                               depthwise_initializer="he_normal")(x)
    return _normalised(x, name)


def _inverted_residual(
    x: KerasTensor, filters: int, size: int, stride: int, expansion: int, name: str
) -> KerasTensor:
    shortcut = x
    x = _pointwise(x, expansion * x.shape[-1], f"{name}_expand")
    x = _depthwise(x, size, stride, f"{name}_depthwise")
    x = _pointwise(x, filters, f"{name}_project", relu=False)
    if stride == 1 and shortcut.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def mnasnet(x: KerasTensor) -> KerasTensor:
    """Features `(n, height / 32, width / 32, 1280)` of images `(n, height, width, channels)`."""
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = layers.Conv2D(32, 3, strides=2, use_bias=False, kernel_initializer="he_normal",
                      name="stem")(x)
    x = _normalised(x, "stem")
    x = _depthwise(x, 3, 1, "separable_depthwise")
    x = _pointwise(x, 16, "separable_project", relu=False)
    for stack, (filters, size, stride, expansion, count) in enumerate(STACKS, start=1):
        for block in range(1, count + 1):
            x = _inverted_residual(x, filters, size, stride if block == 1 else 1, expansion,
                                   f"stack{stack}_block{block}")
    x = _pointwise(x, HEAD_FILTERS, "head")
    return layers.Dropout(_DROPOUT, name="dropout")(x)
