"""Keras models: build them by name, open them from any Keras file or container, name their kernels.

    model = models.build("small_cxr", (64, 64, 1), classes=14, activation="sigmoid")
    model = models.load_model("model.h5")          # .keras, .h5 of Keras 2 or 3, container
    for kernel in models.kernels(model):
        print(kernel.path, kernel.family, kernel.shape)
"""

from cxcompress.models.building import build, check_input, least_size, names
from cxcompress.models.kernels import Kernel, kernels, set_weights, variables_by_path, weights
from cxcompress.models.loading import (
    architecture_json,
    load_model,
    model_from_architecture,
    model_from_container,
)
from cxcompress.models.resizing import at_any_size
from cxcompress.models.saving import save_model
from cxcompress.models.truncation import blocks, truncate, truncated_parameters

__all__ = [
    "Kernel",
    "architecture_json",
    "at_any_size",
    "blocks",
    "build",
    "check_input",
    "kernels",
    "least_size",
    "load_model",
    "model_from_architecture",
    "model_from_container",
    "names",
    "save_model",
    "set_weights",
    "truncate",
    "truncated_parameters",
    "variables_by_path",
    "weights",
]
