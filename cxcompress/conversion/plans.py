"""Execution plans of a compressed model: LiteRT graphs that compute with its shared weights.

    plans = build_plans(model, shared, calibration=images)
    plans.graphs["int8"], plans.notes

The stock converter chooses int8 values of its own for every kernel. Here they are replaced: where
a codebook lies on an integer grid (it has a `step`), the int8 kernel is exactly those integers, and
the channel's scale is the step times what BatchNormalization was folded into it. Other codebooks
are rounded to the finest grid that holds a channel.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.conversion.flatbuffer_graph import FlatbufferGraph
from cxcompress.conversion.kernel_matching import FoldedKernel, match_kernel
from cxcompress.conversion.litert_converter import (
    CALIBRATION_IMAGES,
    ConversionError,
    convert,
)
from cxcompress.representation import SharedWeights
from cxcompress.runtime import PLANS
from cxcompress.runtime.filling import WHOLE_INTEGERS, PlacedKernel, graph_without_kernels
from cxcompress.storage import Graph

logger = logging.getLogger(__name__)

LARGEST_BIAS = 2**30
"""Of static graphs, in units of input scale × weight scale: half of what int32 holds."""
SMALLEST_MULTIPLIER = 2.0**-30
"""Input scale × weight scale / output scale: XNNPACK refuses less than 2^-32."""


@dataclass(frozen=True)
class Plans:
    """What could be converted.

    Args:
        graphs: By plan.
        notes: One line for each plan that could not.
    """

    graphs: dict[str, Graph] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build_plans(
    model: keras.Model, shared: SharedWeights, calibration: NDArray | None = None,
    names: Sequence[str] = PLANS,
) -> Plans:
    """Convert a compressed model for every plan that is possible.

    Args:
        model: Of the architecture; its weights do not matter.
        shared: The compressed weights.
        calibration: Inputs `(n, …)` as the model takes them; without them no `"static_int8"`.
        names: Plans wanted.

    Returns:
        The graphs, and for each that is missing one line that says why.

    Raises:
        ValueError: If a name is unknown.
    """
    if unknown := set(names) - set(PLANS):
        raise ValueError(f"plans are {', '.join(PLANS)}. Received: {', '.join(sorted(unknown))}")
    plans = Plans()
    weights = shared.weights()
    arrays = {path: array for path, array in weights.items() if np.ndim(array) > 1}
    wanted = [name for name in PLANS if name in names or name == "float32"]
    if "static_int8" in wanted and (calibration is None or not len(calibration)):
        wanted.remove("static_int8")
        plans.notes.append("plan static_int8 left out: it takes activation ranges from images, "
                           "and none were given")
    converted = convert(model, wanted, weights, _calibration(calibration))
    if isinstance(converted["float32"], ConversionError):
        plans.notes.append("no plan to run without TensorFlow: "
                           f"{_blamed(model, weights, converted['float32'])}")
        return plans
    plain = FlatbufferGraph(converted["float32"])
    folded = {number: match_kernel(plain.array(number), arrays)
              for number in plain.constants(np.float32)}
    for name in wanted:
        try:
            if isinstance(converted[name], ConversionError):
                raise converted[name]
            if name != "float32":
                plans.graphs[name] = _integer_plan(
                    FlatbufferGraph(converted[name]), plain, folded, shared, arrays,
                    name == "static_int8")
            elif name in names:
                plans.graphs[name] = _float_plan(FlatbufferGraph(converted[name]), folded)
        except ConversionError as error:
            plans.notes.append(f"plan {name} unavailable: {_recurrent(model)}{error}")
    return plans


def _calibration(images: NDArray | None) -> NDArray | None:
    if images is None or len(images) <= CALIBRATION_IMAGES:
        return images
    return images[np.linspace(0, len(images) - 1, CALIBRATION_IMAGES).round().astype(int)]


def _recurrent(model: keras.Model) -> str:
    """The layer to blame where the converter crashes without a word: a recurrent one."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional):
            return f"layer {layer.name} ({type(layer).__name__}): "
    return ""


def _blamed(model: keras.Model, weights, error: ConversionError) -> str:
    """The error with the first layer whose output cannot be converted, found by bisection."""
    if not isinstance(model, keras.Model) or not getattr(model, "_functional", model.inputs):
        return str(error)
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    low, high = 0, len(layers) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            part = keras.Model(model.inputs, layers[middle].output)
            known = models.weights(part)
            found = convert(part, ["float32"],
                            {path: weights[path] for path in known if path in weights})
            if isinstance(found["float32"], ConversionError):
                high = middle
            else:
                low = middle + 1
        except (ValueError, AttributeError, KeyError):
            return str(error)
    return f"layer {layers[low].name} ({type(layers[low]).__name__}): {error}"


def _float_plan(graph: FlatbufferGraph, folded: dict[int, FoldedKernel | None]) -> Graph:
    matched = {number: kernel for number, kernel in folded.items() if kernel is not None}
    for number in matched:
        graph.set_array(number, graph.array(number))
    return _cut(graph, {number: (kernel, "float32", kernel.factors)
                        for number, kernel in matched.items()})


def _cut(graph: FlatbufferGraph, placed: dict[int, tuple], **facts) -> Graph:
    """Pack the graph and cut the placed kernels out of it."""
    flatbuffer = graph.packed()
    offsets = graph.offsets(flatbuffer, list(placed))
    return graph_without_kernels(flatbuffer, [
        PlacedKernel(kernel.path, offsets[number], kernel.axes, kernel.shape, kernel.channel_axis,
                     dtype, _shortest(factors))
        for number, (kernel, dtype, factors) in placed.items()], **facts)


def _shortest(factors: NDArray) -> NDArray[np.float32]:
    factors = np.asarray(factors, np.float32)
    return factors[:1] if (factors == factors[0]).all() else factors


def _integer_plan(
    graph: FlatbufferGraph, plain: FlatbufferGraph, folded: dict[int, FoldedKernel | None],
    shared: SharedWeights, arrays: Mapping[str, NDArray], static: bool,
) -> Graph:
    """The graph with int8 kernels of the shared weights' own integers, and biases that fit."""
    placed: dict[int, tuple] = {}
    rounded, as_converted, floats = [], [], []
    pairs = _pairs(graph, plain)
    for number in graph.constants(np.int8):
        source = pairs.get(number)
        kernel = folded.get(source)
        users = graph.users(number)
        if kernel is not None and len(graph.scales(number)[0]) > 1:
            kernel = kernel.with_channel_axis(graph.scales(number)[1])
        if kernel is None or not users:
            as_converted.append(graph.name(number))
            continue
        if not static and any(graph.kind(user) == schema.BuiltinOperator.DEPTHWISE_CONV_2D
                              for user in users):
            # LiteRT has no fast kernel for int8 weights and float activations of this operator.
            graph.set_array(number, plain.array(source))
            placed[number] = kernel, "float32", kernel.factors
            floats.append(kernel.path)
            continue
        step = _step(shared, kernel.path)
        factors = kernel.factors
        largest = kernel.along_channels(np.ones_like(factors)) * np.abs(plain.array(source))
        axes = tuple(axis for axis in range(len(kernel.shape)) if axis != kernel.channel_axis)
        finest = largest.max(axis=axes).astype(np.float64) / WHOLE_INTEGERS
        scales = np.abs(factors) * step if step else finest
        scales = np.where(scales > 0, scales, 1.0)
        biases = _biases(graph, plain, users, source) if static else []
        scales, widened = _wide_enough(scales, biases, graph, users)
        if len(graph.scales(number)[0]) == 1 and len(scales) > 1:
            # One scale for all channels: the largest serves, and others are rounded to it.
            if not (scales == scales[0]).all():
                scales, widened = np.full_like(scales, finest.max() or 1.0), np.ones(len(scales))
        if not step or widened.any():
            rounded.append(kernel.path)
        scales = scales.astype(np.float32).astype(np.float64)
        per_channel = len(graph.scales(number)[0]) > 1
        graph.set_array(number, np.zeros(kernel.shape, np.int8))
        graph.set_scales(number, scales if per_channel else scales[:1], kernel.channel_axis)
        multipliers = factors / scales
        if step:  # exactly ±1 / step, so that all channels share one table of integers
            exact = np.abs(multipliers * step - np.sign(factors)) < 1e-5
            multipliers = np.where(exact, np.sign(factors) / step, multipliers)
        placed[number] = kernel, "int8", multipliers
        for user, values, input_scale in biases:
            _set_bias(graph, user, values, input_scale * scales[:None if per_channel else 1])
    for number in set(graph.constants(np.float32)) - placed.keys():
        kernel = match_kernel(graph.array(number), arrays)
        if kernel is not None:
            graph.set_array(number, graph.array(number))
            placed[number] = kernel, "float32", kernel.factors
            floats.append(kernel.path)
    return _cut(graph, placed, rounded=rounded, float=floats, as_converted=as_converted)


def _pairs(graph: FlatbufferGraph, plain: FlatbufferGraph) -> dict[int, int]:
    """Float constants that int8 constants were made of: none is further off than half a step."""
    left = plain.constants(np.float32)
    found = {}
    for number in graph.constants(np.int8):
        if not graph.is_quantised(number):
            continue
        scales, axis = graph.scales(number)
        values = graph.array(number)
        sides = [1] * values.ndim
        if len(scales) > 1:
            sides[axis] = -1
        scales = scales.reshape(sides)
        for source in left:
            original = plain.array(source)
            if original.shape == values.shape and (
                    np.abs(values * scales - original) <= 0.51 * scales).all():
                found[number] = source
                left.remove(source)
                break
    return found


def _step(shared: SharedWeights, path: str) -> float | None:
    if path not in shared.kernels:
        return None
    codebook = shared.codebooks[shared.kernels[path].codebook]
    return codebook.step if codebook.grid_integers is not None else None


def _biases(graph, plain, users, source: int) -> list[tuple]:
    """(operator, float biases, input scale) of the operators of a kernel, where they have one."""
    # Of kernels that are alike (dead ones, say) one graph may hold one, the other two: their
    # operators are told apart by the biases.
    alike = [number for number in plain.constants(np.float32)
             if np.array_equal(plain.array(number), plain.array(source))]
    originals = [user for number in alike for user in plain.users(number)]
    found = []
    for user in users:
        scales = graph.activations(user)
        if graph.bias(user) is None or scales is None:
            continue
        stock, _ = graph.scales(graph.bias(user))
        quantised = _vector(graph, graph.bias(user)) * stock
        for original in originals:
            number = plain.bias(original)
            values = np.zeros(quantised.size) if number is None else _vector(plain, number)
            # A unit, or what float32 scales leave of a bias of hundreds of millions of units.
            if values.size == quantised.size and (np.abs(quantised - values) <= (
                    1.01 * stock + 1e-6 * np.abs(values))).all():
                originals.remove(original)
                found.append((user, values.astype(np.float64), scales[0]))
                break
        else:
            raise ConversionError(f"the bias of {graph.name(graph.bias(user))} is not that of the "
                                  "float graph")
    return found


def _vector(graph: FlatbufferGraph, number: int) -> NDArray:
    return graph.array(number).reshape(-1)


def _wide_enough(scales: NDArray, biases, graph, users) -> tuple[NDArray, NDArray]:
    """Scales at which biases fit into int32 and multipliers are not too small; which changed."""
    wide = scales
    for _, values, input_scale in biases:
        wide = np.maximum(wide, np.abs(values) / (input_scale * LARGEST_BIAS))
    for user in users:
        if (found := graph.activations(user)) is not None:
            wide = np.maximum(wide, SMALLEST_MULTIPLIER * found[1] / found[0])
    return wide, wide > scales


def _set_bias(graph: FlatbufferGraph, user, values: NDArray, scales: NDArray) -> None:
    number = graph.bias(user)
    scales = np.asarray(scales, np.float32)
    count = _vector(graph, number).size
    biases = np.rint(np.broadcast_to(values, count) / scales.astype(np.float64)).astype(np.int32)
    graph.set_array(number, biases)
    graph.set_scales(number, scales, 0)
