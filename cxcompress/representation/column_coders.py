"""The coders `huffman`, `sparse_huffman`, `sparse_index_map`: the literature's, in a file.

    representation.get("huffman").encode(indices, k=256)             # HAC
    representation.get("sparse_huffman").encode(indices, k=32)       # sHAC, for pruned kernels
    representation.get("sparse_index_map").encode(indices, k=32)     # gaps of a byte between them

A kernel is a matrix whose columns are its last axis (its output channels). The sparse coders leave
out the commonest index of each kernel, which is that of pruned weights where there are any. They
are here for comparison and for readers of their own: `rans` is smaller. `storage/FORMAT.md`
specifies the buffers. Reference: Marinò et al., "Compression strategies and space-conscious
representations for deep neural networks" (2021), which is silent on where columns begin; here
that is stored, so that columns decode side by side.
"""

from __future__ import annotations

import math
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cxcompress.representation.coders import (
    EncodedKernel,
    EncodedKernels,
    IndexCoder,
    checked_buffer,
    checked_indices,
    get,
    register,
)
from cxcompress.representation.huffman import LONGEST, HuffmanCode, decode_columns
from cxcompress.representation.sparse_columns import (
    ESCAPE,
    SparseColumns,
    column_batches,
    fill_columns,
    read_gaps,
    write_gaps,
)
from cxcompress.representation.types import index_dtype

MAX_ROWS = 1 << 16
"""Kernels of longer columns are packed raw: a reader takes a step for each row."""
MAX_SHORT_COLUMNS = 1 << 17
"""A column takes some 140 bytes to decode; more of them than this must hold 16 indices each."""
_ONLY = 255
"""Stands for the length of the one codeword of a constant kernel, which takes no bits."""


def _matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a kernel; one column where there is one axis or none."""
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 1)


def _too_many_columns(shapes: Sequence[tuple[int, int]]) -> bool:
    size = sum(rows * columns for rows, columns in shapes)
    return sum(columns for _, columns in shapes) > max(MAX_SHORT_COLUMNS, size // 16)


class _ColumnCoder(IndexCoder):
    """What the three share: kernels as matrices, and `raw` for those that do not fit."""

    def encode_kernels(self, kernels: Mapping[str, tuple[NDArray, int]]) -> EncodedKernels:
        """See `IndexCoder.encode_kernels`."""
        matrices = {}
        for path, (indices, k) in kernels.items():
            rows, columns = _matrix_shape(np.shape(indices))
            flat = checked_indices(indices, k)
            if flat.size and rows <= MAX_ROWS:
                matrices[path] = flat.reshape(rows, columns)
        if _too_many_columns([matrix.shape for matrix in matrices.values()]):
            matrices = {}
        rest = {path: pair for path, pair in kernels.items() if path not in matrices}
        raw = get("raw").encode_kernels(rest)
        buffers = dict(raw.buffers) if rest else {}
        encoded = dict(raw.kernels)
        if matrices:
            bits, mine = self._encode({path: (matrix, kernels[path][1])
                                       for path, matrix in matrices.items()})
            buffers |= mine
            for path, length in zip(matrices, bits, strict=True):
                indices, k = kernels[path]
                encoded[path] = EncodedKernel(np.shape(indices), k, self.name, length)
        return EncodedKernels({path: encoded[path] for path in kernels}, buffers)

    def decode_kernels(
        self, kernels: Mapping[str, EncodedKernel], buffers: Mapping[str, NDArray]
    ) -> dict[str, NDArray]:
        """See `IndexCoder.decode_kernels`."""
        shapes = []
        for path, kernel in kernels.items():
            shapes.append(_matrix_shape(kernel.shape))
            if not kernel.size or shapes[-1][0] > MAX_ROWS:
                raise ValueError(f"{path}: not a kernel for the coder {self.name}")
        if _too_many_columns(shapes):
            raise ValueError(f"{sum(columns for _, columns in shapes)} columns: more than "
                             f"{MAX_SHORT_COLUMNS} must hold 16 indices each")
        levels = [kernel.k for kernel in kernels.values()]
        matrices = self._decode(shapes, levels, buffers)
        return {path: matrix.astype(index_dtype(kernel.k), copy=False).reshape(kernel.shape)
                for (path, kernel), matrix in zip(kernels.items(), matrices, strict=True)}

    @abstractmethod
    def _encode(
        self, matrices: Mapping[str, tuple[NDArray, int]]
    ) -> tuple[list[int], dict[str, NDArray]]:
        """Bits of each kernel's own code, and the buffers."""

    @abstractmethod
    def _decode(
        self, shapes: Sequence[tuple[int, int]], levels: Sequence[int],
        buffers: Mapping[str, NDArray],
    ) -> list[NDArray]:
        """The matrices; raises ValueError where the buffers do not hold exactly these."""


class HuffmanCoder(_ColumnCoder):
    """HAC. Buffers: `huffman_code` uint8, `huffman_states` uint32, `huffman_tables` uint8."""

    name = "huffman"

    def _encode(self, matrices):
        columns = [(matrix.T.ravel(), np.full(matrix.shape[1], matrix.shape[0]), k)
                   for matrix, k in matrices.values()]
        code, lengths, tables, bits = _write_huffman(columns)
        return bits, {"huffman_code": code, "huffman_states": lengths,
                      "huffman_tables": _deflated(tables)}

    def _decode(self, shapes, levels, buffers):
        tables = _inflated(buffers, "huffman_tables", sum(levels))
        codes = _read_codes(tables, levels)
        counts = [np.full(columns, rows) for rows, columns in shapes]
        parts = _read_huffman(codes, counts, buffers, "huffman")
        return [part.reshape(columns, rows).T
                for part, (rows, columns) in zip(parts, shapes, strict=True)]


class SparseHuffmanCoder(_ColumnCoder):
    """sHAC. Buffers, each after `sparse_huffman_`: `code`, `states`, `tables` as for `huffman`;
    `counts` uint32, `rows` uint8."""

    name = "sparse_huffman"

    def _encode(self, matrices):
        sparse = [_sparse(matrix) for matrix, _ in matrices.values()]
        code, lengths, tables, bits = _write_huffman([
            (one.entries, one.counts, k)
            for one, (_, k) in zip(sparse, matrices.values(), strict=True)])
        rows = [one.rows.astype(_row_dtype(len(matrix))).view(np.uint8)
                for one, (matrix, _) in zip(sparse, matrices.values(), strict=True)]
        bits = [own + 8 * part.size + 32 * one.counts.size
                for own, part, one in zip(bits, rows, sparse, strict=True)]
        absent = np.array([one.absent for one in sparse], "<u2").view(np.uint8)
        return bits, {
            "sparse_huffman_code": code, "sparse_huffman_states": lengths,
            "sparse_huffman_tables": _deflated(np.concatenate([absent, tables])),
            "sparse_huffman_counts": np.concatenate([one.counts for one in sparse]).astype("<u4"),
            "sparse_huffman_rows": np.concatenate(rows)}

    def _decode(self, shapes, levels, buffers):
        tables = _inflated(buffers, "sparse_huffman_tables", 2 * len(levels) + sum(levels))
        absent = _absent(tables[: 2 * len(levels)], levels)
        codes = _read_codes(tables[2 * len(levels) :], levels)
        counts = _read_counts(buffers, "sparse_huffman_counts", shapes,
                              [rows for rows, _ in shapes])
        stored = checked_buffer(buffers, "sparse_huffman_rows", np.uint8)
        widths = [_row_dtype(rows).itemsize * int(own.sum())
                  for (rows, _), own in zip(shapes, counts, strict=True)]
        if stored.size != sum(widths):
            raise ValueError(f"sparse_huffman_rows takes {sum(widths)} bytes. "
                             f"Received: {stored.size}")
        rows = [part.view(_row_dtype(rows)) for part, (rows, _) in zip(
            np.split(stored, np.cumsum(widths)[:-1]), shapes, strict=True)]
        entries = _read_huffman(codes, counts, buffers, "sparse_huffman")
        return [
            _filled(shape, k, index, ((columns, own[some], its_rows[some].astype(np.int64),
                                       its_counts[columns])
                                      for columns, some in column_batches(its_counts)))
            for own, its_rows, its_counts, index, shape, k in zip(
                entries, rows, counts, absent, shapes, levels, strict=True)]


class SparseIndexMapCoder(_ColumnCoder):
    """Gaps. Buffers: `sparse_index_map` uint8 and, after `sparse_index_map_`: `gaps` uint8,
    `counts` uint32, `tables` uint8."""

    name = "sparse_index_map"

    def _encode(self, matrices):
        sparse = [_sparse(matrix) for matrix, _ in matrices.values()]
        levels = [k for _, k in matrices.values()]
        entries = [one.entries.astype(index_dtype(k).newbyteorder("<")).view(np.uint8)
                   for one, k in zip(sparse, levels, strict=True)]
        gaps, counts = zip(*(write_gaps(one.rows, one.counts) for one in sparse), strict=True)
        bits = [8 * (own.size + gap.size) + 32 * count.size
                for own, gap, count in zip(entries, gaps, counts, strict=True)]
        return bits, {
            "sparse_index_map": np.concatenate(entries),
            "sparse_index_map_gaps": np.concatenate(gaps),
            "sparse_index_map_counts": np.concatenate(counts).astype("<u4"),
            "sparse_index_map_tables": np.array(
                [one.absent for one in sparse], "<u2").view(np.uint8)}

    def _decode(self, shapes, levels, buffers):
        stored = checked_buffer(buffers, "sparse_index_map_tables", np.uint8)
        absent = _absent(stored, levels)
        gaps = checked_buffer(buffers, "sparse_index_map_gaps", np.uint8)
        # A column of r rows has at most r entries and r / 255 escapes.
        gap_counts = _read_counts(buffers, "sparse_index_map_counts", shapes,
                                  [2 * rows for rows, _ in shapes])
        sizes = [int(own.sum()) for own in gap_counts]
        if gaps.size != sum(sizes):
            raise ValueError(f"sparse_index_map_gaps takes {sum(sizes)} bytes. "
                             f"Received: {gaps.size}")
        parts = np.split(gaps, np.cumsum(sizes)[:-1])
        packed = checked_buffer(buffers, "sparse_index_map", np.uint8)
        widths = [index_dtype(k).itemsize * int(np.count_nonzero(part != ESCAPE))
                  for k, part in zip(levels, parts, strict=True)]
        if packed.size != sum(widths):
            raise ValueError(f"sparse_index_map takes {sum(widths)} bytes. "
                             f"Received: {packed.size}")
        entries = [part.view(index_dtype(k).newbyteorder("<")) for part, k in zip(
            np.split(packed, np.cumsum(widths)[:-1]), levels, strict=True)]
        return [_filled(shape, k, index, _gap_batches(own, its_gaps, its_counts))
                for own, its_gaps, its_counts, index, shape, k in zip(
                    entries, parts, gap_counts, absent, shapes, levels, strict=True)]


def _gap_batches(entries: NDArray, gaps: NDArray[np.uint8], gap_counts: NDArray):
    begin = 0
    for columns, some in column_batches(gap_counts):
        rows, counts = read_gaps(gaps[some], gap_counts[columns])
        yield columns, entries[begin : begin + rows.size], rows, counts
        begin += rows.size


def _sparse(matrix: NDArray) -> SparseColumns:
    """The matrix without its commonest index."""
    return SparseColumns.of(matrix, int(np.bincount(matrix.ravel()).argmax()))


def _filled(
    shape: tuple[int, int], k: int, absent: int,
    batches: Iterable[tuple[slice, NDArray, NDArray, NDArray]],
) -> NDArray:
    """A matrix of `absent` but for columns with entries, their rows and counts, batch by batch."""
    found = np.full(shape, absent, index_dtype(k))
    for columns, entries, rows, counts in batches:
        if entries.size and int(entries.max()) >= k:
            raise ValueError(f"indices lie in 0 … {k - 1}. Received: {int(entries.max())}")
        fill_columns(found[:, columns], entries, rows, counts)
    return found


def _row_dtype(rows: int) -> np.dtype:
    return np.min_scalar_type(max(rows - 1, 0)).newbyteorder("<")


def _absent(stored: NDArray[np.uint8], levels: Sequence[int]) -> list[int]:
    found = stored.tobytes()
    if len(found) != 2 * len(levels):
        raise ValueError(f"{len(levels)} absent indices take {2 * len(levels)} bytes. "
                         f"Received: {len(found)}")
    absent = np.frombuffer(found, "<u2").tolist()
    for index, k in zip(absent, levels, strict=True):
        if index >= k:
            raise ValueError(f"indices lie in 0 … {k - 1}. Received: {index}")
    return absent


def _deflated(tables: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.compress(tables.tobytes(), 9), np.uint8)


def _inflated(buffers: Mapping[str, NDArray], name: str, expected: int) -> NDArray[np.uint8]:
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(checked_buffer(buffers, name, np.uint8).tobytes(), expected + 1)
    except zlib.error as error:
        raise ValueError(f"{name}: {error}") from None
    if len(body) != expected or not inflate.eof or inflate.unused_data:
        raise ValueError(f"{name} inflates to {expected} bytes. Received: {len(body)}")
    return np.frombuffer(body, np.uint8)


def _read_counts(
    buffers: Mapping[str, NDArray], name: str, shapes: Sequence[tuple[int, int]],
    most: Sequence[int],
) -> list[NDArray[np.int64]]:
    """The numbers of each kernel's columns, at most `most` in each."""
    stored = checked_buffer(buffers, name, np.uint32)
    columns = [columns for _, columns in shapes]
    if stored.size != sum(columns):
        raise ValueError(f"{name} has a number for each of {sum(columns)} columns. "
                         f"Received: {stored.size}")
    found = [part.astype(np.int64) for part in np.split(stored, np.cumsum(columns)[:-1])]
    for part, limit in zip(found, most, strict=True):
        if part.size and int(part.max()) > limit:
            raise ValueError(f"{name}: a column of at most {limit} has {int(part.max())}")
    return found


def _write_huffman(kernels: Sequence[tuple[NDArray, NDArray, int]]):
    """Bits, bits of each column, tables and bits of each kernel.

    Args:
        kernels: Symbols column by column, how many a column has, and k.
    """
    codes, lengths, tables, bits = [], [], [], []
    for symbols, columns, k in kernels:
        table = np.zeros(k, np.uint8)
        own, ends = np.zeros(0, np.uint8), np.zeros(columns.size, np.int64)
        total = 0
        if symbols.size:
            counts = np.bincount(symbols, minlength=k)
            code = HuffmanCode.of(counts)
            table = code.lengths.copy()
            if code.only is not None:
                table[code.only] = _ONLY
            else:
                total = code.bits(counts)
                packed, starts = code.encode(symbols, columns)
                own = np.unpackbits(packed, count=total)
                ends = np.append(starts[1:], total)
                ends = np.diff(ends, prepend=0)
        codes.append(own)
        lengths.append(ends)
        tables.append(table)
        bits.append(total)
    return (np.packbits(np.concatenate(codes)), np.concatenate(lengths).astype("<u4"),
            np.concatenate(tables), bits)


def _read_codes(tables: NDArray[np.uint8], levels: Sequence[int]) -> list[HuffmanCode]:
    """The code of each kernel.

    Raises:
        ValueError: If lengths are no prefix code that leaves nothing out.
    """
    codes = []
    for lengths in np.split(tables, np.cumsum(levels)[:-1]):
        only = np.flatnonzero(lengths == _ONLY)
        if only.size == 1 and np.count_nonzero(lengths) == 1:
            codes.append(HuffmanCode(np.zeros_like(lengths), int(only[0])))
            continue
        used = lengths[lengths > 0].astype(np.int64)
        if used.size and (used.max() > LONGEST
                          or int((1 << (LONGEST - used)).sum()) != 1 << LONGEST):
            raise ValueError(f"codeword lengths 1 … {LONGEST} make a whole prefix code. "
                             f"Received: {np.unique(used).tolist()}")
        codes.append(HuffmanCode(lengths))
    return codes


def _read_huffman(
    codes: Sequence[HuffmanCode], counts: Sequence[NDArray], buffers: Mapping[str, NDArray],
    name: str,
) -> list[NDArray[np.uint16]]:
    """The symbols of each kernel, column by column.

    Raises:
        ValueError: If the bits do not decode to exactly these columns.
    """
    packed = checked_buffer(buffers, f"{name}_code", np.uint8)
    lengths = checked_buffer(buffers, f"{name}_states", np.uint32).astype(np.int64)
    columns = np.concatenate(counts)
    total = int(lengths.sum())
    if lengths.size != columns.size or -(-total // 8) != packed.size:
        raise ValueError(f"{name}: {columns.size} columns of {total} bits in {packed.size} bytes")
    for code, own in zip(codes, counts, strict=True):
        if code.only is None and not code.lengths.any() and own.any():
            raise ValueError(f"{name}: a kernel without a code")
    code_of = np.repeat(np.arange(len(codes)), [own.size for own in counts])
    ends = np.cumsum(lengths)
    symbols, reached = decode_columns(codes, code_of, packed, ends - lengths, columns)
    if (reached != ends).any():
        raise ValueError(f"{name}: a column does not end where it should: it was altered")
    return np.split(symbols, np.cumsum([int(own.sum()) for own in counts])[:-1])


register(HuffmanCoder())
register(SparseHuffmanCoder())
register(SparseIndexMapCoder())
