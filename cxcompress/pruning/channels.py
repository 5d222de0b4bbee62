"""Which channels of a network hang together, so that a filter can be removed for real.

    found = Channels.of(model)
    found.sets                      # {("conv1",): array of channels, ("conv2", "shortcut"): …}
    found.kept_of(tensor, keep)     # positions of a tensor's channels that stay

Every channel that a convolution or dense layer produces gets a number of its own, which travels
along the graph: normalisation, activation, pooling and depthwise convolution pass it on,
concatenation (a dense block) joins lists of numbers, and an addition or a product (a residual
connection, squeeze-and-excitation) says that two numbers are one, since both channels must go or
stay together. Where a layer mixes channels in a way that is not known here, they are frozen.

Reference: the dependency graph of Fang et al. (2023), "DepGraph: towards any structural pruning".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from cxcompress.errors import InputError

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
PRODUCERS = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE, layers.Dense)
MERGES = (layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum,
          layers.Minimum)
ELEMENTWISE = (
    layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Dropout,
    layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D,
    layers.GaussianNoise, layers.GaussianDropout, layers.Identity, layers.ActivityRegularization,
    layers.Rescaling, layers.BatchNormalization)
POOLINGS = tuple(
    getattr(layers, f"{kind}{rank}D") for rank in (1, 2, 3) for kind in (
        "MaxPooling", "AveragePooling", "GlobalMaxPooling", "GlobalAveragePooling", "ZeroPadding",
        "Cropping", "UpSampling"))
MIXING_ACTIVATIONS = ("softmax", "log_softmax", "sparsemax")


@dataclass
class Channels:
    """The channels of a functional model.

    Attributes:
        model: The functional model that was looked at.
        of_tensor: By `id` of a symbolic tensor, the numbers of its channels.
        parent: Union-find: the number that a number is one with.
        frozen: Per number, whether it must stay.
        makers: By producing layer's name, the numbers of its filters.
    """

    model: keras.Model
    of_tensor: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    parent: list[int] = field(default_factory=list)
    frozen: list[bool] = field(default_factory=list)
    makers: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: keras.Model, exclude: Iterable[str] = ()) -> Channels:
        """Look at a model.

        Args:
            model: Functional or sequential, built, channels last.
            exclude: Names of layers whose filters all stay.

        Raises:
            InputError: If the model is a subclass without a graph, holds another model, or a
                layer of that name is not there.
        """
        found = cls(functional(model))
        for node in nodes(found.model):
            found._visit(node)
        for tensor in found.model.outputs:
            found._freeze(found.of_tensor[id(tensor)])
        for name in exclude:
            if name not in found.makers:
                raise InputError(f"--exclude {name}: no layer with filters has this name; the "
                                 f"layers are {', '.join(list(found.makers)[:8])}, …")
            found._freeze(found.makers[name])
        return found

    @property
    def sets(self) -> dict[tuple[str, ...], NDArray[np.int64]]:
        """Channels that may go, by the layers that make them together, in network order."""
        makers: dict[int, list[str]] = {}
        frozen = {self.root(number) for number, stays in enumerate(self.frozen) if stays}
        for name, numbers in self.makers.items():
            for root in self.roots(numbers):
                if name not in makers.setdefault(int(root), []):
                    makers[int(root)].append(name)
        found: dict[tuple[str, ...], list[int]] = {}
        for root, names in makers.items():
            if root not in frozen:
                found.setdefault(tuple(names), []).append(root)
        return {names: np.array(roots) for names, roots in found.items()}

    def kept_of(self, tensor, gone: set[int]) -> NDArray[np.intp]:
        """Positions of a tensor's channels that stay when the channels `gone` go."""
        return self.kept(self.of_tensor[id(tensor)], gone)

    def kept(self, numbers: NDArray, gone: set[int]) -> NDArray[np.intp]:
        """Positions among `numbers` that stay."""
        return np.flatnonzero([int(root) not in gone for root in self.roots(numbers)])

    def roots(self, numbers: NDArray) -> NDArray[np.int64]:
        """The numbers that these are one with."""
        return np.array([self.root(int(number)) for number in numbers], np.int64)

    def root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def _visit(self, node) -> None:
        operation, outputs = node.operation, list(node.outputs)
        if node.is_input:
            for tensor in outputs:
                self._set(tensor, self._fresh(tensor.shape[-1], frozen=True))
            return
        if isinstance(operation, keras.Model):
            raise InputError(f"{operation.name}: a model inside the model; its filters cannot be "
                             "removed. Build the network from layers alone")
        inputs = [self.of_tensor[id(tensor)] for tensor in node.input_tensors]
        numbers = self._passed(operation, node, inputs)
        if numbers is None:
            for some in inputs:
                self._freeze(some)
            for tensor in outputs:
                self._set(tensor, self._fresh(tensor.shape[-1] if tensor.shape else 1, True))
        else:
            self._set(outputs[0], numbers)

    def _passed(self, layer, node, inputs: Sequence[NDArray]) -> NDArray | None:
        """The numbers of a layer's output channels; None for what is not understood."""
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            return None
        if isinstance(layer, PRODUCERS):
            return self._produced(layer, inputs[0])
        if isinstance(layer, DEPTHWISE):
            numbers = np.repeat(inputs[0], layer.depth_multiplier)
            return self._after(layer, numbers)
        if isinstance(layer, layers.BatchNormalization):
            rank = len(node.input_tensors[0].shape)
            return inputs[0] if layer.axis in (-1, rank - 1) else None
        if isinstance(layer, ELEMENTWISE):
            return self._after(layer, inputs[0])
        if isinstance(layer, POOLINGS):
            return inputs[0]
        if isinstance(layer, layers.Flatten):
            shape = node.input_tensors[0].shape[1:]
            if None in shape:
                return None
            return np.tile(inputs[0], int(np.prod(shape[:-1])))
        if isinstance(layer, layers.Reshape):
            same = layer.target_shape and layer.target_shape[-1] == inputs[0].size
            return inputs[0] if same else None
        if isinstance(layer, layers.Concatenate):
            rank = len(node.outputs[0].shape)
            if layer.axis in (-1, rank - 1):
                return np.concatenate(inputs)
            return self._one(inputs)
        if isinstance(layer, MERGES):
            return self._one(inputs)
        return None

    def _produced(self, layer, incoming: NDArray) -> NDArray | None:
        if getattr(layer, "groups", 1) != 1 or layer.dtype_policy.quantization_mode:
            return None
        if layer.name in self.makers:  # used a second time: what it takes must agree
            first = self._incoming[layer.name]
            if first.size != incoming.size:
                return None
            self._one([first, incoming])
        else:
            self._incoming[layer.name] = incoming
            filters = layer.units if isinstance(layer, layers.Dense) else layer.filters
            self.makers[layer.name] = self._fresh(filters)
        return self._after(layer, self.makers[layer.name])

    def __post_init__(self):
        self._incoming: dict[str, NDArray] = {}

    def _after(self, layer, numbers: NDArray) -> NDArray:
        activation = getattr(layer, "activation", None)
        if getattr(activation, "__name__", "") in MIXING_ACTIVATIONS:
            self._freeze(numbers)
        return numbers

    def _one(self, inputs: Sequence[NDArray]) -> NDArray:
        """Channels at the same place of all inputs become one; single ones spread and stay."""
        widest = max(inputs, key=len)
        for numbers in inputs:
            if numbers.size != widest.size:
                self._freeze(numbers)
                continue
            for one, other in zip(numbers, widest, strict=True):
                a, b = self.root(int(one)), self.root(int(other))
                self.parent[max(a, b)] = min(a, b)
        return widest

    def _fresh(self, count: int | None, frozen: bool = False) -> NDArray[np.int64]:
        start = len(self.parent)
        self.parent += range(start, start + (count or 1))
        self.frozen += [frozen] * (count or 1)
        return np.arange(start, len(self.parent))

    def _freeze(self, numbers: NDArray) -> None:
        for number in numbers:
            self.frozen[int(number)] = True

    def _set(self, tensor, numbers: NDArray) -> None:
        self.of_tensor[id(tensor)] = numbers


def functional(model: keras.Model) -> keras.Model:
    """The model as a functional one that shares its layers.

    Raises:
        InputError: If it has no graph of layers.
    """
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if not getattr(model, "_nodes_by_depth", None):
        raise InputError(f"model {model.name!r}: a subclass of keras.Model without a graph of "
                         "layers; filters can be removed from functional and sequential models")
    return model


def nodes(model: keras.Model) -> Iterator:
    """The calls of a functional model's layers, from its inputs on."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]
