"""Which kernel of the Keras model a constant of the converted graph holds, and scaled by what.

The converter renames tensors, turns axes and multiplies kernels by BatchNormalization, `Rescaling`
and other single factors. So a kernel is found by content: the constant must equal it, turned, times
one factor a channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6
"""Of folded float32 values, relative to the largest of their channel."""
SMALLEST = 16
"""Constants of fewer values are left in the graph: any array might equal them."""


@dataclass(frozen=True)
class FoldedKernel:
    """A kernel as the converted graph has it: `kernel.transpose(axes).reshape(shape)` × factors.

    Args:
        path: Its path in the model.
        axes: Order of the kernel's axes in the graph.
        shape: The constant's shape.
        channel_axis: Axis of `shape` along which the factor changes.
        factors: float64 `(shape[channel_axis],)`.
    """

    path: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    channel_axis: int
    factors: NDArray[np.float64]

    def with_channel_axis(self, axis: int) -> FoldedKernel | None:
        """The same with its factors along another axis; None if they change along this one."""
        if axis == self.channel_axis:
            return self
        if (self.factors != self.factors[0]).any():
            return None
        return replace(self, channel_axis=axis, factors=np.full(self.shape[axis], self.factors[0]))

    def along_channels(self, values: NDArray) -> NDArray:
        """Values, one a channel, so that they broadcast against the constant."""
        return values.reshape([-1 if axis == self.channel_axis else 1
                               for axis in range(len(self.shape))])


def match_kernel(constant: NDArray, kernels: Mapping[str, NDArray]) -> FoldedKernel | None:
    """The kernel that a float constant of the graph was made of, or None.

    Args:
        constant: float32, two axes or more.
        kernels: float32 arrays by path.
    """
    if constant.size < SMALLEST or not np.isfinite(constant).all():
        return None
    for path, kernel in kernels.items():
        if kernel.size != constant.size:
            continue
        for axes in _axis_orders(kernel.shape, constant.shape):
            turned = kernel.transpose(axes).reshape(constant.shape)
            for axis in dict.fromkeys((0, constant.ndim - 1)):
                factors = _channel_factors(np.moveaxis(constant, axis, 0),
                                           np.moveaxis(turned, axis, 0))
                if factors is not None:
                    return FoldedKernel(path, axes, constant.shape, axis, factors)
    return None


def _axis_orders(kernel: tuple[int, ...], constant: tuple[int, ...]):
    """Orders of the kernel's axes that give the constant's shape, up to axes of length 1."""
    wanted = [side for side in constant if side != 1]
    long = [axis for axis, side in enumerate(kernel) if side != 1]
    short = [axis for axis, side in enumerate(kernel) if side == 1]
    for order in permutations(long):
        if [kernel[axis] for axis in order] == wanted:
            yield tuple(short) + order


def _channel_factors(constant: NDArray, kernel: NDArray) -> NDArray | None:
    """One factor a row of `kernel` that gives `constant`; None if there are no such factors."""
    rows = len(constant)
    constant, kernel = constant.reshape(rows, -1), kernel.reshape(rows, -1)
    found = []
    for part in (slice(0, 1), slice(1, rows)):  # most candidates fail in the first row
        ours, theirs = kernel[part].astype(np.float64), constant[part].astype(np.float64)
        energy = np.einsum("ij,ij->i", ours, ours)
        factors = np.einsum("ij,ij->i", ours, theirs) / np.where(energy > 0, energy, 1)
        largest = np.abs(theirs).max(axis=1, initial=0)
        if (np.abs(theirs - factors[:, None] * ours).max(axis=1, initial=0)
                > ROUNDING * largest).any():
            return None
        found.append(np.where(energy > 0, factors, 1.0))
    return np.concatenate(found)
