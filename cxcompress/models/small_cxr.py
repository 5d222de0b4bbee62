"""`small_cxr`: a residual network of about 220,000 parameters for X-rays of 28 to 128 pixels.

Made for MedMNIST's PneumoniaMNIST (28×28) and for generated chest X-rays (64×64, 14 findings):
it trains in minutes on two CPU cores, and has the parts whose compression matters: strided and
1×1 convolutions, batch normalisation and a dense head.

    model = cxcompress.models.build("small_cxr", (64, 64, 1), classes=14, activation="sigmoid")
"""

from __future__ import annotations

from keras import KerasTensor, layers

STEM_FILTERS = 24
STAGE_FILTERS = (32, 64, 96)
DROPOUT = 0.2


def _convolution(x: KerasTensor, filters: int, size: int, stride: int, name: str) -> KerasTensor:
    x = layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)


def small_cxr(x: KerasTensor) -> KerasTensor:
    """Features `(n, height / 8, width / 8, 96)` of images `(n, height, width, channels)`."""
    x = _convolution(x, STEM_FILTERS, 3, 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate(STAGE_FILTERS, start=1):
        name = f"stage{stage}"
        shortcut = _convolution(x, filters, 1, 2, f"{name}_shortcut")
        x = _convolution(x, filters, 3, 2, f"{name}_conv1")
        x = layers.ReLU(name=f"{name}_relu1")(x)
        x = _convolution(x, filters, 3, 1, f"{name}_conv2")
        x = layers.Add(name=f"{name}_add")([x, shortcut])
        x = layers.ReLU(name=f"{name}_relu2")(x)
    return layers.Dropout(DROPOUT, name="dropout")(x)
