"""Shared weights as matrices that are multiplied with: the representations of the literature.

    matrix = represent("sHAC", indices, codebook)      # indices (n, m) into the codebook
    matrix.dot(x)                                      # x @ W, W never held whole as floats
    matrix.decode(), matrix.nbytes, matrix.psi()

`IM` index map; `SIM` sparse index map, positions coded as gaps; `CSC` compressed sparse columns of
floats; `HAC` Huffman address map over all entries; `sHAC` the same over nonzeros, with their
positions; `rANS` the coder `rans`. They are here to be correct and to be compared: `dot` decodes a
block of columns at a time and leaves the product to the linear algebra library.

Reference: Marinò et al., "Compression strategies and space-conscious representations for deep
neural networks" (2021), whose own program decodes one column of 32 wrongly; this one is tested on
every column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.representation.coders import checked_indices, get
from cxcompress.representation.huffman import HuffmanCode
from cxcompress.representation.prior_formulas import FLOAT_BITS, bit_requirement, psi_index_map
from cxcompress.representation.sparse_columns import SparseColumns, read_gaps, write_gaps
from cxcompress.representation.types import Codebook, index_dtype

_WEIGHTS_A_BLOCK = 1 << 20
"""Floats that `dot` holds at a time."""

_REGISTRY: dict[str, type[SharedMatrix]] = {}


class SharedMatrix(ABC):
    """A matrix W `(n, m)` of shared values.

    Args:
        indices: Integers `(n, m)` into the codebook.
        codebook: The shared values.

    Raises:
        ValueError: If the indices are no matrix or lie outside the codebook, or if a sparse
            representation gets a codebook without a value that is exactly 0.
    """

    name: ClassVar[str]

    def __init__(self, indices: ArrayLike, codebook: Codebook):
        indices = np.asarray(indices)
        if indices.ndim != 2:
            raise ValueError(f"a matrix has two axes. Received: shape {indices.shape}")
        self.shape = indices.shape
        self.codebook = codebook
        self._store(checked_indices(indices, codebook.k).reshape(indices.shape))

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "name"):
            _REGISTRY[cls.name] = cls

    @abstractmethod
    def _store(self, indices: NDArray) -> None:
        """Keep the matrix in this representation."""

    @abstractmethod
    def columns(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """Indices of the columns first … last − 1, `(n, last − first)`."""

    @property
    @abstractmethod
    def arrays(self) -> list[NDArray]:
        """All arrays that a file would hold besides the codebook."""

    @abstractmethod
    def psi(self) -> float:
        """Bits an entry by the formula of the papers, codebook included (float32 takes 32).

        Raises:
            ValueError: If the matrix is empty.
        """

    @property
    def nbytes(self) -> int:
        """Bytes of everything, the codebook included."""
        return sum(array.nbytes for array in self.arrays) + self.codebook.values.nbytes

    def decode(self) -> NDArray[np.unsignedinteger]:
        """The indices, exactly, in `index_dtype(k)`."""
        return self.columns(0, self.shape[1])

    def dot(self, x: ArrayLike) -> NDArray[np.float32]:
        """x @ W.

        Args:
            x: float `(rows, n)`.

        Returns:
            float32 `(rows, m)`.

        Raises:
            ValueError: If the shapes do not fit.
        """
        x = np.asarray(x, np.float32)
        rows, columns = self.shape
        if x.ndim != 2 or x.shape[1] != rows:
            raise ValueError(f"x has shape (rows, {rows}). Received: {x.shape}")
        found = np.empty((len(x), columns), np.float32)
        width = max(1, _WEIGHTS_A_BLOCK // max(rows, 1))
        for first in range(0, columns, width):
            last = min(first + width, columns)
            found[:, first:last] = x @ self.codebook.values[self.columns(first, last)]
        return found

    def _entries(self) -> int:
        size = self.shape[0] * self.shape[1]
        if not size:
            raise ValueError("an empty matrix has no bits an entry")
        return size


class IndexMap(SharedMatrix):
    """Every index in 8 or 16 bits."""

    name = "IM"

    def _store(self, indices: NDArray) -> None:
        self._indices = indices

    def columns(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """See `SharedMatrix.columns`."""
        return self._indices[:, first:last]

    @property
    def arrays(self) -> list[NDArray]:
        """The indices."""
        return [self._indices]

    def psi(self) -> float:
        """`psi_index_map`."""
        return psi_index_map(self._entries(), self.codebook.k)


class RansMatrix(SharedMatrix):
    """The coder `rans`; its lanes are not columns, so the indices are decoded as a whole."""

    name = "rANS"

    def _store(self, indices: NDArray) -> None:
        self._encoded = get("rans").encode(indices, self.codebook.k)

    def columns(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """See `SharedMatrix.columns`."""
        return self._encoded.decode()[:, first:last]

    def dot(self, x: ArrayLike) -> NDArray[np.float32]:
        """See `SharedMatrix.dot`; the indices are decoded once, not once a block."""
        return IndexMap(self._encoded.decode(), self.codebook).dot(x)

    @property
    def arrays(self) -> list[NDArray]:
        """Words, states and tables."""
        return list(self._encoded.buffers.values())

    def psi(self) -> float:
        """Exact bits an entry: the papers have no formula for it."""
        return 8 * self.nbytes / self._entries()


class HuffmanMatrix(SharedMatrix):
    """HAC: canonical Huffman codewords of all entries, column by column."""

    name = "HAC"

    def _store(self, indices: NDArray) -> None:
        self._counts = np.bincount(indices.ravel(), minlength=self.codebook.k)
        self._code = HuffmanCode.of(self._counts) if indices.size else None
        self._bits, starts = np.zeros(0, np.uint8), np.zeros(self.shape[1], np.int64)
        if self._code is not None:
            self._bits, starts = self._code.encode(indices.T.ravel(), self._lengths())
        self._starts = starts.astype(_position_dtype(8 * self._bits.size))

    def _lengths(self, columns: int | None = None) -> NDArray[np.int64]:
        return np.full(self.shape[1] if columns is None else columns, self.shape[0], np.int64)

    def columns(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """See `SharedMatrix.columns`."""
        dtype = index_dtype(self.codebook.k)
        if self._code is None or first == last:
            return np.zeros((self.shape[0], last - first), dtype)
        found = self._code.decode(self._bits, self._starts[first:last],
                                  self._lengths(last - first))
        return found.reshape(last - first, -1).T.astype(dtype)

    @property
    def arrays(self) -> list[NDArray]:
        """Bits, where columns begin, and codeword lengths."""
        return [self._bits, self._starts,
                self._code.lengths if self._code else np.zeros(0, np.uint8)]

    def psi(self) -> float:
        """The HAC formula; where columns begin is not billed."""
        return huffman_bits(self._code, self._counts) / self._entries()


class _Sparse(SharedMatrix):
    """What the sparse ones share: entries other than 0, column by column."""

    def __init__(self, indices: ArrayLike, codebook: Codebook):
        zero = np.flatnonzero(codebook.values == 0)
        if not zero.size:
            raise ValueError(f"{self.name} needs a codebook with a value that is exactly 0")
        self.zero = int(zero[0])
        super().__init__(indices, codebook)

    def _store(self, indices: NDArray) -> None:
        sparse = SparseColumns.of(indices, self.zero)
        self._rows, self._nonzeros = sparse.rows, sparse.counts
        self._keep(sparse.entries)

    @abstractmethod
    def _keep(self, entries: NDArray) -> None:
        """Keep the indices of entries other than 0 and, in a form of its own, `self._rows`."""

    def _filled(self, first: int, last: int, rows: NDArray, entries: NDArray) -> NDArray:
        sparse = SparseColumns(entries.astype(index_dtype(self.codebook.k)), rows,
                               self._nonzeros[first:last], self.zero)
        return sparse.dense(self.shape[0])

    def _between(self, first: int, last: int) -> slice:
        """Where the entries of some columns lie."""
        return _part(self._nonzeros, first, last)

    @property
    def _counts_of_columns(self) -> NDArray:
        return self._nonzeros.astype(_position_dtype(self.shape[0]))

    @property
    def _small_rows(self) -> NDArray:
        return self._rows.astype(_position_dtype(self.shape[0]))


class CompressedColumns(_Sparse):
    """CSC: nonzeros as float32, their rows, and how many a column has."""

    name = "CSC"

    def _keep(self, entries: NDArray) -> None:
        self._values = self.codebook.values[entries]

    def columns(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """See `SharedMatrix.columns`."""
        part = self._between(first, last)
        entries = np.searchsorted(self.codebook.values, self._values[part])
        return self._filled(first, last, self._rows[part], entries)

    @property
    def arrays(self) -> list[NDArray]:
        """Values, rows, counts."""
        return [self._values, self._small_rows, self._counts_of_columns]

    @property
    def nbytes(self) -> int:
        """Bytes; there is no codebook."""
        return sum(array.nbytes for array in self.arrays)

    def psi(self) -> float:
        """s (b + bit_req(n)) + bit_req(n) / n, s the share of nonzeros."""
        share, bits = self._rows.size / self._entries(), bit_requirement(self.shape[0])
        return share * (FLOAT_BITS + bits) + bits / self.shape[0]


class SparseIndexMap(_Sparse):
    """SIM: indices of nonzeros in 8 or 16 bits, their rows as gaps of a byte."""

    name = "SIM"

    def _keep(self, entries: NDArray) -> None:
        self._indices = entries.astype(index_dtype(self.codebook.k))
        self._gaps, self._gap_bytes = write_gaps(self._rows, self._nonzeros)
        del self._rows

    def columns(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """See `SharedMatrix.columns`."""
        rows, _ = read_gaps(self._gaps[_part(self._gap_bytes, first, last)],
                            self._gap_bytes[first:last])
        return self._filled(first, last, rows, self._indices[self._between(first, last)])

    @property
    def arrays(self) -> list[NDArray]:
        """Indices, gaps, gap bytes a column."""
        return [self._indices, self._gaps,
                self._gap_bytes.astype(_position_dtype(self.shape[0]))]

    def psi(self) -> float:
        """Exact bits an entry: the papers have no formula for it."""
        return 8 * self.nbytes / self._entries()


class SparseHuffmanMatrix(_Sparse):
    """sHAC: Huffman codewords of nonzeros, their rows, and how many a column has."""

    name = "sHAC"

    def _keep(self, entries: NDArray) -> None:
        self._counts = np.bincount(entries, minlength=self.codebook.k)
        self._code = HuffmanCode.of(self._counts) if entries.size else None
        self._bits, starts = np.zeros(0, np.uint8), np.zeros(self.shape[1], np.int64)
        if self._code is not None:
            self._bits, starts = self._code.encode(entries, self._nonzeros)
        self._starts = starts.astype(_position_dtype(8 * self._bits.size))

    def columns(self, first: int, last: int) -> NDArray[np.unsignedinteger]:
        """See `SharedMatrix.columns`."""
        entries: NDArray = np.zeros(0, np.intp)
        if self._code is not None and first < last:
            entries = self._code.decode(self._bits, self._starts[first:last],
                                        self._nonzeros[first:last])
        return self._filled(first, last, self._rows[self._between(first, last)], entries)

    @property
    def arrays(self) -> list[NDArray]:
        """Bits, where columns begin, codeword lengths, rows, counts."""
        return [self._bits, self._starts,
                self._code.lengths if self._code else np.zeros(0, np.uint8),
                self._small_rows, self._counts_of_columns]

    def psi(self) -> float:
        """The HAC formula over nonzeros, a row for each of them and a count for each column."""
        size, bits = self._entries(), bit_requirement(self.shape[0])
        return (huffman_bits(self._code, self._counts)
                + (self._rows.size + self.shape[1]) * bits) / size


def huffman_bits(code: HuffmanCode | None, counts: NDArray) -> int:
    """Bits of a canonical Huffman code as sHAM's `utils` counts them, its tables included.

    Words of b = 32 bits, k values of b bits, l + 1 symbol numbers, l + 2 first codewords (l the
    longest length), and a decoding table of 2^t lengths, t = ceil(log2 l).
    """
    k = int(np.count_nonzero(counts))
    if code is None or code.only is not None:
        return k * FLOAT_BITS
    longest = int(code.lengths.max())
    words = -(-code.bits(counts) // FLOAT_BITS)
    return (words * FLOAT_BITS + k * FLOAT_BITS + (longest + 1) * bit_requirement(k)
            + (longest + 2) * bit_requirement(1 << longest)
            + (1 << (longest - 1).bit_length()) * bit_requirement(longest))


def _part(counts: NDArray, first: int, last: int) -> slice:
    """Where the items of the columns first … last − 1 lie, `counts` in each column."""
    begin = int(counts[:first].sum())
    return slice(begin, begin + int(counts[first:last].sum()))


def _position_dtype(largest: int) -> np.dtype:
    return np.min_scalar_type(max(largest, 1))


def represent(name: str, indices: ArrayLike, codebook: Codebook) -> SharedMatrix:
    """A matrix in the representation of this name.

    Raises:
        ValueError: If there is none, or the matrix does not fit.
    """
    if name not in _REGISTRY:
        raise ValueError(f"representations are {', '.join(_REGISTRY)}. Received: {name!r}")
    return _REGISTRY[name](indices, codebook)


def representations() -> tuple[str, ...]:
    """The names that `represent` knows."""
    return tuple(_REGISTRY)
