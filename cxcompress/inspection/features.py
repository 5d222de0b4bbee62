"""What a layer looks for and what it finds: its filters, and its feature maps of one image.

    filters_of(model, "conv1")                 # float32 (filters, height, width)
    maps = feature_maps(model, "conv1", image)
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.models.kernels import kernels


def filters_of(model: keras.Model, layer: str) -> NDArray[np.float32]:
    """The filters of a 2D convolution, averaged over its input channels.

    Args:
        model: Built.
        layer: Name of a convolution (also depthwise).

    Returns:
        `(filters, height, width)`.

    Raises:
        InputError: If there is no such convolution.
    """
    found = {kernel.layer_name.split("/")[-1]: kernel for kernel in kernels(model)
             if len(kernel.shape) == 4}
    if layer not in found:
        raise InputError(f"--features {layer}: model {model.name!r} has no 2D convolution of this "
                         f"name; it has {', '.join(list(found)[:8])}")
    array = np.asarray(found[layer].variable, np.float32)
    if found[layer].family == "depthwise":
        array = array.reshape(*array.shape[:2], 1, -1)
    return np.moveaxis(array.mean(axis=2), -1, 0)


def feature_maps(model: keras.Model, layer: str, image: NDArray) -> NDArray[np.float32]:
    """A layer's output for one image.

    Args:
        model: Functional or sequential.
        layer: Its name.
        image: As the model takes it, `(height, width, channels)`.

    Returns:
        `(channels, height, width)`.

    Raises:
        InputError: If the layer is not there or its output is no map.
    """
    if layer not in [one.name for one in model.layers]:
        raise InputError(f"--features {layer}: model {model.name!r} has no such layer")
    output = keras.Model(model.inputs[0], model.get_layer(layer).output)(image[None])
    maps = np.asarray(output, np.float32)
    if maps.ndim != 4:
        raise InputError(f"--features {layer}: its output has shape {maps.shape[1:]}, not that of "
                         "feature maps")
    return np.moveaxis(maps[0], -1, 0)
