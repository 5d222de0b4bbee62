"""Where a classifier looks: class-activation maps, or occlusion, without TensorFlow.

    maps = activation_maps("model-uCWS.h5")          # None where the network has no such head
    maps.of(inputs)                                  # (n, height, width, classes)
    occlusion_map(model, inputs[0], column=3)        # for any network, 64 answers each

A network that ends in global average pooling and one dense layer adds up, for each class, what
every place of its last feature map contributes: logit = bias + mean over places of the map. That
map is exact, not an estimate. Reference: Zhou et al., "Learning deep features for discriminative
localization" (2016), equation 2; occlusion: Zeiler and Fergus (2014), section 4.2.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError
from cxcompress.runtime.running import RuntimeModel, graph_interpreter

PLAN = "float32"
"""The plan whose tensors are looked at: in integer plans they are rounded."""
_SHAPING = ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE")
OCCLUSION_GRID = 8


class ActivationMaps:
    """The contributions of places to the logits of a network with an average-pooled dense head.

    Args:
        interpreter: LiteRT's, of the float32 plan, that keeps all tensors.
        features: Number of the tensor that is averaged, `(1, height, width, channels)`.
        kernel: float `(classes, channels)`.
        bias: float `(classes,)`.
    """

    def __init__(self, interpreter, features: int, kernel: NDArray, bias: NDArray):
        self._interpreter, self._features = interpreter, features
        self._input = interpreter.get_input_details()[0]
        self.kernel, self.bias = kernel, bias

    def of(self, inputs: ArrayLike) -> NDArray[np.float32]:
        """Maps of inputs.

        Args:
            inputs: `(n, *input_shape)`, as the Keras model takes them.

        Returns:
            float32 `(n, height, width, classes)` of the last feature map's size. The mean over
            places, plus `bias`, is the logit.

        Raises:
            InputError: If the shape is another.
        """
        inputs = np.asarray(inputs, self._input["dtype"])
        if inputs.shape[1:] != tuple(self._input["shape"][1:]):
            raise InputError(f"takes inputs of shape {tuple(self._input['shape'][1:])}. "
                             f"Received: {inputs.shape[1:]}")
        found = []
        for one in inputs:
            self._interpreter.set_tensor(self._input["index"], one[None])
            self._interpreter.invoke()
            found.append(self._interpreter.get_tensor(self._features)[0] @ self.kernel.T)
        return np.array(found, np.float32)


def activation_maps(path: str | os.PathLike, threads: int | None = None) -> ActivationMaps | None:
    """Open a compressed classifier to see where it looks.

    Args:
        path: A container.
        threads: As for `load`.

    Returns:
        None where the file has no plan `float32`, or the network does not end in a mean over
        places and one dense layer.

    Raises:
        InputError: As `load`.
    """
    interpreter = graph_interpreter(path, PLAN, threads)
    if interpreter is None:
        return None
    operators = interpreter._get_ops_details()
    made_by = {int(output): operator for operator in operators for output in operator["outputs"]}
    dense = [operator for operator in operators if operator["op_name"] == "FULLY_CONNECTED"]
    if not dense:
        return None
    entry, weights, *rest = (int(number) for number in dense[-1]["inputs"])
    pooled = _source(entry, made_by)
    if pooled is None or pooled["op_name"] not in ("MEAN", "AVERAGE_POOL_2D"):
        return None
    features = int(pooled["inputs"][0])
    shapes = {tensor["index"]: tuple(tensor["shape"])
              for tensor in interpreter.get_tensor_details()}
    kernel = np.asarray(interpreter.get_tensor(weights), np.float32)
    if len(shapes[features]) != 4 or shapes[features][-1] != kernel.shape[1] or (
            pooled["op_name"] == "AVERAGE_POOL_2D"
            and np.prod(shapes[int(pooled["outputs"][0])]) != kernel.shape[1]):
        return None
    bias = np.zeros(len(kernel), np.float32)
    if rest and rest[0] >= 0:
        bias = np.asarray(interpreter.get_tensor(rest[0]), np.float32).reshape(-1)
    return ActivationMaps(interpreter, features, kernel, bias)


def _source(tensor: int, made_by) -> dict | None:
    """The operator that computed a tensor, seen through those that only shape it."""
    operator = made_by.get(tensor)
    while operator is not None and operator["op_name"] in _SHAPING:
        operator = made_by.get(int(operator["inputs"][0]))
    return operator


def occlusion_map(
    model: RuntimeModel, one: NDArray, column: int, grid: int = OCCLUSION_GRID
) -> NDArray[np.float32]:
    """How much the output of a class falls when a part of the picture is hidden.

    Args:
        model: Any classifier.
        one: One input, of `model.input_shape`.
        column: The class.
        grid: Parts along each side; each is hidden by the input's mean in turn.

    Returns:
        float32 `(grid, grid)`: output of the whole picture − output without that part.
    """
    edges = [np.linspace(0, side, grid + 1).round().astype(int) for side in one.shape[:2]]
    hidden = np.repeat(one[None], grid * grid, axis=0)
    grey = one.mean(axis=(0, 1))
    for number, (row, place) in enumerate(_pairs(grid)):
        hidden[number, edges[0][row]:edges[0][row + 1],
               edges[1][place]:edges[1][place + 1]] = grey
    whole = model.predict(one[None])[0, column]
    return (whole - model.predict(hidden)[:, column]).reshape(grid, grid).astype(np.float32)


def _pairs(grid: int) -> Sequence[tuple[int, int]]:
    return [(row, place) for row in range(grid) for place in range(grid)]
