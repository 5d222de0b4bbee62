"""PathoNet: density maps of three cell classes in Ki-67 stained tissue (Negahbani et al. 2021).

A U-Net of residual dilated inception modules: each adds a branch of two 3×3 convolutions, a
branch of two 3×3 convolutions with dilation 4, and the input. With 3 channels in and 3 maps
out it has 46 convolutions and 3,236,907 parameters (3,228,603 trainable) at any input size.
Layers are created in the order of the original code, so that its weight files, which Keras
matches by position, load into this network.

    model = cxcompress.models.build("pathonet", (256, 256, 3), classes=3)
    density = model.predict(fields / 255.0)      # (n, 256, 256, 3), >= 0, peaks near 255
"""

from __future__ import annotations

from keras import KerasTensor, layers, regularizers

L2 = 5e-4
DILATION = 4


def _convolution(x: KerasTensor, filters: int, size: int, name: str, dilation: int = 1):
    """Convolution without bias, batch normalisation, leaky ReLU with slope 0.3."""
    x = layers.Conv2D(
        filters,
        size,
        padding="same",
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer="orthogonal",
        kernel_regularizer=regularizers.L2(L2),
        name=name,
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.LeakyReLU(negative_slope=0.3, name=f"{name}_relu")(x)


def _add_branches(x: KerasTensor, shortcut: KerasTensor | None, filters: int, name: str):
    """Both branches on `x`, plus `shortcut` (None: `x` concatenated with itself)."""
    local = _convolution(x, filters, 3, f"{name}_local1")
    local = _convolution(local, filters, 3, f"{name}_local2")
    wide = _convolution(x, filters, 3, f"{name}_dilated1", DILATION)
    wide = _convolution(wide, filters, 3, f"{name}_dilated2", DILATION)
    if shortcut is None:
        shortcut = layers.Concatenate(name=f"{name}_double")([x, x])
    x = layers.Add(name=f"{name}_add")([local, wide, shortcut])
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.LeakyReLU(negative_slope=0.3, name=f"{name}_relu")(x)


def _encode(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    return _add_branches(x, None, filters, name)


def _decode(x: KerasTensor, skip: KerasTensor, filters: int, name: str) -> KerasTensor:
    x = layers.UpSampling2D(2, name=f"{name}_up")(x)
    x = _convolution(x, filters, 1, f"{name}_reduce1")
    x = _convolution(x, filters, 1, f"{name}_reduce2")
    x = _add_branches(x, x, filters, name)
    return layers.Concatenate(name=f"{name}_merge")([skip, x])


def pathonet(x: KerasTensor, classes: int, activation: str | None) -> KerasTensor:
    """Density maps `(n, height, width, classes)` of images `(n, height, width, channels)`.

    Args:
        x: Images; height and width divisible by 16.
        classes: Number of maps; the original's three are Ki-67 positive tumour, Ki-67
            negative tumour and tumour-infiltrating lymphocyte.
        activation: Of the maps; None is the original's ReLU.
    """
    x = _convolution(x, 16, 3, "stem1")
    block1 = _convolution(x, 16, 3, "stem2")
    block2 = _encode(layers.MaxPooling2D(name="pool1")(block1), 32, "encoder1")
    block3 = _encode(layers.MaxPooling2D(name="pool2")(block2), 64, "encoder2")
    block4 = _encode(layers.MaxPooling2D(name="pool3")(block3), 128, "encoder3")
    x = layers.MaxPooling2D(name="pool4")(block4)
    x = layers.Dropout(0.1, name="drop4")(x)
    x = _encode(x, 256, "encoder4")
    x = layers.Dropout(0.1, name="drop5")(x)
    for number, (skip, filters) in enumerate(
        [(block4, 128), (block3, 64), (block2, 32), (block1, 16)], start=1
    ):
        x = _decode(x, skip, filters, f"decoder{number}")
    x = _convolution(x, 16, 3, "head1")
    x = _convolution(x, 16, 3, "head2")
    x = _convolution(x, 8, 3, "head3")
    return layers.Conv2D(
        classes, 1, activation=activation or "relu", dtype="float32", name="density"
    )(x)
