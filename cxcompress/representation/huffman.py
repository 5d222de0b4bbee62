"""Canonical Huffman codes of index maps, column by column: what HAC and sHAC are made of.

    code = HuffmanCode.of(np.bincount(symbols))
    words, starts = code.encode(symbols, lengths_of_columns)
    code.decode(words, starts, lengths_of_columns)      # the same symbols

Columns are decoded side by side, a symbol of each at a time. Reference: Huffman (1952); canonical
form: Schwartz and Kallick (1964).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
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
    ) -> NDArray[np.uint16]:
        """The inverse of `encode`, for any columns whose starts are given.

        Raises:
            ValueError: If the bits end early or are no codewords.
        """
        return decode_columns([self], np.zeros(len(columns), np.intp), packed, starts, columns)[0]


def decode_columns(
    codes: Sequence[HuffmanCode], code_of: NDArray, packed: NDArray[np.uint8], starts: NDArray,
    columns: NDArray,
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Columns of several codes in one string of bits, a symbol of each column at a time.

    Args:
        codes: The codes.
        code_of: The number of each column's code.
        packed: The bits.
        starts: The bit at which each column begins.
        columns: Symbols in each column.

    Returns:
        The symbols, column by column; and the bit at which each column ends.

    Raises:
        ValueError: If the bits end early or are no codewords.
    """
    firsts = np.cumsum(columns) - columns
    # The windows of code number i lie in [i, i + 1) << LONGEST: one search serves all codes.
    orders = [code.order for code in codes]
    lengths = _joined([code.lengths[order] for code, order in zip(codes, orders, strict=True)])
    symbols = _joined(orders)
    last = np.cumsum([order.size for order in orders])
    ends = _joined([
        (number << LONGEST) + np.cumsum(np.int64(1) << (LONGEST - code.lengths[order].astype(int)))
        for number, (code, order) in enumerate(zip(codes, orders, strict=True))])
    constant = np.array([code.only is not None for code in codes], bool)[code_of]
    only = np.array([code.only or 0 for code in codes], np.uint16)
    found = np.repeat(only[code_of], columns)
    bits = np.array(starts, np.int64)
    padded = np.concatenate([packed, np.zeros(8, np.uint8)])
    order = np.argsort(-columns, kind="stable")
    order = order[~constant[order]]
    sizes, number, firsts = columns[order], np.asarray(code_of)[order], firsts[order]
    place = bits[order]
    for step in range(int(np.max(sizes, initial=0))):
        running = int(np.count_nonzero(sizes > step))
        now = place[:running]
        byte = now >> 3
        if int(byte.max()) >= packed.size:
            raise ValueError("the Huffman code ends too early")
        window = np.zeros(running, np.int64)
        for offset in range(4):
            window = window << 8 | padded[byte + offset]
        window = (window >> (32 - LONGEST - (now & 7))) & ((1 << LONGEST) - 1)
        rank = np.searchsorted(ends, window + (number[:running] << LONGEST), side="right")
        if (rank >= last[number[:running]]).any():
            raise ValueError("the Huffman code holds bits that are no codeword")
        found[firsts[:running] + step] = symbols[rank]
        now += lengths[rank]
    bits[order] = place
    return found, bits


def _joined(parts: Sequence[NDArray]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


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
