"""The networks of `keras.applications`, for any number of channels, with reproducible names.

Two things differ from what `keras.applications` returns, and neither changes a parameter:

- Layers that Keras names by a running counter (`zero_padding2d_3`) get fixed names, so that
  the same call gives the same model description in every process.
- EfficientNet's built-in `Rescaling` and `Normalization` layers are left out: preprocessing
  belongs to `cxcompress.images`, the same way for every network.

With `weights="imagenet"` (3 channels) images must come as the weights were trained:
DenseNet and EfficientNet: 0..1, then ImageNet mean and standard deviation; MobileNetV2: -1..1;
ResNet50 and VGG16: 0..255, channels in the order BGR, ImageNet mean subtracted.

    features = application(keras.applications.DenseNet121, inputs)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
from keras import KerasTensor, layers

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
    padding = [layer.name for layer in network.layers if layer.name.startswith("zero_padding2d")]
    fixed = {name: f"zero_padding2d_{i}" for i, name in enumerate(padding, start=1)}
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
