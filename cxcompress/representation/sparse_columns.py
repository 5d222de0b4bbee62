"""Where the entries other than one index lie in a matrix, column by column; and gaps of a byte.

    sparse = SparseColumns.of(indices, absent=7)     # indices (rows, columns)
    sparse.entries, sparse.rows, sparse.counts       # column by column
    sparse.dense(rows=indices.shape[0])              # the same matrix

    gaps, gap_counts = write_gaps(sparse.rows, sparse.counts)
    read_gaps(gaps, gap_counts)                      # rows and counts again
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ESCAPE = 255
"""A gap byte that moves on by as much and stands for no entry."""
_ENTRIES_AT_ONCE = 1 << 18
"""Bounds the memory of filling: some 40 bytes for each of them."""


@dataclass(frozen=True)
class SparseColumns:
    """The entries of a matrix that are not `absent`.

    Args:
        entries: Their indices, column by column, from the top.
        rows: int64, the row of each.
        counts: int64, how many each column has.
        absent: The index of all other entries.
    """

    entries: NDArray[np.unsignedinteger]
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    absent: int

    @classmethod
    def of(cls, indices: NDArray, absent: int) -> SparseColumns:
        """Of a matrix `(rows, columns)`."""
        turned = indices.T
        columns, rows = (turned != absent).nonzero()
        counts = np.bincount(columns, minlength=indices.shape[1])
        return cls(turned[columns, rows], rows, counts, absent)

    def dense(self, rows: int) -> NDArray[np.unsignedinteger]:
        """The matrix, of so many rows, in the type of the entries.

        Raises:
            ValueError: If a row lies outside, or the rows of a column do not increase.
        """
        found = np.full((rows, self.counts.size), self.absent, self.entries.dtype)
        for columns, some in column_batches(self.counts):
            fill_columns(found[:, columns], self.entries[some], self.rows[some],
                         self.counts[columns])
        return found


def column_batches(counts: NDArray) -> Iterator[tuple[slice, slice]]:
    """Columns, and their entries, in batches of so few that filling them takes little memory.

    Args:
        counts: How many entries each column has.
    """
    ends = np.cumsum(counts)
    start = begin = 0
    while start < counts.size:
        stop = int(np.searchsorted(ends, begin + _ENTRIES_AT_ONCE, side="right"))
        stop = min(max(stop, start + 1), start + _ENTRIES_AT_ONCE)
        end = int(ends[stop - 1])
        yield slice(start, stop), slice(begin, end)
        start, begin = stop, end


def fill_columns(found: NDArray, entries: NDArray, rows: NDArray, counts: NDArray) -> None:
    """Write entries into columns of a matrix.

    Args:
        found: `(rows, columns)`.
        entries, rows, counts: As in `SparseColumns`, of these columns.

    Raises:
        ValueError: If a row lies outside, or the rows of a column do not increase.
    """
    columns = np.repeat(np.arange(counts.size), counts)
    if rows.size:
        same = columns[1:] == columns[:-1]
        if rows.min() < 0 or rows.max() >= len(found) or (np.diff(rows)[same] <= 0).any():
            raise ValueError(f"rows of a sparse column increase from 0 to {len(found) - 1}")
    found[rows, columns] = entries


def write_gaps(rows: NDArray, counts: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Rows as the number of absent entries before each, a byte each and 255 to move on by 255.

    Args:
        rows: As in `SparseColumns`.
        counts: As in `SparseColumns`.

    Returns:
        The bytes, and how many each column has.
    """
    columns = np.repeat(np.arange(counts.size), counts)
    before = np.concatenate([[-1], rows[:-1]]) if rows.size else rows
    if rows.size:
        before[np.concatenate([[True], columns[1:] != columns[:-1]])] = -1
    gaps = rows - before - 1
    escapes = gaps // ESCAPE
    places = np.cumsum(escapes + 1) - 1
    written = np.full(int(places[-1]) + 1 if places.size else 0, ESCAPE, np.uint8)
    written[places] = gaps % ESCAPE
    return written, np.bincount(columns, escapes + 1, counts.size).astype(np.int64)


def read_gaps(
    gaps: NDArray[np.uint8], gap_counts: NDArray
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The inverse of `write_gaps`: rows and counts."""
    wide = gaps.astype(np.int64)
    columns = np.repeat(np.arange(gap_counts.size), gap_counts)
    entry = wide != ESCAPE
    moved = np.cumsum(wide + entry)
    starts = np.concatenate([[0], moved])[np.cumsum(gap_counts) - gap_counts]
    rows = (moved - starts[columns] - 1)[entry]
    return rows, np.bincount(columns[entry], minlength=gap_counts.size)
