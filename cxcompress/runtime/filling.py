"""Put a container's weights into the gaps of its execution graph.

    flatbuffer = bytearray(graph_bytes(graph, shared))
    fill(graph, shared, flatbuffer)          # now a LiteRT flatbuffer that any LiteRT runs

`storage/FORMAT.md` section 7 says what a placement holds.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxcompress.representation import SharedWeights
from cxcompress.storage import Graph

DTYPES: dict[str, np.dtype] = {"int8": np.dtype("i1"), "float32": np.dtype("<f4")}
WHOLE_INTEGERS = 127


@dataclass(frozen=True)
class PlacedKernel:
    """Where a kernel goes: `kernel.transpose(axes).reshape(shape) × factors` as a `dtype`.

    Args:
        path: The kernel's path in `SharedWeights`.
        offset: First byte in the flatbuffer.
        axes: Order of the kernel's axes.
        shape: Shape in the graph.
        channel_axis: Axis of `shape` along which the factor changes.
        dtype: `"int8"` (the product is rounded and clipped to ±127) or `"float32"`.
        factors: float32, one a channel, or a single one.
    """

    path: str
    offset: int
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    channel_axis: int
    dtype: str
    factors: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes in the flatbuffer."""
        return DTYPES[self.dtype].itemsize * math.prod(self.shape)

    def entry(self) -> dict[str, Any]:
        """The placement's entry, without the factors."""
        return {"path": self.path, "offset": self.offset, "axes": self.axes, "shape": self.shape,
                "channel_axis": self.channel_axis, "dtype": self.dtype,
                "factors": len(self.factors)}


def graph_without_kernels(flatbuffer: bytes, kernels: list[PlacedKernel], **facts: Any) -> Graph:
    """Cut kernels out of a flatbuffer; their factors stay in their place.

    Args:
        flatbuffer: Whole.
        kernels: Not overlapping.
        **facts: More of the placement, as JSON values.
    """
    kernels = sorted(kernels, key=lambda kernel: kernel.offset)
    parts, position = [], 0
    for kernel in kernels:
        parts += [flatbuffer[position:kernel.offset], kernel.factors.astype("<f4").tobytes()]
        position = kernel.offset + kernel.nbytes
    parts.append(flatbuffer[position:])
    return Graph(b"".join(parts), facts | {
        "bytes": len(flatbuffer), "kernels": [kernel.entry() for kernel in kernels]})


def placed_kernels(graph: Graph, shared: SharedWeights) -> list[PlacedKernel]:
    """The kernels of a placement, checked against the weights and the graph's length.

    Raises:
        ValueError: If the placement is not one, or does not fit the weights or the graph.
    """
    shapes = {path: kernel.indices.shape for path, kernel in shared.kernels.items()}
    shapes |= {path: array.shape for path, array in shared.unshared.items()}
    kernels, stored, end = [], 0, 0
    for entry in graph.placement["kernels"]:
        offset, count, path = entry["offset"], entry["factors"], entry["path"]
        shape, axes = tuple(entry["shape"]), tuple(entry["axes"])
        axis, dtype = entry["channel_axis"], entry["dtype"]
        if path not in shapes or dtype not in DTYPES:
            raise ValueError(f"a placement of {str(path):.80}, {str(dtype):.20}")
        numbers = (offset, count, axis, *shape, *axes)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"a placement of {path:.80} with a number below 0")
        if (sorted(axes) != list(range(len(shapes[path]))) or axis >= len(shape)
                or math.prod(shape) != math.prod(shapes[path]) or count not in (1, shape[axis])
                or offset < end):
            raise ValueError(f"a placement of {path:.80} that does not fit its kernel")
        first = stored + offset - end
        raw = graph.flatbuffer[first:first + 4 * count]
        if len(raw) != 4 * count:
            raise ValueError("a graph that ends within its placements")
        kernels.append(PlacedKernel(path, offset, axes, shape, axis, dtype,
                                    np.frombuffer(raw, "<f4")))
        stored, end = first + 4 * count, offset + kernels[-1].nbytes
    if graph.placement["bytes"] != end + len(graph.flatbuffer) - stored:
        raise ValueError("a graph of another length than its placement says")
    return kernels


def fill(graph: Graph, shared: SharedWeights, target: Any, threads: int | None = None) -> None:
    """Write the whole flatbuffer.

    Args:
        graph: With a valid placement.
        shared: The weights.
        target: A writable buffer of `graph.placement["bytes"]` bytes.
        threads: Kernels that are decoded at the same time; default one a core.

    Raises:
        ValueError: As `placed_kernels`.
    """
    kernels = placed_kernels(graph, shared)
    whole = np.frombuffer(target, np.uint8)
    stored = np.frombuffer(graph.flatbuffer, np.uint8)
    taken = end = 0
    for kernel in kernels:
        gap = kernel.offset - end
        whole[end:kernel.offset] = stored[taken:taken + gap]
        taken += gap + kernel.factors.nbytes
        end = kernel.offset + kernel.nbytes
    whole[end:] = stored[taken:]

    def place(kernel: PlacedKernel) -> None:
        place_kernel(kernel, shared, whole[kernel.offset:kernel.offset + kernel.nbytes])

    threads = min(threads or os.cpu_count() or 1, len(kernels))
    if threads < 2:
        for kernel in kernels:
            place(kernel)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(place, sorted(kernels, key=lambda kernel: -kernel.nbytes)))


def place_kernel(kernel: PlacedKernel, shared: SharedWeights, target: NDArray[np.uint8]) -> None:
    """Write one kernel into its bytes."""
    target = target.view(DTYPES[kernel.dtype]).reshape(kernel.shape)
    factors = kernel.factors
    if kernel.path not in shared.kernels:
        _scaled(shared.unshared[kernel.path], kernel, factors, target)
        return
    found = shared.kernels[kernel.path]
    values = shared.codebooks[found.codebook].values
    sizes = np.abs(factors)
    if kernel.dtype == "int8" and (sizes == sizes[0]).all():
        # All channels have one grid: a table of integers, then signs, all in one byte a weight.
        table = _rounded(values * sizes[0])
        _turned(table[found.indices], kernel, target)
        if (factors < 0).any():
            target *= _along(np.sign(factors).astype(np.int8), kernel)
        return
    _scaled(values[found.indices], kernel, factors, target)


def _scaled(values: NDArray, kernel: PlacedKernel, factors: NDArray, target: NDArray) -> None:
    product = np.empty(kernel.shape, np.float32)
    _turned(np.asarray(values, np.float32), kernel, product)
    product *= _along(factors, kernel)
    target[...] = product if kernel.dtype == "float32" else _rounded(product)


def _rounded(values: NDArray) -> NDArray[np.int8]:
    return np.clip(np.rint(values), -WHOLE_INTEGERS, WHOLE_INTEGERS).astype(np.int8)


def _turned(values: NDArray, kernel: PlacedKernel, target: NDArray) -> None:
    turned = values.transpose(kernel.axes)
    target.reshape(turned.shape)[...] = turned


def _along(values: NDArray, kernel: PlacedKernel) -> NDArray:
    return values.reshape([-1 if axis == kernel.channel_axis else 1
                           for axis in range(len(kernel.shape))])


