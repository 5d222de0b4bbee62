"""The networks of `keras.applications`, for any number of channels, with reproducible names.

Two things differ from what `keras.applications` returns, and neither changes a parameter:

- Layers that Keras names by a running counter (`zero_padding2d_3`) get fixed names, so that
  the same call gives the same model description in every process.
- The built-in `Rescaling` and `Normalization` layers of EfficientNet and MobileNetV3 are left out:
  preprocessing belongs to `cxcompress.images`, the same way for every network.

With `weights="imagenet"` (3 channels) images must come as the weights were trained:
DenseNet and EfficientNet: 0..1, then ImageNet mean and standard deviation; MobileNet and
Inception: -1..1; ResNet and VGG16: 0..255, channels in the order BGR, ImageNet mean subtracted.

    features = application(keras.applications.DenseNet121, inputs)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import keras
from keras import KerasTensor, layers

_SNAKE_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PREPROCESSING = (layers.Rescaling, layers.Normalization)


def application(
    constructor: Callable[..., keras.Model], x: KerasTensor, weights: str | Path | None = None
) -> KerasTensor:
    """The features of a network of `keras.applications` without its classification head.

    Args:
        constructor: For example `keras.applications.ResNet50`.
        x: Images `(n, height, width, channels)`, at least 32×32.
        weights: None (random), `"imagenet"` (downloaded by Keras) or a weights file of the
            same network without head.

    Returns:
        The feature maps `(n, height / 32, width / 32, filters)`.
    """
    network = constructor(include_top=False, weights=weights and str(weights), input_tensor=x)
    fixed = _fixed_names(network)
    if not fixed and not any(isinstance(layer, _PREPROCESSING) for layer in network.layers):
        return network.output

    def rename(layer):
        config = layer.get_config()
        config["name"] = fixed.get(layer.name, layer.name)
        return type(layer).from_config(config)

    def skip_preprocessing(layer, *args, **kwargs):
        return args[0] if isinstance(layer, _PREPROCESSING) else layer(*args, **kwargs)

    clone = keras.models.clone_model(
        network, input_tensors=[x], clone_function=rename, call_function=skip_preprocessing
    )
    if weights is not None:
        for layer in network.layers:
            if layer.weights and not isinstance(layer, _PREPROCESSING):
                clone.get_layer(fixed.get(layer.name, layer.name)).set_weights(layer.get_weights())
    return clone.output


def _fixed_names(network: keras.Model) -> dict[str, str]:
    """New names of the layers and operations that Keras numbered, by their old ones."""
    counts: dict[str, int] = {}
    fixed = {}
    for layer in network.operations:
        kind = _SNAKE_CASE.sub("_", type(layer).__name__).lower()
        if isinstance(layer, layers.InputLayer) or not re.fullmatch(rf"{kind}(_\d+)?", layer.name):
            continue
        counts[kind] = counts.get(kind, 0) + 1
        fixed[layer.name] = f"{kind}_{counts[kind]}"
    return fixed
