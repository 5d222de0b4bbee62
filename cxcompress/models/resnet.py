"""ResNet18 and 34 (He et al. 2016) in torchvision's topology, which keras.applications lacks.

Padding is explicit before every strided convolution, as in torchvision: Keras' own "same"
padding is asymmetric there and would shift the feature maps. With 1000 classes they have
11,689,512 and 21,797,672 trainable parameters, as published.

    model = cxcompress.models.build("resnet18", (224, 224, 1), classes=14, activation="sigmoid")
"""

from __future__ import annotations

from collections.abc import Sequence

from keras import KerasTensor, initializers, layers

FILTERS = (64, 128, 256, 512)
"""Of each stage."""
RESNET18 = (2, 2, 2, 2)
RESNET34 = (3, 4, 6, 3)
"""Blocks of each stage."""


def _convolution(x: KerasTensor, filters: int, size: int, stride: int, name: str) -> KerasTensor:
    if size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        size,
        strides=stride,
        use_bias=False,
        kernel_initializer=initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=name,
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)


def _basic_block(x: KerasTensor, filters: int, stride: int, name: str) -> KerasTensor:
    shortcut = x
    x = _convolution(x, filters, 3, stride, f"{name}_conv1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _convolution(x, filters, 3, 1, f"{name}_conv2")
    if stride > 1:
        shortcut = _convolution(shortcut, filters, 1, stride, f"{name}_shortcut")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def resnet(x: KerasTensor, blocks: Sequence[int] = RESNET18) -> KerasTensor:
    """Features `(n, height / 32, width / 32, 512)`.

    Args:
        x: Images `(n, height, width, channels)`.
        blocks: Blocks of each stage.
    """
    x = _convolution(x, 64, 7, 2, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    # Padding with 0 equals padding with -inf here: ReLU leaves nothing below 0.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for stage, (filters, count) in enumerate(zip(FILTERS, blocks, strict=True), start=1):
        for block in range(1, count + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(x, filters, stride, f"stage{stage}_block{block}")
    return x
