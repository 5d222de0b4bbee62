"""The coder `context`: the smallest. rANS whose tables follow the magnitudes that came before.

All kernels are walked through together, in chains (`chains.ChainLayout`). What is known of a
weight before it is decoded is how large its chain has been so far, how large the weights of the
same two channels were at earlier places of the window, and how large its kernel is in the mean.
A weighted mean of the three gives the weight's *scale class*, four to an octave; the classes'
frequency tables serve the whole file. Kernels of many scales need no tables of their own.

Kernels whose integers obey a trellis code (`trellis_codes`, the quantizer "TCQ") are recognised,
and their parity, known from the state, costs nothing.

Lanes are 32-bit states that take 16-bit words. `storage/FORMAT.md` specifies the stream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxcompress.representation.chains import ChainLayout
from cxcompress.representation.coders import (
    EncodedKernel,
    EncodedKernels,
    IndexCoder,
    checked_buffer,
    checked_indices,
    get,
    register,
)
from cxcompress.representation.frequency_tables import (
    FrequencyTable,
    read_tables,
    share_tables,
    write_tables,
)
from cxcompress.representation.trellis_codes import STATES, Trellis
from cxcompress.representation.types import index_dtype

MAX_LEVELS = 2048
"""Larger alphabets are packed raw: their tables would be more than 4,096 levels wide."""
MAX_LANES = 1 << 13
MAX_WEIGHTS_A_LANE = 1 << 17
CLASSES = 64
PRECISION = 14

_CODE_BYTES_PER_LANE = 1500
_WEIGHTS_A_LANE = 1 << 15
_LOW = np.uint64(1 << 16)
_SCALE = 256
"""Mean magnitudes of kernels are stored in 256ths."""
_FIRST_CLASS = (1023 - 6) << 2
"""Class 0 begins at a scale of 2^-6."""
_MIXTURES = ((0, 0, 1), (200, 0, 16), (200, 20, 16))
"""Tried by the writer: most steps that a chain counts for, weight of a place, of the kernel."""
_HEADER = struct.Struct("<HHHH")
_KERNEL = np.dtype([("mean", "<u2"), ("centre", "<u2"), ("states", "<u2"), ("offset", "<u2")])


@dataclass(frozen=True)
class _Model:
    """What a reader must know before the first weight.

    Args:
        mixture: One of `_MIXTURES`, or another.
        kernels: `_KERNEL` records: mean magnitude in 256ths, the index that counts as 0, states
            of the trellis code or 0, and what index − centre must be increased by to obey it.
        reach: Largest |index − centre|.
        table_of_class: uint8 `(CLASSES,)`.
        tables: Of `2 · reach + 1` levels.
    """

    mixture: tuple[int, int, int]
    kernels: NDArray
    reach: int
    table_of_class: NDArray[np.uint8]
    tables: Sequence[FrequencyTable]


class ContextCoder(IndexCoder):
    """Buffers: `context_words` uint16, `context_states` uint32, `context_tables` uint8."""

    name = "context"

    def encode_kernels(self, kernels: Mapping[str, tuple[NDArray, int]]) -> EncodedKernels:
        """See `IndexCoder.encode_kernels`."""
        flat = {path: checked_indices(indices, k) for path, (indices, k) in kernels.items()}
        mine = [path for path, (_, k) in kernels.items() if k <= MAX_LEVELS and flat[path].size]
        rest = {path: pair for path, pair in kernels.items() if path not in mine}
        raw = get("raw").encode_kernels(rest)
        encoded, buffers = dict(raw.kernels), dict(raw.buffers) if rest else {}
        if mine:
            shapes = [np.shape(kernels[path][0]) for path in mine]
            layout = ChainLayout(shapes)
            centres = _centres([flat[path] for path in mine], [kernels[path][1] for path in mine])
            integers = [flat[path].astype(np.int16).reshape(shape) - np.int16(centre)
                        for path, shape, centre in zip(mine, shapes, centres, strict=True)]
            facts = _facts(layout, integers, centres)
            sequence = layout.sequence(integers)
            trial = min((_fitted(layout, sequence, facts, mixture) for mixture in _MIXTURES),
                        key=lambda trial: trial.bits)
            words, states = _encode(layout, sequence, trial)
            buffers |= {"context_words": words, "context_states": states,
                        "context_tables": _write_model(trial.model)}
            for number, path in enumerate(mine):
                bits = sum(float(trial.cost[layout.positions(block)].sum())
                           for block in layout.blocks if block.kernel == number)
                encoded[path] = EncodedKernel(shapes[number], kernels[path][1], self.name,
                                              int(np.ceil(bits)))
        return EncodedKernels({path: encoded[path] for path in kernels}, buffers)

    def decode_kernels(
        self, kernels: Mapping[str, EncodedKernel], buffers: Mapping[str, NDArray]
    ) -> dict[str, NDArray]:
        """See `IndexCoder.decode_kernels`."""
        words, states, stored = (
            checked_buffer(buffers, name, dtype)
            for name, dtype in (("context_words", np.uint16), ("context_states", np.uint32),
                                ("context_tables", np.uint8)))
        size = sum(kernel.size for kernel in kernels.values())
        if not 1 <= states.size <= MAX_LANES or size > MAX_WEIGHTS_A_LANE * states.size:
            raise ValueError(f"{size} indices in {states.size} lanes: there are 1 to {MAX_LANES} "
                             f"lanes, of at most {MAX_WEIGHTS_A_LANE} indices")
        for path, kernel in kernels.items():
            if not 1 <= kernel.k <= MAX_LEVELS or not kernel.size:
                raise ValueError(f"{path}: not a kernel of {kernel.k} levels for this coder")
        model = _read_model(stored, len(kernels))
        layout = ChainLayout([kernel.shape for kernel in kernels.values()])
        integers = layout.kernels(_decode(layout, model, words, states))
        found = {}
        for (path, kernel), part, centre in zip(
                kernels.items(), integers, model.kernels["centre"], strict=True):
            indices = part.astype(np.int32) + int(centre)
            if indices.min() < 0 or indices.max() >= kernel.k:
                raise ValueError(f"{path}: an index outside its codebook of {kernel.k} values")
            found[path] = indices.astype(index_dtype(kernel.k))
        return found


class _Classes:
    """The scale classes of a step's weights, from the magnitudes of the steps before.

    All arithmetic is on float64 numbers that hold integers, but for two divisions and the product
    between them, each rounded once as IEEE 754 says: the same everywhere.
    """

    def __init__(self, layout: ChainLayout, model_kernels: NDArray, mixture: Sequence[int]):
        self.most, self.place_weight, self.kernel_weight = map(float, mixture)
        self.layout = layout
        blocks = layout.blocks
        mean = model_kernels["mean"].astype(np.float64) / _SCALE
        self.prior = layout.per_chain([mean[block.kernel] for block in blocks]) * self.kernel_weight
        self.sums = np.zeros(layout.chains)
        self.fixed = None
        if not self.most:
            self.fixed = _class_of(self.prior / self.kernel_weight)
        # Chains that have an earlier place of the window at this step, and where it is.
        self.here = np.empty(0, np.int64)
        self.before = self.here
        if self.place_weight:
            self.period = layout.per_chain(
                [block.period or block.steps for block in blocks], np.int64)
            # Sums of magnitudes over all places up to this one, for each weight.
            self.place_sums = np.empty(layout.size, np.float32)

    def at(self, step: int) -> NDArray[np.intp]:
        """Classes of the weights of a step, one a running chain."""
        width = int(self.layout.widths[step])
        if self.fixed is not None:
            return self.fixed[:width]
        counted = min(float(step), self.most)
        scale = self.sums[:width] / max(step, 1)
        scale *= counted
        scale += self.prior[:width]
        weight = np.full(width, counted + self.kernel_weight)
        if self.place_weight:
            self.here = (self.period[:width] <= step).nonzero()[0]
            if self.here.size:
                period = self.period.take(self.here)
                self.before = self.layout.starts.take(step - period) + self.here
                scale[self.here] += self.place_weight * self.place_sums.take(self.before)
                weight[self.here] += self.place_weight * (step // period)
        scale /= weight
        return _class_of(scale)

    def update(self, step: int, magnitudes: NDArray) -> None:
        """Take in the magnitudes of the step that `at` was asked for last."""
        if self.fixed is not None:
            return
        width = magnitudes.size
        self.sums[:width] += magnitudes
        if self.place_weight:
            start = int(self.layout.starts[step])
            now = self.place_sums[start : start + width]
            now[...] = magnitudes
            if self.here.size:
                now[self.here] += self.place_sums.take(self.before)


def _class_of(scale: NDArray[np.float64]) -> NDArray[np.intp]:
    """Four classes an octave: exponent and first two bits of the fraction of the number."""
    found = scale.view(np.int64) >> 50
    found -= _FIRST_CLASS
    np.maximum(found, 0, out=found)
    return np.minimum(found, CLASSES - 1, out=found)


class _Parities:
    """Which integers may come next: 0 even, 1 odd, 2 any, for each chain."""

    def __init__(self, layout: ChainLayout, kernels: NDArray):
        self.codes = []
        states = layout.per_chain([kernels["states"][block.kernel] for block in layout.blocks],
                                  np.int64)
        self.offset = layout.per_chain(
            [kernels["offset"][block.kernel] for block in layout.blocks], np.int64)
        for number in np.unique(states[states > 0]):
            where = np.flatnonzero(states == number)
            self.codes.append((Trellis(int(number)), where, np.zeros(where.size, np.int64)))
        self.any = np.full(layout.chains, 2)

    def at(self, width: int) -> NDArray[np.intp]:
        """For the first `width` chains."""
        if not self.codes:
            return self.any[:width]
        found = self.any[:width].copy()
        for trellis, where, state in self.codes:
            here = where[: np.searchsorted(where, width)]
            found[here] = trellis.union.take(state[: here.size]) ^ (self.offset.take(here) & 1)
        return found

    def update(self, integers: NDArray) -> None:
        """Take in the integers of a step."""
        for trellis, where, state in self.codes:
            here = where[: np.searchsorted(where, integers.size)]
            now = state[: here.size]
            now[...] = trellis.follow(now, integers.take(here) + self.offset.take(here))


@dataclass(frozen=True)
class _Trial:
    """A model fitted to a file, what it costs, and the column of shares of every weight."""

    model: _Model
    bits: float
    columns: NDArray[np.uint8]
    cost: NDArray[np.float32]


def _centres(flat: Sequence[NDArray], levels: Sequence[int]) -> list[int]:
    """The index near which each kernel's weights are smallest: the median of its alphabet's."""
    own = [int(np.median(indices)) for indices in flat]
    found = []
    for number, k in enumerate(levels):
        common = int(np.median([own[other] for other, its in enumerate(levels) if its == k]))
        found.append(common if abs(common - own[number]) <= 2 else own[number])
    return found


def _facts(layout: ChainLayout, integers: Sequence[NDArray], centres: Sequence[int]) -> NDArray:
    facts = np.zeros(len(integers), _KERNEL)
    for number, kernel in enumerate(integers):
        mean = np.abs(kernel).mean(dtype=np.float64)
        facts[number]["mean"] = np.clip(round(mean * _SCALE), 1, 65535)
        facts[number]["centre"] = centres[number]
        blocks = [layout.matrix(kernel, block) for block in layout.blocks
                  if block.kernel == number]
        facts[number]["states"], facts[number]["offset"] = _obeyed(blocks)
    return facts


def _obeyed(blocks: Sequence[NDArray]) -> tuple[int, int]:
    """States and offset of the trellis code that all blocks obey, or (0, 0)."""
    if max(len(block) for block in blocks) * blocks[0].shape[1] < 64:
        return 0, 0  # so few weights obey one by chance
    for states in STATES:
        trellis = Trellis(states)
        for offset in range(4):
            if all(trellis.follows(block, offset) for block in blocks):
                return states, offset
    return 0, 0


def _fitted(layout: ChainLayout, sequence: NDArray, facts: NDArray, mixture) -> _Trial:
    """Classes of all weights and the tables that suit them."""
    reach = int(np.abs(sequence).max())
    levels = 2 * reach + 1
    classes = _Classes(layout, facts, mixture)
    parities = _Parities(layout, facts)
    contexts = np.empty(sequence.size, np.uint8)
    allowed = np.empty(sequence.size, np.uint8)
    for step, start in enumerate(layout.starts[:-1]):
        row = sequence[start : layout.starts[step + 1]]
        here = slice(start, start + row.size)
        contexts[here] = classes.at(step)
        allowed[here] = parities.at(row.size)
        classes.update(step, np.abs(row))
        parities.update(row)
    counts: NDArray = np.zeros(CLASSES * levels, np.int64)
    for first in range(0, sequence.size, 1 << 22):
        part = slice(first, first + (1 << 22))
        counts += np.bincount(contexts[part] * np.int64(levels) + sequence[part] + reach,
                              minlength=counts.size)
    counts = counts.reshape(CLASSES, levels)
    used = np.flatnonzero(counts.sum(axis=1))
    tables, numbers = share_tables(list(counts[used]), (PRECISION,))
    # Classes that do not occur take the table of the nearest one that does.
    nearest = np.abs(np.arange(CLASSES)[:, None] - used).argmin(axis=1)
    table_of_class = np.asarray(numbers, np.uint8)[nearest]
    model = _Model(tuple(mixture), facts, reach, table_of_class, tables)
    columns = 3 * table_of_class[contexts] + allowed
    costs = PRECISION - np.log2(np.maximum(_shares(model), 1)).astype(np.float32)
    cost = costs[columns, sequence + np.int64(reach)]
    bits = float(cost.sum(dtype=np.float64)) + 8 * _write_model(model).size
    return _Trial(model, bits, columns, cost)


def _shares(model: _Model) -> NDArray[np.int64]:
    """Shares `(3 · tables, levels)`: of even, of odd and of all integers of each table."""
    odd = np.arange(-model.reach, model.reach + 1) & 1
    rows = []
    for table in model.tables:
        for allowed in (odd == 0, odd == 1, np.ones(odd.size, bool)):
            codes = np.where(allowed, table.codes, 0).astype(np.uint8)
            rows.append(FrequencyTable(codes, PRECISION).frequencies if codes.any()
                        else np.zeros(odd.size, np.int64))
    return np.array(rows)


def _write_model(model: _Model) -> NDArray[np.uint8]:
    """Header, kernels and tables: two zlib streams, the first preceded by its length."""
    head = zlib.compress(
        _HEADER.pack(*model.mixture, model.reach) + bytes([len(model.tables)])
        + model.table_of_class.tobytes() + b"".join(
            model.kernels[name].tobytes() for name in _KERNEL.names or ()), 9)
    return np.concatenate([np.frombuffer(struct.pack("<I", len(head)) + head, np.uint8),
                           write_tables(model.tables)])


def _read_model(stored: NDArray[np.uint8], kernels: int) -> _Model:
    body = stored.tobytes()
    if len(body) < 4:
        raise ValueError("the context model is cut off")
    (length,) = struct.unpack_from("<I", body)
    expected = _HEADER.size + 1 + CLASSES + kernels * _KERNEL.itemsize
    inflate = zlib.decompressobj()
    try:
        head = inflate.decompress(body[4 : 4 + length], expected + 1)
    except zlib.error as error:
        raise ValueError(f"the context model: {error}") from None
    if len(head) != expected or not inflate.eof or inflate.unused_data:
        raise ValueError(f"the context model takes {expected} bytes. Received: {len(head)}")
    *mixture, reach = _HEADER.unpack_from(head)
    count = head[_HEADER.size]
    table_of_class = np.frombuffer(head, np.uint8, CLASSES, _HEADER.size + 1)
    facts, start = np.empty(kernels, _KERNEL), _HEADER.size + 1 + CLASSES
    for name in _KERNEL.names or ():
        facts[name] = np.frombuffer(head, "<u2", kernels, start)
        start += 2 * kernels
    if not mixture[2] or reach >= MAX_LEVELS or not facts["mean"].all() or not (
            np.isin(facts["states"], (0, *STATES)).all()) or not (
            table_of_class.max() < count <= CLASSES):
        raise ValueError("the context model holds numbers that it cannot hold")
    tables = read_tables(np.frombuffer(body, np.uint8, offset=4 + length),
                         [2 * reach + 1] * count)
    if any(table.precision != PRECISION for table in tables):
        raise ValueError(f"tables of the context model have a precision of {PRECISION}")
    return _Model(tuple(mixture), facts, reach, table_of_class, tables)


def _rows(start: int, end: int, lanes: int) -> Iterator[slice]:
    """The weights of a step in rows of at most `lanes`, all of which begin at lane 0."""
    for first in range(start, end, lanes):
        yield slice(first, min(first + lanes, end))


def _number_of_lanes(bits: float, layout: ChainLayout) -> int:
    wanted = max(int(bits) // (8 * _CODE_BYTES_PER_LANE), -(-layout.size // _WEIGHTS_A_LANE), 1)
    return max(min(wanted, MAX_LANES, int(layout.widths[0])),
               -(-layout.size // MAX_WEIGHTS_A_LANE))


def _encode(
    layout: ChainLayout, sequence: NDArray, trial: _Trial
) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """Words and final states; rANS is last in, first out, so everything runs backwards."""
    lanes = _number_of_lanes(trial.bits, layout)
    shares: NDArray = _shares(trial.model)
    first_slots = (np.cumsum(shares, axis=1) - shares).astype(np.uint64).ravel()
    levels = shares.shape[1]
    shares = shares.astype(np.uint64).ravel()
    states = np.full(lanes, _LOW, np.uint64)
    emitted: list[NDArray[np.uint16]] = []
    whole = np.uint64(1 << PRECISION)
    for step in range(len(layout.widths) - 1, -1, -1):
        start, end = int(layout.starts[step]), int(layout.starts[step + 1])
        cell = trial.columns[start:end] * np.int64(levels) + sequence[start:end] \
            + trial.model.reach
        share, first = shares[cell], first_slots[cell]
        for row in reversed(list(_rows(0, end - start, lanes))):
            here = share[row]
            state = states[: here.size]
            full = np.flatnonzero(state >= here << np.uint64(32 - PRECISION))
            leaving = state[full]
            emitted.append(leaving.astype(np.uint16))
            state[full] = leaving >> np.uint64(16)
            state += state // here * (whole - here)
            state += first[row]
    words = np.concatenate([np.empty(0, np.uint16), *reversed(emitted)])
    return words, states.astype(np.uint32)


def _decode(layout: ChainLayout, model: _Model, words: NDArray, states: NDArray) -> NDArray:
    lookup = _lookup(model)
    classes, parities = _Classes(layout, model.kernels, model.mixture), None
    if model.kernels["states"].any():
        parities = _Parities(layout, model.kernels)
    sequence = np.empty(layout.size, np.int16)
    states = states.astype(np.uint64)
    lanes, position = states.size, 0
    mask, bits, word_bits = np.uint64((1 << PRECISION) - 1), np.uint64(PRECISION), np.uint64(16)
    share_mask, bias_shift = np.uint64(0xFFFF), np.uint64(48)
    base = (3 * model.table_of_class.astype(np.int64) + 2) << PRECISION
    # Scratch of one row, allocated once so that a row touches the fastest cache only.
    slots, entries, shares = (np.empty(lanes, kind) for kind in (np.int64, np.uint64, np.uint64))
    for step, width in enumerate(layout.widths.tolist()):
        column = base.take(classes.at(step))
        if parities is not None:
            column += (parities.at(width) - 2) << PRECISION
        start = int(layout.starts[step])
        for row in _rows(0, width, lanes):
            count = row.stop - row.start
            state, slot, entry, share = (a[:count] for a in (states, slots, entries, shares))
            np.bitwise_and(state, mask, out=slot.view(np.uint64))
            slot += column[row]
            lookup.take(slot, out=entry, mode="clip")
            sequence[start + row.start : start + row.stop] = entry.view(np.int16)[1::4]
            np.right_shift(state, bits, out=state)
            np.bitwise_and(entry, share_mask, out=share)
            np.multiply(state, share, out=state)
            np.right_shift(entry, bias_shift, out=entry)
            np.add(state, entry, out=state)
            low = (state < _LOW).nonzero()[0]
            end = position + low.size
            if end > words.size:
                raise ValueError("the context stream ends too early")
            refilled = state.take(low)
            refilled <<= word_bits
            refilled |= words[position:end]
            state[low] = refilled
            position = end
        done = sequence[start : start + width]
        classes.update(step, np.abs(done))
        if parities is not None:
            parities.update(done.astype(np.int64))
    if position != words.size or (states != _LOW).any():
        raise ValueError("the context stream does not end where it should: it was altered")
    return sequence


def _lookup(model: _Model) -> NDArray[np.uint64]:
    """What each slot of each column says: share in bits 0–15, integer in 16–31, bias in 48–63."""
    shares = _shares(model)
    whole = 1 << PRECISION
    found = np.zeros((len(shares), whole), np.uint64)
    integers = np.arange(-model.reach, model.reach + 1, dtype=np.int16).view(np.uint16)
    for line, row in zip(found, shares, strict=True):
        if row.any():
            level = np.repeat(np.arange(row.size), row)
            bias = np.arange(whole) - (np.cumsum(row) - row)[level]
            line[:] = (row[level].astype(np.uint64)
                       | integers[level].astype(np.uint64) << np.uint64(16)
                       | bias.astype(np.uint64) << np.uint64(48))
    return found.ravel()


register(ContextCoder())
