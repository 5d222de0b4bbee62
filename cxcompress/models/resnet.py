"""ResNet18 (He et al. 2016) in torchvision's topology, which keras.applications lacks.

Padding is explicit before every strided convolution, as in torchvision: Keras' own "same"
padding is asymmetric there and would shift the feature maps. With 1000 classes it has
11,689,512 trainable parameters, as published.

    model = cxcompress.models.build("resnet18", (224, 224, 1), classes=14, activation="sigmoid")
"""

from __future__ import annotations

from keras import KerasTensor, initializers, layers

STAGES = ((64, 2), (128, 2), (256, 2), (512, 2))
"""Filters and number of blocks of each stage."""


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


def resnet18(x: KerasTensor) -> KerasTensor:
    """Features `(n, height / 32, width / 32, 512)` of images `(n, height, width, channels)`."""
    x = _convolution(x, 64, 7, 2, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    # Padding with 0 equals padding with -inf here: ReLU leaves nothing below 0.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for stage, (filters, blocks) in enumerate(STAGES, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(x, filters, stride, f"stage{stage}_block{block}")
    return x
