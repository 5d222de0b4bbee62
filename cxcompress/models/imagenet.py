"""ImageNet weights of the networks of `keras.applications`: where they lie, what they expect.

    path = imagenet_weights("densenet121")            # fetched once, checked, cached
    model = models.build("densenet121", (224, 224, 3), 14, weights=path)
    preprocessing = imagenet_preprocessing("densenet121", (224, 224))

The address is Keras' own, or the one in the environment variable `CXCOMPRESS_IMAGENET_URL`, under
which the files then lie by their names.
"""

from __future__ import annotations

import os
from pathlib import Path

from cxcompress.downloads import fetch
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing

KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"

WEIGHTS: dict[str, tuple[str, str, str | None]] = {
    "densenet121": (f"{KERAS}/densenet", "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
                    "30ee3e1110167f948a6b9946edeeb738"),
    "densenet169": (f"{KERAS}/densenet", "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5",
                    "b8c4d4c20dd625c148057b9ff1c1176b"),
    "efficientnetb0": ("https://storage.googleapis.com/keras-applications",
                       "efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d"),
    "efficientnetb4": ("https://storage.googleapis.com/keras-applications",
                       "efficientnetb4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "mobilenetv2": (f"{KERAS}/mobilenet_v2",
                    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", None),
    "resnet50": (f"{KERAS}/resnet", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                 "4d473c1dd8becc155b73f8504c6f6626"),
    "vgg16": (f"{KERAS}/vgg16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
              "6d6bbae143d832006294945121d1f1fc"),
}
"""Folder, file without head and its MD5 (None: Keras publishes none)."""

CAFFE_MEAN = (103.939, 116.779, 123.68)
"""ImageNet's mean blue, green and red in 0–255, in the order that ResNet50's and VGG16's weights
take their channels."""


def imagenet_weights(name: str) -> Path:
    """The weights file, without head, of a network.

    Raises:
        InputError: If none are published for it, or they cannot be fetched.
    """
    if name not in WEIGHTS:
        raise InputError(f"{name} has no published ImageNet weights; those are: "
                         f"{', '.join(WEIGHTS)}")
    folder, file, md5 = WEIGHTS[name]
    base = os.environ.get("CXCOMPRESS_IMAGENET_URL") or folder
    return fetch(f"{base.rstrip('/')}/{file}", file, md5)


def imagenet_preprocessing(name: str, size: tuple[int, int]) -> Preprocessing:
    """What a network's ImageNet weights were trained on, for grey radiographs on 3 channels.

    ResNet50 and VGG16 take blue first, the mean subtracted: of a grey picture all channels are the
    same, so subtracting the means in that order is all there is to do.
    """
    if name == "mobilenetv2":
        return Preprocessing.preset("-1-1", size, 3)
    if name in ("resnet50", "vgg16"):
        return Preprocessing(size, 3, (0.0, 255.0), CAFFE_MEAN)
    return Preprocessing.preset("imagenet", size, 3)
