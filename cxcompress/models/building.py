"""Networks by name.

    cxcompress.models.names()                       # ('densenet121', ..., 'vgg16')
    model = cxcompress.models.build("densenet121", (224, 224, 1), 14, activation="sigmoid")
    maps = cxcompress.models.build("pathonet", (256, 256, 3), 3)

Every classifier ends in global average pooling and one dense layer, `predictions`. That holds
for `vgg16` too: its original head of two 4096-wide dense layers (119 of its 138 million
parameters, and a fixed input size) is left out. Layer names are fixed, so that a variable has
the same path in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path

import keras
from keras import applications, layers

from cxcompress.errors import InputError
from cxcompress.models.applications import application
from cxcompress.models.inception_v4 import inception_v4
from cxcompress.models.mnasnet import mnasnet
from cxcompress.models.narrow import VGG11, densenet, vgg
from cxcompress.models.pathonet import pathonet
from cxcompress.models.resnet import RESNET34, resnet
from cxcompress.models.small_cxr import small_cxr
from cxcompress.models.tiny_cxr import tiny_cxr


@dataclass(frozen=True)
class _Network:
    features: Callable[..., keras.KerasTensor]
    minimum: int = 32
    multiple: int = 1
    pretrained: bool = False


def _application(constructor, minimum: int = 32) -> _Network:
    return _Network(partial(application, constructor), minimum, pretrained=True)


_NETWORKS = {
    "densenet121": _application(applications.DenseNet121),
    "densenet169": _application(applications.DenseNet169),
    "densenet201": _application(applications.DenseNet201),
    "densenet169_quarter": _Network(densenet),
    "efficientnetb0": _application(applications.EfficientNetB0),
    "efficientnetb1": _application(applications.EfficientNetB1),
    "efficientnetb2": _application(applications.EfficientNetB2),
    "efficientnetb3": _application(applications.EfficientNetB3),
    "efficientnetb4": _application(applications.EfficientNetB4),
    "inceptionv3": _application(applications.InceptionV3, minimum=75),
    "inceptionv4": _Network(inception_v4, minimum=75),
    "mnasnet": _Network(mnasnet),
    "mobilenetv2": _application(applications.MobileNetV2),
    "mobilenetv3": _application(applications.MobileNetV3Large),
    "pathonet": _Network(pathonet, minimum=16, multiple=16),
    "resnet18": _Network(resnet),
    "resnet34": _Network(partial(resnet, blocks=RESNET34)),
    "resnet50": _application(applications.ResNet50),
    "resnet101": _application(applications.ResNet101),
    "small_cxr": _Network(small_cxr, minimum=16),
    "tiny_cxr": _Network(tiny_cxr, minimum=16),
    "vgg11_eighth": _Network(partial(vgg, convolutions=VGG11)),
    "vgg16": _application(applications.VGG16),
    "vgg16_eighth": _Network(vgg),
}


def names() -> tuple[str, ...]:
    """The networks that `build` knows, in alphabetical order."""
    return tuple(sorted(_NETWORKS))


def build(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    activation: str | None = None,
    weights: str | Path | None = None,
) -> keras.Model:
    """A new network.

    Args:
        name: One of `names()`.
        input_shape: Height, width and channels of the images, e.g. `(224, 224, 1)`.
        classes: Number of outputs (of density maps for `pathonet`).
        activation: Of the output, e.g. `"softmax"` or `"sigmoid"`. None: the network's own,
            which is none (logits) for classifiers and ReLU for `pathonet`.
        weights: None for random ones. The networks of `keras.applications` also take
            `"imagenet"` (3 channels; see `cxcompress.models.applications` for the
            preprocessing) or the path of a weights file without head. To read a whole model
            or weights with their head, use `load_model`.

    Returns:
        A functional model, not compiled. Outputs are float32 `(n, classes)`, for `pathonet`
        `(n, height, width, classes)`, also under a mixed precision policy.

    Raises:
        InputError: If the name, the input size, `classes` or `weights` cannot be used.
    """
    shape = check_input(name, input_shape)
    network = _NETWORKS[name]
    if not isinstance(classes, Integral) or classes < 1:
        raise InputError(f"classes must be a whole number of at least 1, not {classes!r}")
    _check_weights(name, network, shape, weights)

    images = keras.Input(shape, name="image")
    if name == "pathonet":
        return keras.Model(images, pathonet(images, classes, activation), name=name)
    x = _features(name, network, images, weights)
    x = layers.GlobalAveragePooling2D(name="average_pool")(x)
    # float32 also under mixed precision: float16 logits lose digits that AUROC ranks by.
    x = layers.Dense(classes, activation=activation, dtype="float32", name="predictions")(x)
    return keras.Model(images, x, name=name)


def least_size(name: str) -> int:
    """The smallest height and width, in pixels, that a network of `names()` takes."""
    return _NETWORKS[name].minimum


def _features(name: str, network: _Network, images: keras.KerasTensor, weights):
    if weights is None:
        return network.features(images)
    try:
        return network.features(images, weights=weights)
    except Exception as error:  # whatever a download, h5py or Keras raises
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(
            f"weights {str(weights)!r} cannot be loaded into {name} without head: {reason}"
        ) from error


def check_input(name: str, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Height, width and channels, if the network takes them; nothing is built.

    Raises:
        InputError: If no network has this name, or the images are too small for it.
    """
    if name not in _NETWORKS:
        raise InputError(f"no network is named {name!r}; the names are {', '.join(names())}")
    network = _NETWORKS[name]
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(size, Integral) and int(size) > 0 for size in shape):
        raise InputError(
            f"input shape {shape}: give height, width and channels as three positive whole "
            "numbers, e.g. (224, 224, 1)"
        )
    sides = shape[:2]
    if min(sides) < network.minimum:
        raise InputError(
            f"{name} needs images of at least {network.minimum}x{network.minimum} pixels, "
            f"not {sides[0]}x{sides[1]}"
        )
    if any(side % network.multiple for side in sides):
        raise InputError(
            f"{name} needs height and width divisible by {network.multiple}, "
            f"not {sides[0]}x{sides[1]}"
        )
    height, width, channels = map(int, shape)
    return height, width, channels


def _check_weights(name: str, network: _Network, shape: tuple[int, int, int], weights) -> None:
    if weights is None:
        return
    if not network.pretrained:
        raise InputError(
            f"{name} has no published weights, so weights={str(weights)!r} cannot be used; "
            "train it, or open a file with load_model"
        )
    if weights == "imagenet":
        if shape[2] != 3:
            raise InputError(f"ImageNet weights need 3 channels, not {shape[2]}")
    elif not Path(weights).is_file():
        raise InputError(f"{weights}: no such weights file; give a file, 'imagenet' or None")
