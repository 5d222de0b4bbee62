"""What a coder of index maps is: indices in, the buffers that a file stores out, and back.

    encoded = representation.get("rans").encode(indices, k=256)
    encoded.nbytes, encoded.decode()          # the same indices, exactly

A file holds many kernels, and some coders share work between them (the rANS lanes serve all
kernels of a file, similar kernels share one table), so a container asks for all at once:

    encoded = representation.get("rans").encode_kernels({"conv2d/kernel": (indices, 256)})
    encoded.decode()["conv2d/kernel"]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxcompress.representation.types import index_dtype


@dataclass(frozen=True)
class EncodedKernel:
    """What is known of one encoded kernel besides its bytes.

    Args:
        shape: Shape of its index map, in Keras' axis order.
        k: Number of shared values of its codebook.
        coder: Name of the coder that holds it; `"raw"` where `"rans"` would not have paid.
        bits: Length of its own code in bits, without tables and without lane states.
        table: Number of its frequency table, or None for a coder without tables.
    """

    shape: tuple[int, ...]
    k: int
    coder: str
    bits: int
    table: int | None = None

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class EncodedKernels:
    """The encoded index maps of a file.

    Args:
        kernels: By Keras variable path, in the order in which they are encoded.
        buffers: The arrays that a file stores, by name. Names that end in `_tables` hold side
            information, those in `_states` the coder's lanes, all others the codes themselves.
    """

    kernels: Mapping[str, EncodedKernel]
    buffers: Mapping[str, NDArray]

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.nbytes for buffer in self.buffers.values())

    def decode(self) -> dict[str, NDArray]:
        """All index maps by path, exactly as encoded: same shapes, dtype `index_dtype(k)`.

        Raises:
            ValueError: If the buffers are truncated or altered, so far as they can tell.
        """
        decoded: dict[str, NDArray] = {}
        for name in sorted({kernel.coder for kernel in self.kernels.values()}):
            mine = {path: kernel for path, kernel in self.kernels.items() if kernel.coder == name}
            decoded |= get(name).decode_kernels(mine, self.buffers)
        return {path: decoded[path] for path in self.kernels}


@dataclass(frozen=True)
class EncodedIndices:
    """One encoded index map.

    Args:
        coder: Name of the coder that holds it.
        shape: Shape of the indices.
        k: Number of shared values.
        buffers: The arrays to store, by name.
    """

    coder: str
    shape: tuple[int, ...]
    k: int
    buffers: Mapping[str, NDArray]

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.nbytes for buffer in self.buffers.values())

    def decode(self) -> NDArray:
        """The indices that were encoded, exactly: same shape, dtype `index_dtype(k)`.

        Raises:
            ValueError: If the buffers are truncated or altered, so far as they can tell.
        """
        kernel = EncodedKernel(self.shape, self.k, self.coder, bits=0, table=0)
        return get(self.coder).decode_kernels({"": kernel}, self.buffers)[""]


class IndexCoder(ABC):
    """Turns index maps into bytes and back; by name through `representation.get("rans")`."""

    name: str

    def encode(self, indices: NDArray, k: int) -> EncodedIndices:
        """Encode one index map.

        Args:
            indices: Integers 0 … k − 1 of any shape.
            k: Number of shared values, 1 <= k <= 65536.

        Raises:
            ValueError: If k or an index is out of range, or the indices are not integers.
        """
        encoded = self.encode_kernels({"": (indices, k)})
        kernel = encoded.kernels[""]
        return EncodedIndices(kernel.coder, kernel.shape, kernel.k, encoded.buffers)

    @abstractmethod
    def encode_kernels(self, kernels: Mapping[str, tuple[NDArray, int]]) -> EncodedKernels:
        """Encode all index maps of a file: path → (indices, k).

        Raises:
            ValueError: As `encode`.
        """

    @abstractmethod
    def decode_kernels(
        self, kernels: Mapping[str, EncodedKernel], buffers: Mapping[str, NDArray]
    ) -> dict[str, NDArray]:
        """The index maps of the kernels that this coder holds, in the order of encoding.

        Raises:
            ValueError: If the buffers do not decode to exactly these kernels.
        """


_CODERS: dict[str, IndexCoder] = {}


def register(coder: IndexCoder) -> None:
    """Make a coder available to `get` under its name."""
    _CODERS[coder.name] = coder


def names() -> tuple[str, ...]:
    """The names that `get` knows."""
    return tuple(_CODERS)


def get(name: str) -> IndexCoder:
    """The coder of this name.

    Raises:
        ValueError: If there is none.
    """
    if name not in _CODERS:
        raise ValueError(f"coders are {', '.join(_CODERS)}. Received: {name!r}")
    return _CODERS[name]


def encode_smallest(kernels: Mapping[str, tuple[NDArray, int]]) -> EncodedKernels:
    """All index maps of a file in the fewest bytes: the best coder, and others where they gain.

    Every coder is tried on the whole file. Then kernels that another coder codes in fewer bits
    move to it, coder by coder, as long as the file gets smaller by that, tables included.

    Args:
        kernels: As for `IndexCoder.encode_kernels`.
    """
    trials = {name: get(name).encode_kernels(kernels) for name in names()}
    first = min(trials, key=lambda name: trials[name].nbytes)
    best, choice = trials[first], dict.fromkeys(kernels, first)
    for name in sorted(trials, key=lambda name: trials[name].nbytes):
        moved = choice | {path: name for path, kernel in trials[name].kernels.items()
                          if kernel.bits < best.kernels[path].bits}
        if moved != choice:
            mixed = _encoded_by(kernels, moved)
            if mixed.nbytes < best.nbytes:
                best, choice = mixed, moved
    return best


def _encoded_by(
    kernels: Mapping[str, tuple[NDArray, int]], choice: Mapping[str, str]
) -> EncodedKernels:
    encoded: dict[str, EncodedKernel] = {}
    rest: dict[str, tuple[NDArray, int]] = {}
    buffers: dict[str, NDArray] = {}
    for name in dict.fromkeys(choice.values()):
        mine = {path: pair for path, pair in kernels.items() if choice[path] == name}
        part = get(name).encode_kernels(mine)
        # What several coders leave to `raw` goes there together.
        rest |= {path: mine[path] for path, own in part.kernels.items() if own.coder == "raw"}
        encoded |= part.kernels
        buffers |= {key: value for key, value in part.buffers.items() if key != "raw"}
    raw = get("raw").encode_kernels(
        {path: pair for path, pair in kernels.items() if path in rest})
    return EncodedKernels({path: (encoded | dict(raw.kernels))[path] for path in kernels},
                          buffers | (dict(raw.buffers) if rest else {}))


def checked_buffer(buffers: Mapping[str, NDArray], name: str, dtype: type) -> NDArray:
    """The stored buffer of this name.

    Raises:
        ValueError: If it is missing, or no vector of this type.
    """
    buffer = np.asarray(buffers.get(name))
    if buffer.dtype != dtype or buffer.ndim != 1:
        raise ValueError(f"{name} is a vector of {np.dtype(dtype)}. "
                         f"Received: {buffer.dtype} {buffer.shape}")
    return buffer


def checked_indices(indices: NDArray, k: int) -> NDArray[np.unsignedinteger]:
    """The indices as a contiguous vector of `index_dtype(k)`.

    Raises:
        ValueError: If k or an index is out of range, or the indices are not integers.
    """
    dtype = index_dtype(k)
    indices = np.asarray(indices)
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices are integers. Received: {indices.dtype}")
    if indices.size and not (0 <= int(indices.min()) and int(indices.max()) < k):
        raise ValueError(
            f"indices lie in 0 … {k - 1}. Received: {int(indices.min())} … {int(indices.max())}"
        )
    return np.ascontiguousarray(indices, dtype=dtype).reshape(-1)
