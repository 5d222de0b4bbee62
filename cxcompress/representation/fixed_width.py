"""The coders `raw` and `index_map`: every index of a kernel takes the same number of bits.

    representation.get("raw").encode(indices, k=16).nbytes         # 4 bits an index
    representation.get("index_map").encode(indices, k=16).nbytes   # uint8: 8 bits an index

`index_map` is the index map of the papers (uint8 for k <= 256, else uint16, little-endian);
`raw` packs ceil(log2 k) bits an index, the first index in the lowest bits of the first byte.
A kernel begins on a byte of its own; the bits left over in its last byte are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cxcompress.representation.coders import (
    EncodedKernel,
    EncodedKernels,
    IndexCoder,
    checked_indices,
    register,
)
from cxcompress.representation.types import index_dtype

_BLOCK = 1 << 16
"""Indices packed at a time: a multiple of 8, so that blocks meet on byte boundaries."""


class FixedWidthCoder(IndexCoder):
    """A coder whose indices all take `width(k)` bits.

    Args:
        name: Its name; its one buffer has the same.
        width: Bits an index for k shared values, 0 … 16.
    """

    def __init__(self, name: str, width: Callable[[int], int]):
        self.name = name
        self.width = width

    def encode_kernels(self, kernels: Mapping[str, tuple[NDArray, int]]) -> EncodedKernels:
        """See `IndexCoder.encode_kernels`."""
        encoded, parts = {}, [np.empty(0, np.uint8)]
        for path, (indices, k) in kernels.items():
            flat = checked_indices(indices, k)
            width = self.width(k)
            encoded[path] = EncodedKernel(np.shape(indices), k, self.name, flat.size * width)
            parts.append(_pack(flat, width))
        return EncodedKernels(encoded, {self.name: np.concatenate(parts)})

    def decode_kernels(
        self, kernels: Mapping[str, EncodedKernel], buffers: Mapping[str, NDArray]
    ) -> dict[str, NDArray]:
        """See `IndexCoder.decode_kernels`."""
        packed = np.asarray(buffers.get(self.name))
        lengths = [(kernel.size * self.width(kernel.k) + 7) // 8 for kernel in kernels.values()]
        if packed.dtype != np.uint8 or packed.shape != (sum(lengths),):
            raise ValueError(f"{self.name}: the index maps take {sum(lengths)} bytes. "
                             f"Received: {packed.dtype} {packed.shape}")
        decoded, start = {}, 0
        for (path, kernel), length in zip(kernels.items(), lengths, strict=True):
            code = packed[start : start + length]
            flat = _unpack(code, kernel.size, kernel.k, self.width(kernel.k))
            decoded[path] = flat.reshape(kernel.shape)
            start += length
        return decoded


def _pack(flat: NDArray, width: int) -> NDArray[np.uint8]:
    """The lowest `width` bits of every index, one after the other."""
    if width == 0:
        return np.empty(0, np.uint8)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    if width == 8 * little.itemsize:
        return little.view(np.uint8)
    packed = np.empty((flat.size * width + 7) // 8, np.uint8)
    for start in range(0, flat.size, _BLOCK):
        block = little[start : start + _BLOCK].view(np.uint8)
        bits = np.unpackbits(block, bitorder="little").reshape(-1, 8 * little.itemsize)
        code = np.packbits(bits[:, :width], bitorder="little")
        packed[start * width // 8 :][: code.size] = code
    return packed


def _unpack(code: NDArray[np.uint8], size: int, k: int, width: int) -> NDArray:
    """`size` indices of `width` bits.

    Raises:
        ValueError: If an index is k or more, or a bit after the last index is set.
    """
    dtype = index_dtype(k)
    if width == 0:
        return np.zeros(size, dtype)
    if width == 8 * dtype.itemsize:
        flat = code.view(dtype.newbyteorder("<")).astype(dtype)
    else:
        flat = np.empty(size, dtype)
        for start in range(0, size, _BLOCK):
            count = min(_BLOCK, size - start)
            block = code[start * width // 8 : ((start + count) * width + 7) // 8]
            bits = np.unpackbits(block, bitorder="little")
            if bits[count * width :].any():
                raise ValueError("bits after the last index are 0. Received: a set bit")
            wide = np.zeros((count, 8 * dtype.itemsize), np.uint8)
            wide[:, :width] = bits[: count * width].reshape(count, width)
            values = np.packbits(wide, bitorder="little").view(dtype.newbyteorder("<"))
            flat[start : start + count] = values
    if size and int(flat.max()) >= k:
        raise ValueError(f"indices lie in 0 … {k - 1}. Received: {int(flat.max())}")
    return flat


register(FixedWidthCoder("raw", lambda k: (int(k) - 1).bit_length()))
register(FixedWidthCoder("index_map", lambda k: 8 * index_dtype(k).itemsize))
