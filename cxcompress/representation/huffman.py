"""Canonical Huffman codes of index maps, column by column: what HAC and sHAC are made of.

    code = HuffmanCode.of(np.bincount(symbols))
    words, starts = code.encode(symbols, lengths_of_columns)
    code.decode(words, starts, lengths_of_columns)      # the same symbols

Columns are decoded side by side, a symbol of each at a time. Reference: Huffman (1952); canonical
form: Schwartz and Kallick (1964).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LONGEST = 24
"""Codewords of more bits are avoided by counting rare symbols as less rare than they are."""


@dataclass(frozen=True)
class HuffmanCode:
    """A prefix code.

    Args:
        lengths: uint8 `(k,)`: bits of each symbol's codeword; 0 = the symbol does not occur. A
            code of one symbol has the length 0, too: nothing is written.
        only: The symbol of a code of one symbol, else None.
    """

    lengths: NDArray[np.uint8]
    only: int | None = None

    @classmethod
    def of(cls, counts: NDArray) -> HuffmanCode:
        """The best code for a histogram `(k,)` in which something occurs.

        Raises:
            ValueError: If nothing does.
        """
        used = np.flatnonzero(counts)
        if not used.size:
            raise ValueError("a Huffman code needs a symbol that occurs")
        lengths = np.zeros(len(counts), np.uint8)
        if used.size == 1:
            return cls(lengths, int(used[0]))
        floor = 1
        while True:
            depths = _depths(np.maximum(counts[used], floor))
            if max(depths) <= LONGEST:
                lengths[used] = depths
                return cls(lengths)
            floor = max(2 * floor, int(counts[used].sum() >> LONGEST))

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Symbols by codeword: shorter ones first, then by number."""
        used = np.flatnonzero(self.lengths)
        return used[np.argsort(self.lengths[used], kind="stable")]

    @cached_property
    def codewords(self) -> NDArray[np.int64]:
        """`(k,)`: the bits of each codeword as a number."""
        lengths = self.lengths[self.order].astype(np.int64)
        ends = np.cumsum(np.int64(1) << (LONGEST - lengths))
        found = np.zeros(self.lengths.size, np.int64)
        found[self.order] = (ends - (np.int64(1) << (LONGEST - lengths))) >> (LONGEST - lengths)
        return found

    def bits(self, counts: NDArray) -> int:
        """Bits of all symbols of a histogram."""
        return int((self.lengths.astype(np.int64) * counts).sum())

    def encode(
        self, symbols: NDArray, columns: NDArray
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Write columns one after the other.

        Args:
            symbols: `(n,)`, column by column.
            columns: Symbols in each column.

        Returns:
            The bits packed into bytes, the first in the highest bit; and the bit at which each
            column begins.
        """
        lengths = self.lengths[symbols].astype(np.int64)
        ends = np.cumsum(lengths)
        begins = ends - lengths
        bits = np.zeros(int(ends[-1]) if ends.size else 0, np.uint8)
        words = self.codewords[symbols]
        for place in range(int(lengths.max(initial=0))):
            some = lengths > place
            bits[begins[some] + place] = (words[some] >> (lengths[some] - 1 - place)) & 1
        firsts = np.cumsum(columns) - columns
        starts = np.concatenate([begins, ends[-1:], [0]])[firsts]
        return np.packbits(bits), np.where(firsts < symbols.size, starts, bits.size)

    def decode(
        self, packed: NDArray[np.uint8], starts: NDArray, columns: NDArray
    ) -> NDArray[np.intp]:
        """The inverse of `encode`, for any columns whose starts are given.

        Raises:
            ValueError: If the bits end early or are no codewords.
        """
        firsts = np.cumsum(columns) - columns
        found = np.empty(int(np.sum(columns)), np.intp)
        if self.only is not None:
            found[:] = self.only
            return found
        padded = np.concatenate([packed, np.zeros(8, np.uint8)])
        lengths = self.lengths[self.order].astype(np.int64)
        ends = np.cumsum(np.int64(1) << (LONGEST - lengths))
        order = np.argsort(-columns, kind="stable")
        place = np.asarray(starts, np.int64)[order]
        for step in range(int(np.max(columns, initial=0))):
            running = int(np.count_nonzero(columns > step))
            now = place[:running]
            byte = now >> 3
            if running and int(byte.max()) >= packed.size:
                raise ValueError("the Huffman code ends too early")
            window = np.zeros(running, np.int64)
            for offset in range(4):
                window = window << 8 | padded[byte + offset]
            window = (window >> (32 - LONGEST - (now & 7))) & ((1 << LONGEST) - 1)
            rank = np.searchsorted(ends, window, side="right")
            if running and int(rank.max()) >= lengths.size:
                raise ValueError("the Huffman code holds bits that are no codeword")
            found[firsts[order[:running]] + step] = self.order[rank]
            now += lengths[rank]
        return found


def _depths(counts: NDArray) -> NDArray[np.int64]:
    """Depth of each leaf of a Huffman tree: merge the two rarest until one is left."""
    parents = [-1] * len(counts)
    heap = [(int(count), number) for number, count in enumerate(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (first, a), (second, b) = heapq.heappop(heap), heapq.heappop(heap)
        parents[a] = parents[b] = len(parents)
        heapq.heappush(heap, (first + second, len(parents)))
        parents.append(-1)
    depths = [0] * len(parents)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return np.array(depths[: len(counts)], np.int64)
