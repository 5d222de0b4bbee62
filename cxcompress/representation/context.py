"""The coder `context`: the smallest. rANS whose tables follow the magnitudes that came before.

All kernels are walked through together, in chains (`chains.ChainLayout`). What is known of a
weight before it is decoded is how large its chain has been so far, how large the weights of the
same two channels were at earlier places of the window, and how large its kernel is in the mean.
A weighted mean of the three (`_PooledClasses`), or a product of how much larger than the kernel's
mean its output channel, its input channel and its place of the window are (`_SeparableClasses`),
gives the weight's *scale class*, four to an octave; the classes' frequency tables serve the whole
file. Kernels of many scales need no tables of their own; kernels whose weights, divided by their
scale, are distributed alike form up to four groups with tables of their own, where that is
smaller.

Kernels whose integers obey a trellis code (`trellis_codes`, the quantizer "TCQ") are recognised,
and their parity, known from the state, costs nothing.

Lanes are 32-bit states that take 16-bit words. `storage/FORMAT.md` specifies the stream.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
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
MAX_SHORT_CHAINS = 1 << 18
"""A chain takes some 80 bytes to decode; more of them than this must hold 8 weights each."""
CLASSES = 64
PRECISION = 14

_CODE_BYTES_PER_LANE = 1500
_WEIGHTS_A_LANE = 1 << 15
_LOW = np.uint64(1 << 16)
_SCALE = 256
"""Mean magnitudes of kernels are stored in 256ths."""
_FIRST_CLASS = (1023 - 6) << 2
"""Class 0 begins at a scale of 2^-6."""
SEPARABLE = 0xFFFF
"""In place of the most steps of a mixture: scales are products, `_SeparableClasses`."""
MAX_GROUPS = 4
_MIXTURES = ((0, 0, 1), (200, 0, 16), (200, 20, 16), (SEPARABLE, 15, 16), (SEPARABLE, 40, 32))
"""Tried by the writer: most steps that a chain counts for, weight of a place, of the kernel; or
what the expected magnitude counts for beside those of earlier places, and of the present one."""
_CHAIN_COUNT, _PLANE_COUNT, _ROW_COUNT = 16, 64, 200
"""Weights that a kernel's mean counts for beside those of a chain, a place, an input channel."""
_HEADER = struct.Struct("<HHHH")
_WIDE = ("mean", "centre", "states", "offset")
_KERNEL = np.dtype([("mean", "<u2"), ("centre", "<u2"), ("states", "<u2"), ("offset", "<u2"),
                    ("group", "u1")])


@dataclass(frozen=True)
class _Model:
    """What a reader must know before the first weight.

    Args:
        mixture: One of `_MIXTURES`, or another.
        kernels: `_KERNEL` records: mean magnitude in 256ths, the index that counts as 0, states
            of the trellis code or 0, what index − centre must be increased by to obey it, and the
            group of kernels.
        reach: Largest |index − centre|.
        table_of_class: uint8 `(groups · CLASSES,)`, one group after the other.
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
        if _too_many_chains(ChainLayout([np.shape(kernels[path][0]) for path in mine])):
            mine = []
        rest = {path: pair for path, pair in kernels.items() if path not in mine}
        raw = get("raw").encode_kernels(rest)
        encoded, buffers = dict(raw.kernels), dict(raw.buffers) if rest else {}
        if mine:
            shapes = [np.shape(kernels[path][0]) for path in mine]
            layout = ChainLayout(shapes)
            centres = _centres([flat[path] for path in mine], [kernels[path][1] for path in mine])
            integers = [flat[path].astype(np.int16).reshape(shape) - np.int16(centre)
                        for path, shape, centre in zip(mine, shapes, centres, strict=True)]
            sequence = layout.sequence(integers)
            trial = _best_trial(layout, sequence, _facts(layout, integers, centres))
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
        layout = ChainLayout([kernel.shape for kernel in kernels.values()])
        if _too_many_chains(layout):
            raise ValueError(f"{layout.chains} chains of {size} indices: more than "
                             f"{MAX_SHORT_CHAINS} must hold 8 indices each")
        model = _read_model(stored, len(kernels))
        integers = layout.kernels(_decode(layout, model, words, states))
        found = {}
        for (path, kernel), part, centre in zip(
                kernels.items(), integers, model.kernels["centre"], strict=True):
            low, high = int(part.min()) + int(centre), int(part.max()) + int(centre)
            if low < 0 or high >= kernel.k:
                raise ValueError(f"{path}: an index outside its codebook of {kernel.k} values")
            part += centre.astype(np.int16)
            found[path] = part.astype(index_dtype(kernel.k))
        return found


def tables_to_expect(integers: Sequence[NDArray[np.int16]]) -> NDArray[np.uint8] | None:
    """The frequency table that the coder takes for each weight of these kernels.

    Args:
        integers: Of the kernels, in their shapes: index minus the index that counts as 0.

    Returns:
        Numbers of tables `(weights,)`, in the order of `ChainLayout`; None where the coder leaves
        such kernels alone.
    """
    some = [kernel for kernel in integers if kernel.size]
    layout = ChainLayout([kernel.shape for kernel in some])
    if not some or _too_many_chains(layout) or max(
            2 * int(np.abs(kernel).max()) + 1 for kernel in some) > MAX_LEVELS:
        return None
    facts = _facts(layout, some, [0] * len(some))
    return _best_trial(layout, layout.sequence(some), facts).columns // np.uint8(3)


class _Classes(ABC):
    """The tables of a step's weights, from the magnitudes of the steps before.

    All arithmetic is on float64 numbers, in one order, each operation rounded once as IEEE 754
    says: the same everywhere. Sums are of integers, and exact.
    """

    @abstractmethod
    def at(self, step: int) -> NDArray[np.intp]:
        """Classes of the weights of a step, one a running chain, plus `CLASSES` a group."""

    @abstractmethod
    def update(self, step: int, magnitudes: NDArray) -> None:
        """Take in the magnitudes of the step that `at` was asked for last."""


def _too_many_chains(layout: ChainLayout) -> bool:
    return layout.chains > max(MAX_SHORT_CHAINS, layout.size // 8)


def _classes(layout: ChainLayout, kernels: NDArray, mixture: Sequence[int]) -> _Classes:
    kind = _SeparableClasses if mixture[0] == SEPARABLE else _PooledClasses
    return kind(layout, kernels, mixture)


class _Places:
    """Sums of magnitudes of the same two channels at earlier places of the window."""

    def __init__(self, layout: ChainLayout):
        self.layout = layout
        self.period = layout.per_chain(
            [block.period or block.steps for block in layout.blocks], np.int64)
        # Chains that have an earlier place of the window at this step, and where it is.
        self.here = self.before = np.empty(0, np.int64)
        # Sums of magnitudes over all places up to this one, for each weight.
        self.sums = np.empty(layout.size, np.float32)

    def at(self, step: int, width: int) -> tuple[NDArray, NDArray, NDArray]:
        """Chains with an earlier place, the sums there, and the number of places."""
        self.here = (self.period[:width] <= step).nonzero()[0]
        period = self.period.take(self.here)
        self.before = self.layout.starts.take(step - period) + self.here
        return self.here, self.sums.take(self.before), step // period

    def update(self, step: int, magnitudes: NDArray) -> None:
        """Take in the magnitudes of a step."""
        start = int(self.layout.starts[step])
        now = self.sums[start : start + magnitudes.size]
        now[...] = magnitudes
        if self.here.size:
            now[self.here] += self.sums.take(self.before)


class _PooledClasses(_Classes):
    """Of the weighted mean of a chain's, a place's and the kernel's magnitudes."""

    def __init__(self, layout: ChainLayout, kernels: NDArray, mixture: Sequence[int]):
        self.most, self.place_weight, self.kernel_weight = map(float, mixture)
        self.layout = layout
        mean = kernels["mean"].astype(np.float64) / _SCALE
        self.prior = layout.per_chain(
            [mean[block.kernel] for block in layout.blocks]) * self.kernel_weight
        self.sums = np.zeros(layout.chains)
        self.fixed = None if self.most else _class_of(self.prior / self.kernel_weight)
        self.places = _Places(layout) if self.place_weight else None

    def at(self, step: int) -> NDArray[np.intp]:
        """See `_Classes.at`."""
        width = int(self.layout.widths[step])
        if self.fixed is not None:
            return self.fixed[:width]
        counted = min(float(step), self.most)
        scale = self.sums[:width] / max(step, 1)
        scale *= counted
        scale += self.prior[:width]
        weight = np.full(width, counted + self.kernel_weight)
        if self.places is not None:
            here, sums, number = self.places.at(step, width)
            if here.size:
                scale[here] += self.place_weight * sums
                weight[here] += self.place_weight * number
        scale /= weight
        return _class_of(scale)

    def update(self, step: int, magnitudes: NDArray) -> None:
        """See `_Classes.update`."""
        if self.fixed is not None:
            return
        self.sums[: magnitudes.size] += magnitudes
        if self.places is not None:
            self.places.update(step, magnitudes)


class _SeparableClasses(_Classes):
    """Of a product: output channel × place of the window × input channel.

    A chain's mean so far, times how much larger than the kernel's mean the present place is (so
    far, in all chains), is what is expected of the chain at this place; its magnitudes there are
    averaged with that. Times how much larger the input channel was at earlier places is what is
    expected of the two channels together; their magnitudes there are averaged with that. The
    scale is the product of both means over the chain's, as in an analysis of variance of
    logarithms with two interactions.
    """

    def __init__(self, layout: ChainLayout, kernels: NDArray, mixture: Sequence[int]):
        _, self.earlier_count, self.present_count = map(float, mixture)
        self.layout = layout
        blocks = layout.blocks
        number = [block.kernel for block in blocks]
        self.block_mean = kernels["mean"][number].astype(np.float64) / _SCALE
        self.mean = layout.per_chain(self.block_mean.tolist())
        self.first_class = layout.per_chain(
            [CLASSES * int(kernels["group"][block.kernel]) for block in blocks], np.intp)
        self.block_of_chain = layout.per_chain(range(len(blocks)), np.intp)
        self.steps = np.array([block.steps for block in blocks])
        self.chains = np.array([block.chains for block in blocks])
        self.first_chain = np.array([block.first_chain for block in blocks])
        self.first_row = np.array([block.first_row for block in blocks])
        self.period = np.array([block.period or block.first_row + block.steps
                                for block in blocks])
        # Rows that have no earlier place of the window need no sums of it: as many as rows suffice.
        self.channels = np.minimum(self.period, self.steps)
        self.first_channel = np.cumsum(self.channels) - self.channels
        self.chain_sums = np.zeros(layout.chains)
        self.present_sums = np.zeros(layout.chains)
        self.plane_sums = np.zeros(len(blocks))
        self.channel_sums = np.zeros(int(self.channels.sum()))
        self.places = _Places(layout)
        self.channel = np.empty(0, np.int64)

    def at(self, step: int) -> NDArray[np.intp]:
        """See `_Classes.at`."""
        width = int(self.layout.widths[step])
        running = int(np.count_nonzero(self.steps > step))
        of_chain = self.block_of_chain[:width]
        period, mean = self.period[:running], self.block_mean[:running]
        self.channel = self.first_channel[:running] + step % self.channels[:running]
        within = (self.first_row[:running] + step) % period
        starting = within == 0
        if starting.any():
            self.plane_sums[:running][starting] = 0
            self.present_sums[:width][starting.take(of_chain)] = 0
        rows = np.minimum(within, step)
        chains = self.chains[:running]
        plane = (self.plane_sums[:running] + _PLANE_COUNT * mean) / (
            rows * chains + _PLANE_COUNT) / mean
        channel = (self.channel_sums.take(self.channel) + _ROW_COUNT * mean) / (
            step // period * chains + _ROW_COUNT) / mean
        chain = (self.chain_sums[:width] + _CHAIN_COUNT * self.mean[:width]) / (
            step + _CHAIN_COUNT)
        scale = (self.present_sums[:width] + self.present_count * (
            chain * plane.take(of_chain))) / (rows.take(of_chain) + self.present_count)
        together = self.earlier_count * (chain * channel.take(of_chain))
        count = np.full(width, self.earlier_count)
        here, sums, number = self.places.at(step, width)
        together[here] += sums
        count[here] += number
        scale *= together / count
        scale /= chain
        return _class_of(scale) + self.first_class[:width]

    def update(self, step: int, magnitudes: NDArray) -> None:
        """See `_Classes.update`."""
        width, running = magnitudes.size, self.channel.size
        self.chain_sums[:width] += magnitudes
        self.present_sums[:width] += magnitudes
        sums = np.add.reduceat(magnitudes, self.first_chain[:running], dtype=np.int64)
        self.plane_sums[:running] += sums
        self.channel_sums[self.channel] += sums
        self.places.update(step, magnitudes)


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


def _best_trial(layout: ChainLayout, sequence: NDArray, facts: NDArray) -> _Trial:
    return min((trial for mixture in _MIXTURES
                for trial in _fitted(layout, sequence, facts, mixture)),
               key=lambda trial: trial.bits)


def _fitted(
    layout: ChainLayout, sequence: NDArray, facts: NDArray, mixture: tuple[int, int, int]
) -> Iterator[_Trial]:
    """Classes of all weights and the tables that suit them; with groups of kernels, too."""
    classes, parities = _classes(layout, facts, mixture), _Parities(layout, facts)
    contexts = np.empty(sequence.size, np.uint8)
    allowed = np.empty(sequence.size, np.uint8)
    for step, start in enumerate(layout.starts[:-1]):
        row = sequence[start : layout.starts[step + 1]]
        here = slice(start, start + row.size)
        contexts[here] = classes.at(step)
        allowed[here] = parities.at(row.size)
        classes.update(step, np.abs(row))
        parities.update(row)
    yield from _tabulated(sequence, contexts, allowed, facts, mixture)
    if mixture[0] == SEPARABLE and len(facts) > 1:
        grouped = facts.copy()
        grouped["group"] = _groups(layout, sequence, contexts, len(facts))
        for block in layout.blocks:
            contexts[layout.positions(block)] += np.uint8(CLASSES * grouped["group"][block.kernel])
        yield from _tabulated(sequence, contexts, allowed, grouped, mixture)


def _groups(
    layout: ChainLayout, sequence: NDArray, contexts: NDArray, kernels: int
) -> NDArray[np.uint8]:
    """A group of each kernel, by how heavy the tails of its weights over their scales are."""
    sums = np.zeros((kernels, 3))
    for block in layout.blocks:
        where = layout.positions(block)
        relative = np.abs(sequence[where]) * np.exp2(-0.25 * contexts[where])
        sums[block.kernel] += relative.size, relative.sum(), (relative**2).sum()
    size, first, second = sums.T
    tails = size * second / np.maximum(first, 1e-9) ** 2
    order = np.argsort(tails)
    below = np.cumsum(size[order]) - size[order] / 2
    group = np.empty(kernels, np.uint8)
    group[order] = below / size.sum() * MAX_GROUPS
    return group


def _tabulated(
    sequence: NDArray, contexts: NDArray, allowed: NDArray, facts: NDArray,
    mixture: tuple[int, int, int],
) -> Iterator[_Trial]:
    """Tables that suit weights of these contexts, shared where that is smaller, unless too many."""
    reach = int(np.abs(sequence).max())
    levels = 2 * reach + 1
    cells = CLASSES * (int(facts["group"].max()) + 1)
    counts: NDArray = np.zeros(cells * levels, np.int64)
    for first in range(0, sequence.size, 1 << 22):
        part = slice(first, first + (1 << 22))
        counts += np.bincount(contexts[part] * np.int64(levels) + sequence[part] + reach,
                              minlength=counts.size)
    counts = counts.reshape(cells, levels)
    used = np.flatnonzero(counts.sum(axis=1))
    tables, numbers = share_tables(list(counts[used]), (PRECISION,))
    if len(tables) > CLASSES:
        return
    # Classes that do not occur take the table of the nearest one that does.
    nearest = np.abs(np.arange(cells)[:, None] - used).argmin(axis=1)
    table_of_class = np.asarray(numbers, np.uint8)[nearest]
    model = _Model(mixture, facts, reach, table_of_class, tables)
    columns = 3 * table_of_class[contexts] + allowed
    costs = PRECISION - np.log2(np.maximum(_shares(model), 1)).astype(np.float32)
    cost = costs[columns, sequence + np.int64(reach)]
    bits = float(cost.sum(dtype=np.float64)) + 8 * _write_model(model).size
    yield _Trial(model, bits, columns, cost)


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
    separable = model.mixture[0] == SEPARABLE
    head = zlib.compress(
        _HEADER.pack(*model.mixture, model.reach) + bytes([len(model.tables)])
        + (bytes([model.table_of_class.size // CLASSES]) if separable else b"")
        + model.table_of_class.tobytes() + b"".join(
            model.kernels[name].tobytes() for name in _WIDE)
        + (model.kernels["group"].tobytes() if separable else b""), 9)
    return np.concatenate([np.frombuffer(struct.pack("<I", len(head)) + head, np.uint8),
                           write_tables(model.tables)])


def _read_model(stored: NDArray[np.uint8], kernels: int) -> _Model:
    body = stored.tobytes()
    if len(body) < 4:
        raise ValueError("the context model is cut off")
    (length,) = struct.unpack_from("<I", body)
    most = _HEADER.size + 2 + MAX_GROUPS * CLASSES + kernels * _KERNEL.itemsize
    inflate = zlib.decompressobj()
    try:
        head = inflate.decompress(body[4 : 4 + length], most + 1)
    except zlib.error as error:
        raise ValueError(f"the context model: {error}") from None
    if len(head) < _HEADER.size + 2 or not inflate.eof or inflate.unused_data:
        raise ValueError("the context model is cut off or too long")
    *mixture, reach = _HEADER.unpack_from(head)
    separable = mixture[0] == SEPARABLE
    count, start = head[_HEADER.size], _HEADER.size + 1 + separable
    groups = head[start - 1] if separable else 1
    expected = start + groups * CLASSES + kernels * (_KERNEL.itemsize - (not separable))
    if not 1 <= groups <= MAX_GROUPS or len(head) != expected:
        raise ValueError(f"the context model takes {expected} bytes. Received: {len(head)}")
    table_of_class = np.frombuffer(head, np.uint8, groups * CLASSES, start)
    start += table_of_class.size
    facts = np.zeros(kernels, _KERNEL)
    for name in _WIDE:
        facts[name] = np.frombuffer(head, "<u2", kernels, start)
        start += 2 * kernels
    if separable:
        facts["group"] = np.frombuffer(head, np.uint8, kernels, start)
    if not mixture[2] or reach >= MAX_LEVELS or not facts["mean"].all() or not (
            np.isin(facts["states"], (0, *STATES)).all()) or not (
            table_of_class.max() < count <= CLASSES and facts["group"].max() < groups) or (
            separable and not mixture[1]):
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
    classes, parities = _classes(layout, model.kernels, model.mixture), None
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
