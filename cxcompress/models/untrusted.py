"""Refuses a model description that would run code or needs classes that are not here.

A Keras file is a description (JSON) and arrays. The description can carry Python bytecode
(`Lambda`), name files to be read, or name classes of the program that wrote it. It is scanned
before Keras sees it, so that nothing of it runs and the refusal names the layer.

    check_description(json.loads(text), "model.keras")
"""

from __future__ import annotations

from typing import Any

import keras

from cxcompress.errors import InputError

_RUNS_CODE = {
    "Lambda": "carries Python code",
    "__lambda__": "carries Python code",
    "TFSMLayer": "runs a TensorFlow SavedModel",
    "TorchModuleWrapper": "carries a pickled PyTorch module",
    "JaxLayer": "carries a JAX function",
    "FlaxLayer": "carries a JAX function",
    "__typespec__": "names a TensorFlow type",
}
_KERAS2_OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod",
                      "InstanceProperty", "TensorFlowOpLayer")
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__",
           "__slice__", "function", "Functional", "Policy")
_NAMESPACES = (keras.layers, keras.models, keras.initializers, keras.regularizers,
               keras.constraints, keras.dtype_policies, keras.activations)


def check_description(description: Any, file: str) -> None:
    """Checks a model's JSON description.

    Args:
        description: As parsed from JSON.
        file: What the messages name.

    Raises:
        InputError: If it holds a layer that carries code, an operation of Keras 2 that Keras 3
            cannot express, or a class that neither Keras has nor
            `keras.saving.register_keras_serializable` was told of.
    """
    pending = [(description, "the model")]
    while pending:
        node, place = pending.pop()
        if isinstance(node, list):
            pending += [(item, place) for item in node]
        elif isinstance(node, dict):
            config = node.get("config")
            if isinstance(node.get("class_name"), str):
                if isinstance(config, dict) and isinstance(config.get("name"), str):
                    place = f"layer {config['name']!r}"
                _check_class(node, place, file)
            # How a model was compiled (its loss may be anything) is never read.
            pending += [(value, place) for key, value in node.items() if key != "compile_config"]


def _check_class(node: dict, place: str, file: str) -> None:
    name = node["class_name"]
    module = None if node.get("module") is None else str(node["module"])
    if name in _RUNS_CODE:
        raise InputError(
            f"{file}: {place} is a {name}, which {_RUNS_CODE[name]}; that is never run here: "
            "rebuild the model with standard Keras layers in its place, and save it again"
        )
    if name in _KERAS2_OPERATIONS:
        operation = (node.get("config") or {}).get("function") or name
        raise InputError(
            f"{file}: {place} is the bare TensorFlow operation {operation!r} ({name}), which "
            "Keras 3 cannot read; rebuild the model with a Keras layer in its place (such as "
            "Rescaling, Reshape or Add), load the weights into it, and save it again"
        )
    registered = node.get("registered_name")
    for candidate in (registered, name):
        if candidate and keras.saving.get_registered_object(candidate) is not None:
            return
    known = name in _VALUES or any(hasattr(space, name) for space in _NAMESPACES)
    if module is None:
        standard = registered is None and known
    elif name == "function":
        standard = module == "builtins" or module.split(".")[0] == "keras"
    else:  # Keras 2.16 and later call their own package tf_keras
        standard = module.split(".")[0] == "keras" or (module.startswith("tf_keras.") and known)
    if standard:
        return
    raise InputError(
        f"{file}: {place} is a custom {registered or name}, which Keras does not have; rebuild "
        "the model with standard layers and save it again, or, in Python, register the class "
        "with keras.saving.register_keras_serializable before opening the file"
    )
