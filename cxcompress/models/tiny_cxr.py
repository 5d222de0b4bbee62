"""`tiny_cxr`: four convolutions, about 60,000 parameters, for studies that train many seeds.

An eighth of `small_cxr`'s work: a seed of a few thousand 64×64 images takes a minute or two on two
CPU cores. It has strided convolutions, batch normalisation and a dense head.

    model = cxcompress.models.build("tiny_cxr", (64, 64, 1), classes=20, activation="sigmoid")
"""

from __future__ import annotations

from keras import KerasTensor, layers

FILTERS = (16, 32, 64, 64)
STRIDES = (2, 2, 2, 1)
SIZES = (5, 3, 3, 3)


def tiny_cxr(x: KerasTensor) -> KerasTensor:
    """Features `(n, height / 8, width / 8, 64)` of images `(n, height, width, channels)`."""
    for number, (filters, stride, size) in enumerate(
            zip(FILTERS, STRIDES, SIZES, strict=True), start=1):
        x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False,
                          kernel_initializer="he_normal", name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"conv{number}_bn")(x)
        x = layers.ReLU(name=f"conv{number}_relu")(x)
    return x
