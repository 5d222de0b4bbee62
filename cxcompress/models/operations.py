"""Names the modules of Keras operations in a model's description, which HDF5 files leave out.

`x + 3.0` in a functional model is the operation `Add`, and HDF5 files of Keras 3 call it just that:
reading them, Keras takes it for the *layer* `Add`, and fails on every MobileNetV3. With its
module beside the name, Keras reads the file, too.

    description = operations_named(json.loads(file.attrs["model_config"]))
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from keras import Operation
from keras.layers import Layer

MODULES = tuple(f"keras.src.ops.{name}" for name in ("numpy", "nn", "core", "math", "linalg",
                                                     "image"))


def operations_named(description: dict) -> dict:
    """A copy of a model's description in which every operation has its module.

    Args:
        description: As parsed from an HDF5 file of Keras 3.
    """
    return _named(description)


def _named(node: Any) -> Any:
    if isinstance(node, list):
        return [_named(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _named(value) for key, value in node.items()}
    config = found.get("config")
    # Layers say whether they are trained and in which precision, operations do not.
    if "inbound_nodes" in found and "module" not in found and isinstance(config, dict) and not (
            {"trainable", "dtype", "layers"} & set(config)):
        module = _module_of(found.get("class_name"))
        if module is not None:
            found |= {"module": module, "registered_name": None}
    return found


@functools.cache
def _module_of(name: Any) -> str | None:
    """Of the operation of that name."""
    for module in MODULES:
        found = getattr(importlib.import_module(module), str(name), None)
        if isinstance(found, type) and issubclass(found, Operation) and not (
                issubclass(found, Layer)) and found.__module__ == module:
            return module
    return None
