"""The coder `rans`: order-0 range asymmetric numeral systems over interleaved lanes, in NumPy.

    encoded = representation.get("rans").encode(indices, k=256)
    encoded.nbytes * 8 / indices.size      # the entropy, + tables and lane states

Every kernel has a frequency table, shared with similar kernels where that is cheaper. All
kernels of a file run through the same lanes, one kernel after the other: index i of a kernel
belongs to lane i % lanes, so that a row of indices is one NumPy operation over all lanes.
A lane is a 64-bit state that takes 32-bit words from one common stream, at most one per two
rows: states lie in [2^32, 2^64), and two indices of at most 16 bits never need more. Few lanes
for small files (a state is 8 bytes, of which about 2 are code), many for speed; one thread,
because Python's lock makes two slower than one on steps of a few microseconds.

Alphabets above 4,096 levels and kernels whose table would cost more than it saves are held by
`raw`, and say so. `storage/FORMAT.md` specifies the stream. Method: Duda (2013),
arXiv:1311.2540; interleaving: Giesen (2014), arXiv:1402.3392.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

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
from cxcompress.representation.entropy import histogram
from cxcompress.representation.frequency_tables import (
    MAX_TABLE_LEVELS,
    FrequencyTable,
    read_tables,
    share_tables,
    write_tables,
)
from cxcompress.representation.types import index_dtype

MAX_LANES = 1 << 14
_CODE_BYTES_PER_LANE = 4000
"""One lane for so many bytes of code: the states are then 0.2% of it."""

_ROWS = 1 << 15
"""Most rows a writer makes, so that nearly constant kernels still decode at once."""

MAX_ROWS = 1 << 17
"""Most rows that a reader accepts before it allocates or loops."""

_LOW = np.uint64(1 << 32)
_WORD_BITS = np.uint64(32)


class RansCoder(IndexCoder):
    """Order-0 rANS. Buffers: `rans_words` uint32, `rans_states` uint64, `rans_tables` uint8."""

    name = "rans"

    def encode_kernels(self, kernels: Mapping[str, tuple[NDArray, int]]) -> EncodedKernels:
        """See `IndexCoder.encode_kernels`."""
        flat = {path: checked_indices(indices, k) for path, (indices, k) in kernels.items()}
        small = [path for path, (_, k) in kernels.items()
                 if k <= MAX_TABLE_LEVELS and flat[path].size]
        counts = {path: histogram(flat[path], kernels[path][1]) for path in small}
        tables, numbers = share_tables(list(counts.values()))
        plan = _worth_a_table(counts, tables, numbers)
        tables = [table for table, _ in plan]
        coded = {path: number for number, (_, paths) in enumerate(plan) for path in paths}

        encoded: dict[str, EncodedKernel] = {}
        for path, (indices, k) in kernels.items():
            if path in coded:
                bits = math.ceil(tables[coded[path]].bits(counts[path]))
                encoded[path] = EncodedKernel(
                    np.shape(indices), k, self.name, bits, coded[path])
        rest = {path: pair for path, pair in kernels.items() if path not in coded}
        raw = get("raw").encode_kernels(rest)
        buffers = dict(raw.buffers) if rest else {}
        if coded:
            varying = [(flat[path], tables[coded[path]]) for path in kernels
                       if path in coded and not tables[coded[path]].constant]
            bits = sum(kernel.bits for kernel in encoded.values())
            size = sum(indices.size for indices, _ in varying)
            lanes = _number_of_lanes(bits, size)
            words, states = _encode(varying, lanes)
            buffers |= {"rans_words": words, "rans_states": states,
                        "rans_tables": write_tables(tables)}
        encoded |= raw.kernels
        return EncodedKernels({path: encoded[path] for path in kernels}, buffers)

    def decode_kernels(
        self, kernels: Mapping[str, EncodedKernel], buffers: Mapping[str, NDArray]
    ) -> dict[str, NDArray]:
        """See `IndexCoder.decode_kernels`."""
        words, states, stored = (
            checked_buffer(buffers, name, dtype)
            for name, dtype in (("rans_words", np.uint32), ("rans_states", np.uint64),
                                ("rans_tables", np.uint8)))
        tables = read_tables(stored, _levels(kernels))
        varying = sum(kernel.size for kernel in kernels.values()
                      if not tables[_table(kernel)].constant)
        lanes = states.size
        if lanes > MAX_LANES or varying > MAX_ROWS * lanes or (words.size and not lanes):
            raise ValueError(f"{varying} indices in {lanes} lanes: there are at most {MAX_LANES} "
                             f"lanes, of at most {MAX_ROWS} indices")
        decoder = _Decoder(words, states)
        decoded: dict[str, NDArray] = {}
        current, lookup = None, np.empty(0, np.uint64)
        for path, kernel in kernels.items():
            table = tables[_table(kernel)]
            dtype = index_dtype(kernel.k)
            if table.constant:
                flat = np.full(kernel.size, np.flatnonzero(table.codes)[0], dtype)
            else:
                if current != kernel.table:
                    current, lookup = kernel.table, _lookup(table)
                flat = np.empty(kernel.size, dtype)
                decoder.decode(flat, lookup, table.precision)
            decoded[path] = flat.reshape(kernel.shape)
        decoder.finish()
        return decoded


def _worth_a_table(
    counts: Mapping[str, NDArray], tables: list[FrequencyTable], numbers: list[int]
) -> list[tuple[FrequencyTable, list[str]]]:
    """The tables that, with their own bytes, beat packed indices, each with the kernels that gain.

    A small kernel may take more bits by a table shared with large ones than packed.
    """
    plan = []
    for number, table in enumerate(tables):
        width = (table.codes.size - 1).bit_length()
        paths = [path for path, own in zip(counts, numbers, strict=True)
                 if own == number and table.bits(counts[path]) < width * int(counts[path].sum())]
        coded = sum(table.bits(counts[path]) for path in paths) + 8 * write_tables([table]).size
        if coded < width * sum(int(counts[path].sum()) for path in paths):
            plan.append((table, paths))
    return plan


def _number_of_lanes(bits: int, size: int) -> int:
    """Lanes of a file with so many bits of code for so many indices that are not constant."""
    wanted = max(bits // (8 * _CODE_BYTES_PER_LANE), -(-size // _ROWS), 1)
    return min(wanted, MAX_LANES) if size else 0


def _levels(kernels: Mapping[str, EncodedKernel]) -> list[int]:
    """k of each table, in order; raises ValueError if a kernel's table is missing or differs."""
    levels: dict[int, int] = {}
    for path, kernel in kernels.items():
        number = kernel.table
        if number is None or not 0 <= number < len(kernels):
            raise ValueError(f"{path}: no frequency table {number}")
        if not 1 <= kernel.k <= MAX_TABLE_LEVELS or levels.setdefault(number, kernel.k) != kernel.k:
            raise ValueError(f"{path}: frequency table {number} is not one of {kernel.k} levels")
    if sorted(levels) != list(range(len(levels))):
        raise ValueError("every frequency table belongs to a kernel")
    return [levels[number] for number in range(len(levels))]


def _rows(flat: NDArray, lanes: int) -> Iterator[NDArray]:
    """The indices of a kernel as blocks of one or two rows; a block ends with renormalisation.

    Full rows go in pairs; an odd last one, and the rest that does not fill all lanes, alone.
    """
    full = flat.size // lanes
    rows = flat[: full * lanes].reshape(full, lanes)
    for first in range(0, full, 2):
        yield rows[first : first + 2]
    if full * lanes < flat.size:
        yield flat[full * lanes :].reshape(1, -1)


def _encode(
    kernels: list[tuple[NDArray, FrequencyTable]], lanes: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Words and final states; rANS is last in, first out, so everything runs backwards."""
    states = np.full(lanes, _LOW, np.uint64)
    emitted: list[NDArray[np.uint32]] = []
    for flat, table in reversed(kernels):
        frequency = table.frequencies.astype(np.uint64)
        start = (np.cumsum(table.frequencies) - table.frequencies).astype(np.uint64)
        gap = np.uint64(1 << table.precision) - frequency
        for block in reversed(list(_rows(flat, lanes))):
            state = states[: block.shape[1]]
            shares = frequency[block]
            shift = np.uint64(64 - table.precision * len(block))
            full = np.flatnonzero((state >> shift) >= shares.prod(axis=0, dtype=np.uint64))
            leaving = state[full]
            emitted.append(leaving.astype(np.uint32))
            state[full] = leaving >> _WORD_BITS
            for row, share in zip(block[::-1], shares[::-1], strict=True):
                # (state // share) << precision | state % share, + start, without the remainder.
                state += state // share * gap[row]
                state += start[row]
    words = np.concatenate([np.empty(0, np.uint32), *reversed(emitted)])
    return words, states


def _table(kernel: EncodedKernel) -> int:
    if kernel.table is None:
        raise ValueError("a kernel names no frequency table")
    return kernel.table


def _lookup(table: FrequencyTable) -> NDArray[np.uint64]:
    """What a decoder needs of each slot: share in bits 0–15, level in 16–31, bias in 48–63."""
    shares = table.frequencies
    levels = np.repeat(np.arange(shares.size), shares)
    bias = np.arange(levels.size) - (np.cumsum(shares) - shares)[levels]
    return ((shares[levels] | levels << 16).astype(np.uint64)
            | bias.astype(np.uint64) << np.uint64(48))


class _Decoder:
    """The lanes of a file while its kernels are decoded, in order."""

    def __init__(self, words: NDArray[np.uint32], states: NDArray[np.uint64]):
        self.words = words
        self.states = states.copy()
        self.position = 0
        # Scratch of one row, allocated once so that a row touches the L1 cache only.
        self.slots = np.empty(states.size, np.int64)
        self.entries = np.empty(states.size, np.uint64)
        self.shares = np.empty(states.size, np.uint64)

    def decode(self, flat: NDArray, lookup: NDArray[np.uint64], precision: int) -> None:
        """Fill `flat` with the next kernel's indices.

        Raises:
            ValueError: If the words run out.
        """
        lanes = self.states.size
        width = None
        bits, mask = np.uint64(precision), np.uint64((1 << precision) - 1)
        share_mask, bias_shift = np.uint64(0xFFFF), np.uint64(48)
        words, position = self.words, self.position
        for block in _rows(flat, lanes):
            if block.shape[1] != width:
                width = block.shape[1]
                state, slot = self.states[:width], self.slots[:width]
                slot_bits = slot.view(np.uint64)
                entry, share = self.entries[:width], self.shares[:width]
                level = entry.view(flat.dtype)[2 // flat.itemsize :: 8 // flat.itemsize]
            for row in block:
                np.bitwise_and(state, mask, out=slot_bits)
                lookup.take(slot, out=entry, mode="clip")
                row[...] = level
                np.right_shift(state, bits, out=state)
                np.bitwise_and(entry, share_mask, out=share)
                np.multiply(state, share, out=state)
                np.right_shift(entry, bias_shift, out=entry)
                np.add(state, entry, out=state)
            low = (state < _LOW).nonzero()[0]
            end = position + low.size
            if end > words.size:
                raise ValueError("the rANS stream ends too early")
            refilled = state.take(low)
            refilled <<= _WORD_BITS
            refilled |= words[position:end]
            state[low] = refilled
            position = end
        self.position = position

    def finish(self) -> None:
        """Raise ValueError unless all words are used and every lane is back where it began."""
        if self.position != self.words.size or (self.states != _LOW).any():
            raise ValueError("the rANS stream does not end where it should: it was altered")


register(RansCoder())
