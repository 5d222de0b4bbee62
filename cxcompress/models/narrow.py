"""The pruning study's networks at reduced width, for two CPU cores and images of 28 to 128 pixels.

    model = models.build("vgg16_eighth", (64, 64, 1), 2, activation="softmax")
    model = models.build("densenet169_quarter", (64, 64, 1), 2, activation="softmax")
    student = models.build("vgg11_eighth", (64, 64, 1), 2, activation="softmax")

As many layers as the originals and the same connections, with an eighth of VGG's filters and a
quarter of DenseNet's growth rate (8); VGG's dense head of 4,096 units is left out, as in `vgg16`.
References: Simonyan and Zisserman (2015); Huang et al. (2017).
"""

from __future__ import annotations

from collections.abc import Sequence

from keras import KerasTensor, layers

VGG16 = (2, 2, 3, 3, 3)
VGG11 = (1, 1, 2, 2, 2)
VGG_FILTERS = (8, 16, 32, 64, 64)
DENSENET169 = (6, 12, 32, 32)
GROWTH = 8


def vgg(x: KerasTensor, convolutions: Sequence[int] = VGG16) -> KerasTensor:
    """Features `(n, height / 32, width / 32, 64)`.

    Args:
        x: Images `(n, height, width, channels)`.
        convolutions: Of each of the five blocks.
    """
    for block, (count, filters) in enumerate(zip(convolutions, VGG_FILTERS, strict=True), start=1):
        for number in range(1, count + 1):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu",
                              kernel_initializer="he_normal", name=f"block{block}_conv{number}")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return x


def densenet(x: KerasTensor, blocks: Sequence[int] = DENSENET169) -> KerasTensor:
    """Features `(n, height / 32, width / 32, channels)`.

    Args:
        x: Images `(n, height, width, channels)`.
        blocks: Layers of each dense block.
    """
    x = layers.Conv2D(2 * GROWTH, 7, strides=2, padding="same", use_bias=False,
                      name="conv1_conv")(x)
    x = _normalised(x, "conv1")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    for block, count in enumerate(blocks, start=2):
        for number in range(1, count + 1):
            name = f"conv{block}_block{number}"
            y = layers.Conv2D(4 * GROWTH, 1, use_bias=False,
                              name=f"{name}_1_conv")(_normalised(x, f"{name}_0"))
            y = layers.Conv2D(GROWTH, 3, padding="same", use_bias=False,
                              name=f"{name}_2_conv")(_normalised(y, f"{name}_1"))
            x = layers.Concatenate(name=f"{name}_concat")([x, y])
        if block - 1 < len(blocks):
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False,
                              name=f"pool{block}_conv")(_normalised(x, f"pool{block}"))
            x = layers.AveragePooling2D(2, name=f"pool{block}_pool")(x)
    return _normalised(x, "last")


def _normalised(x: KerasTensor, name: str) -> KerasTensor:
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
