"""Inception-v4 (Szegedy et al. 2016), which keras.applications lacks.

With 1000 classes it has 42,679,816 trainable parameters, as published.

    model = cxcompress.models.build("inceptionv4", (299, 299, 1), classes=14, activation="sigmoid")

Reference: Szegedy et al., "Inception-v4, Inception-ResNet and the impact of residual connections on
learning" (2016), figures 3 to 9.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras import KerasTensor, layers

_BRANCHES = {
    "a": (((96, 1, 1),), ((64, 1, 1), (96, 3, 3)), ((64, 1, 1), (96, 3, 3), (96, 3, 3))),
    "b": (((384, 1, 1),), ((192, 1, 1), (224, 1, 7), (256, 7, 1)),
          ((192, 1, 1), (192, 7, 1), (224, 1, 7), (224, 7, 1), (256, 1, 7))),
}
"""Filters, height and width of the convolutions of each branch but the pooled one."""
_POOLED = {"a": 96, "b": 128, "c": 256}
_COUNTS = {"a": 4, "b": 7, "c": 3}


def _convolution(x: KerasTensor, filters: int, height: int, width: int, name: str,
                 stride: int = 1, padding: str = "same") -> KerasTensor:
    x = layers.Conv2D(filters, (height, width), strides=stride, padding=padding, use_bias=False,
                      kernel_initializer="he_normal", name=name)(x)
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _chain(x: KerasTensor, convolutions: Sequence[tuple[int, int, int]], name: str) -> KerasTensor:
    for number, (filters, height, width) in enumerate(convolutions, start=1):
        x = _convolution(x, filters, height, width, f"{name}_conv{number}")
    return x


def _pool(x: KerasTensor, name: str) -> KerasTensor:
    return layers.MaxPooling2D(3, strides=2, name=name)(x)


def _stem(x: KerasTensor) -> KerasTensor:
    x = _convolution(x, 32, 3, 3, "stem_conv1", 2, "valid")
    x = _convolution(x, 32, 3, 3, "stem_conv2", 1, "valid")
    x = _convolution(x, 64, 3, 3, "stem_conv3")
    x = layers.Concatenate(name="stem_concat1")(
        [_pool(x, "stem_pool1"), _convolution(x, 96, 3, 3, "stem_conv4", 2, "valid")])
    short = _chain(x, [(64, 1, 1)], "stem_short")
    long = _chain(x, [(64, 1, 1), (64, 1, 7), (64, 7, 1)], "stem_long")
    x = layers.Concatenate(name="stem_concat2")(
        [_convolution(branch, 96, 3, 3, f"stem_{name}_conv", 1, "valid")
         for name, branch in (("short", short), ("long", long))])
    return layers.Concatenate(name="stem_concat3")(
        [_convolution(x, 192, 3, 3, "stem_conv5", 2, "valid"), _pool(x, "stem_pool2")])


def _inception(x: KerasTensor, kind: str, name: str) -> KerasTensor:
    if kind == "c":
        branches = [_chain(x, [(256, 1, 1)], f"{name}_branch1")]
        for number, convolutions in ((2, [(384, 1, 1)]),
                                     (3, [(384, 1, 1), (448, 3, 1), (512, 1, 3)])):
            split = _chain(x, convolutions, f"{name}_branch{number}")
            branches += [_convolution(split, 256, 1, 3, f"{name}_branch{number}_wide"),
                         _convolution(split, 256, 3, 1, f"{name}_branch{number}_high")]
    else:
        branches = [_chain(x, convolutions, f"{name}_branch{number}")
                    for number, convolutions in enumerate(_BRANCHES[kind], start=1)]
    pooled = layers.AveragePooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    branches.append(_convolution(pooled, _POOLED[kind], 1, 1, f"{name}_pooled"))
    return layers.Concatenate(name=f"{name}_concat")(branches)


def _reduction(x: KerasTensor, chains: Sequence[Sequence], last: Sequence[int],
               name: str) -> KerasTensor:
    branches = [
        _convolution(_chain(x, chain, f"{name}_branch{number}"), filters, 3, 3,
                     f"{name}_branch{number}_last", 2, "valid")
        for number, (chain, filters) in enumerate(zip(chains, last, strict=True), start=1)]
    return layers.Concatenate(name=f"{name}_concat")([*branches, _pool(x, f"{name}_pool")])


def inception_v4(x: KerasTensor) -> KerasTensor:
    """Features `(n, rows, columns, 1536)` of images `(n, height, width, channels)`, 75² and up."""
    x = _stem(x)
    for kind in "abc":
        for number in range(1, _COUNTS[kind] + 1):
            x = _inception(x, kind, f"inception_{kind}{number}")
        if kind == "a":
            x = _reduction(x, [[], [(192, 1, 1), (224, 3, 3)]], (384, 256), "reduction_a")
        elif kind == "b":
            x = _reduction(x, [[(192, 1, 1)], [(256, 1, 1), (256, 1, 7), (320, 7, 1)]],
                           (192, 320), "reduction_b")
    return x
