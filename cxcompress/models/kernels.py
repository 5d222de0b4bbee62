"""Which variables of a model are kernels, of which family, and under which path.

    for kernel in kernels(model):
        kernel.path, kernel.family, kernel.shape    # 'conv1/kernel', 'conv', (3, 3, 1, 24)
    arrays = weights(model)                         # every stored array by path
    set_weights(model, arrays)                      # and back, strictly

A **path** is the names of the layers from the model down to the variable, then the variable's
name: `"conv1/kernel"`, in a nested model `"backbone/conv1/kernel"`. For a flat model this is
Keras' own `variable.path`. For nested and lazily built models Keras' path depends on how the
model came to be (`"sequential/conv1/kernel"` when built by its first call, `"conv1/kernel"` for
the same model read from its file), so it cannot name a stored array; this one can. Paths that
would coincide get the suffix `_1`, `_2`, … in network order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from cxcompress.errors import InputError

FAMILIES = ("conv", "depthwise", "dense")

# First match wins. Recurrent layers (LSTM, GRU) and embeddings are absent on purpose: they
# stay float, since one changed value acts at every time step.
_FAMILY_OF = (
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), {"kernel": "depthwise"}),
    (
        (layers.SeparableConv1D, layers.SeparableConv2D),
        {"depthwise_kernel": "depthwise", "pointwise_kernel": "conv"},
    ),
    (
        (
            layers.Conv1D,
            layers.Conv2D,
            layers.Conv3D,
            layers.Conv1DTranspose,
            layers.Conv2DTranspose,
            layers.Conv3DTranspose,
        ),
        {"kernel": "conv"},
    ),
    ((layers.Dense, layers.EinsumDense), {"kernel": "dense"}),
)


@dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel of a model.

    Args:
        path: Its variable's path, e.g. `"conv1/kernel"`.
        family: `"conv"`, `"depthwise"` or `"dense"`. A separable convolution has one kernel of
            the family `"depthwise"` and one (the 1×1) of `"conv"`.
        layer_name: Path of its layer, e.g. `"conv1"`.
        variable: The Keras variable.
    """

    path: str
    family: str
    layer_name: str
    variable: keras.Variable

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in Keras' axis order, e.g. (height, width, channels in, filters)."""
        return tuple(self.variable.shape)


def _walk(layer: layers.Layer, prefix: str, seen: set[int]) -> Iterator[tuple]:
    """(layer path, layer, variable) of every stored variable, in network order, each once."""
    children = layer._flatten_layers(include_self=False, recursive=False)
    inner = {id(variable) for child in children for variable in child.weights}
    # `weights`, unlike `variables`, leaves out the states of metrics and random generators.
    for variable in layer.weights:
        if id(variable) not in inner and id(variable) not in seen:
            seen.add(id(variable))
            yield prefix, layer, variable
    for child in children:
        yield from _walk(child, f"{prefix}/{child.name}" if prefix else child.name, seen)


def _variables(model: keras.Model) -> dict[str, tuple[str, layers.Layer, keras.Variable]]:
    found = {}
    for layer_path, layer, variable in _walk(model, "", set()):
        path = f"{layer_path}/{variable.name}" if layer_path else variable.name
        unique, number = path, 0
        while unique in found:
            number += 1
            unique = f"{path}_{number}"
        found[unique] = (layer_path, layer, variable)
    return found


def variables_by_path(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable that a file of the model must hold, in network order.

    Kernels, biases and BatchNormalization with its moving statistics; not the states of
    optimizers, metrics and random generators. A layer that is used twice appears once.
    """
    return {path: variable for path, (_, _, variable) in _variables(model).items()}


def kernels(model: keras.Model) -> list[Kernel]:
    """The kernels that can share weights, in network order.

    Kernels of convolutions (also transposed, depthwise and separable ones) and of dense layers
    (also those inside attention). The kernels of recurrent layers and embeddings are not
    listed: they stay float.

    Raises:
        InputError: If the model has none, or has no variables yet.
    """
    found = []
    for path, (layer_path, layer, variable) in _variables(model).items():
        for types, families in _FAMILY_OF:
            if isinstance(layer, types):
                if variable.name in families:
                    family = families[variable.name]
                    found.append(Kernel(path, family, layer_path, variable))
                break
    if not found:
        if not model.built:
            raise InputError(
                f"model {model.name!r} is not built and has no weights yet; give it an Input "
                "layer, or call model.build(input_shape)"
            )
        raise InputError(
            f"model {model.name!r} has no convolution and no dense layer: nothing to compress"
        )
    return found


def weights(model: keras.Model) -> dict[str, NDArray]:
    """Copies of all arrays of `variables_by_path(model)`; 16-bit floats become float32."""
    arrays = {}
    for path, variable in variables_by_path(model).items():
        array = np.array(keras.ops.convert_to_numpy(variable))
        arrays[path] = array.astype(np.float32) if "float16" in variable.dtype else array
    return arrays


def set_weights(model: keras.Model, arrays: Mapping[str, NDArray]) -> None:
    """Overwrites all variables of the model.

    Args:
        arrays: One array for every path of `variables_by_path(model)`, of the same shape.

    Raises:
        InputError: If a path is missing or unknown, or a shape differs; the model is then
            unchanged.
    """
    variables = variables_by_path(model)
    missing = [path for path in variables if path not in arrays]
    unknown = [path for path in arrays if path not in variables]
    for paths, problem in ((missing, "no weights for"), (unknown, "no variable named")):
        if paths:
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            raise InputError(f"model {model.name!r}: {problem} {', '.join(paths[:3])}{more}")
    for path, variable in variables.items():
        if tuple(arrays[path].shape) != tuple(variable.shape):
            raise InputError(
                f"model {model.name!r}: {path} has shape {tuple(variable.shape)}, "
                f"the weights given have {tuple(arrays[path].shape)}"
            )
    for path, variable in variables.items():
        variable.assign(arrays[path])
