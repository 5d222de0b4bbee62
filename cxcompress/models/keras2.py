"""Turns a model description of Keras 2 into one that Keras 3 reads, without changing the model.

Keras 3 reads the HDF5 files of Keras 2 only when no layer uses what it dropped since: it fails
on every depthwise, separable or transposed convolution (`groups: 1`), on nested models (as in
transfer learning: their calls were counted from 1, and BatchNormalization has `axis: [3]`), on
layer names with a slash (`conv1/bn`, as in the DenseNets), on mixed precision policies, on LSTM
(`time_major`). Each is a mere spelling of what Keras 3 does anyway, and is respelled here.
Weights are not touched.

    description = modernised(json.loads(file.attrs["model_config"]))
"""

from __future__ import annotations

import copy
from typing import Any

# Arguments that Keras 3 no longer takes, dropped where they have the only value that it keeps.
_DROPPED = {"groups": 1, "time_major": False, "rng_type": "stateful", "sparse": False,
            "ragged": False, "force_generator": False, "interpolation_order": None}
_KEEP_GROUPS = ("Conv1D", "Conv2D", "Conv3D", "GroupNormalization")
# Separable convolutions inherited these from Conv2D and never used them.
_UNUSED_BY_SEPARABLE = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")


def modernised(description: dict) -> dict:
    """A copy of a Keras 2 model description in the spelling of Keras 3."""
    description = copy.deepcopy(description)
    if isinstance(description["config"], list):  # Sequential before Keras 2.2.3
        description["config"] = {"name": "sequential", "layers": description["config"]}
    names = _slash_free(description)
    return _respelled(description, names)


def _slash_free(description: dict) -> dict[str, str]:
    """New names for the layers whose names hold a slash; unique among all names."""
    found, pending = set(), [description]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            if "class_name" in node and isinstance(node.get("config"), dict):
                found.add(node["config"].get("name"))
            pending += node.values()
    renamed = {}
    for name in sorted(name for name in found if isinstance(name, str) and "/" in name):
        new = name.replace("/", "_")
        while new in found:
            new += "_"
        found.add(new)
        renamed[name] = new
    return renamed


def _respelled(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, str):
        return names.get(node, node)
    if isinstance(node, list):
        return [_respelled(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _respelled(value, names) for key, value in node.items()}
    if node.get("class_name") == "Functional" and "module" in node:
        node["module"] = "keras.src.models.functional"  # where Keras 3 itself says that it is
    config = node.get("config")
    if isinstance(node.get("class_name"), str) and isinstance(config, dict):
        if node["class_name"] == "Policy":
            return config["name"]
        _respell_config(node["class_name"], config)
    return node


def _respell_config(class_name: str, config: dict) -> None:
    for key, neutral in _DROPPED.items():
        if key == "groups" and class_name in _KEEP_GROUPS:
            continue
        if key in config and config[key] == neutral:
            del config[key]
    if class_name.startswith("SeparableConv"):
        for key in _UNUSED_BY_SEPARABLE:
            config.pop(key, None)
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config["axis"] = config["axis"][0]
    if class_name == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    if isinstance(config.get("layers"), list):
        _recount_calls(config)
    for key in ("input_layers", "output_layers"):
        # Keras 2 lists even a single tensor; Keras 3 would then return a list of one output.
        ends = config.get(key)
        if isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list):
            config[key] = ends[0]


def _recount_calls(config: dict) -> None:
    """Counts the calls of nested models from 0, in place.

    In Keras 2 a nested model that begins with an InputLayer has a call of number 0, of its own
    making, before the first real one. Keras 3 has none; for functional models it corrects the
    numbers in `output_layers` itself, and nothing else.
    """
    nested = {}
    for layer in config["layers"]:
        inner = layer.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("layers"), list) and inner["layers"]:
            if inner["layers"][0].get("class_name") == "InputLayer":
                nested[layer.get("name", inner.get("name"))] = layer["class_name"]
    for layer in config["layers"]:
        for node in layer.get("inbound_nodes", ()):
            for source in node if isinstance(node, list) else ():
                if source[0] in nested:
                    source[1] -= 1
    for source in config.get("output_layers", ()):
        if isinstance(source, list) and nested.get(source[0]) == "Sequential":
            source[1] -= 1
