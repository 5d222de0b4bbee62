"""TCQ: shared values on a uniform grid, chosen along chains so that a trellis code is obeyed.

    quantizer = TrellisQuantizer(k=256).fit(kernel)
    indices = quantizer.assign(kernel)           # uint8, in the kernel's shape
    quantizer.codebook_.step                     # int8 kernels hold values / step exactly

Every weight is an integer times one step, as with UQ, but after each weight only the even or
only the odd integers may follow (`representation.trellis_codes`). The coder `context` spends no
bit on that choice. At equal bytes the error is 1 to 1.3 dB below UQ's, of the 1.53 dB that any
quantiser can gain at high rate.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError
from cxcompress.quantization.weight_distribution import SortedWeights, finite_float32
from cxcompress.quantization.weight_quantizer import WeightQuantizer
from cxcompress.representation.chains import ChainLayout
from cxcompress.representation.context import tables_to_expect
from cxcompress.representation.trellis_codes import STATES, Trellis
from cxcompress.representation.types import MAX_GRID_INTEGER, index_dtype

logger = logging.getLogger(__name__)

FEWEST_LEVELS = 9
"""Below, a class of integers (n mod 4) would have one member or none."""
MAX_REACH = 1023
"""Largest integer of a grid that is chosen for its SQNR."""
_FIRST_STATES = 8
"""States of the walks that only estimate rates, or the step."""
_WEIGHTS_AT_ONCE = 1 << 21
"""Bounds the memory of the walks: states / 8 bytes for each of them."""
_SAMPLE = (500, 400)
"""Steps and chains of the drawn weights that the step for an SQNR is found on."""
_PRIOR_COUNT = 16.0
"""Weights that the smooth part of estimated rates counts for."""
_CLASSES_PER_OCTAVE = 4
_SMALLEST_SCALE = 2.0**-6
_KERNEL_STEPS = 16.0
"""Steps that the kernel's mean magnitude counts for beside a chain's own."""


class TrellisQuantizer(WeightQuantizer):
    """Entropy-coded trellis-coded quantisation on an int8 grid ("TCQ").

    Args:
        k: Most shared values, 9 … 256: the grid is −m … m times the step, m = (k − 1) // 2 and at
            most 127, and the largest weight is m steps.
        states: Of the trellis code; more are smaller and slower, about in proportion.
        rate_weight: λ: squared steps that a bit is worth. 0.4 is where the gain over UQ at equal
            bytes is largest, for Laplace and normal weights at 2 to 4 bits.
        sqnr_db: Signal-to-noise ratio to reach instead; the step is found and k is not used.

    After `fit`, besides `codebook_`: `step_`, which `codebook_.step` repeats where int8 holds the
    integers.

    References: Marcellin and Fischer (1990); Fischer and Wang, "Entropy-constrained trellis-coded
    quantization" (1992); chains over output channels, as in ISO/IEC 15938-17.
    """

    name = "TCQ"

    def __init__(self, k: int = 256, states: int = 256, rate_weight: float = 0.4,
                 sqnr_db: float | None = None):
        super().__init__(k)
        self.states, self.rate_weight, self.sqnr_db = states, rate_weight, sqnr_db

    def check(self) -> None:
        """See `WeightQuantizer.check`."""
        super().check()
        if not FEWEST_LEVELS <= self.k <= 256:
            raise InputError(f"TCQ takes {FEWEST_LEVELS} to 256 shared values, received {self.k}; "
                             "take UQ or ECSQ for other numbers")
        if self.states not in STATES:
            raise InputError(f"TCQ: states must be one of {', '.join(map(str, STATES))}, "
                             f"received {self.states}")
        if not (math.isfinite(self.rate_weight) and self.rate_weight >= 0):
            raise InputError(f"TCQ: rate_weight must be 0 or more, received {self.rate_weight}")
        if self.sqnr_db is not None and not 3 <= self.sqnr_db <= 60:
            raise InputError(f"TCQ: an SQNR of {self.sqnr_db:g} dB cannot be aimed at; give 3 to "
                             "60")

    def assign(self, weights: ArrayLike) -> NDArray[np.unsignedinteger]:
        """See `WeightQuantizer.assign`; the weights are one kernel, in Keras' axis order."""
        self._require_fit()
        return self.assign_kernels([finite_float32(weights)])[0]

    def assign_kernels(self, kernels: Sequence[NDArray]) -> list[NDArray[np.unsignedinteger]]:
        """Indices of several kernels that share the codebook, each in its shape."""
        self._require_fit()
        integers = np.rint(self.codebook_.values.astype(np.float64) / self.step_).astype(np.int64)
        largest = int(integers[-1])
        if largest == 0:
            return [np.zeros(np.shape(kernel), np.uint8) for kernel in kernels]
        scaled = [np.asarray(kernel, np.float32) / np.float32(self.step_) for kernel in kernels]
        rates = estimated_rates([np.rint(kernel) for kernel in scaled], largest)
        first = walk(scaled, rates, largest, min(self.states, _FIRST_STATES), self.rate_weight)
        rates = coded_rates(first, largest)
        found = walk(scaled, rates, largest, self.states, self.rate_weight)
        return [(kernel + largest).astype(index_dtype(self.codebook_.k)) for kernel in found]

    def _learn(self, weights: SortedWeights, keep_zero: bool) -> None:
        if keep_zero:
            raise InputError("TCQ cannot keep pruned weights at 0; take UQ or ECSQ after pruning")
        largest = (self.k - 1) // 2
        if weights.largest == 0:
            self.step_ = 1.0
            self._store(np.zeros(1), False, 1.0)
            return
        self.step_ = float(np.float32(weights.largest / largest))
        if self.sqnr_db is not None:
            self.step_ = self._step_for(weights)
            largest = max(math.ceil(weights.largest / self.step_ - 0.5), FEWEST_LEVELS // 2)
            if largest > MAX_REACH:
                reached = self.sqnr_db - 20 * math.log10(largest / MAX_REACH)
                raise InputError(
                    f"an SQNR of {self.sqnr_db:g} dB needs {2 * largest + 1} shared values, more "
                    f"than {2 * MAX_REACH + 1}: aim at {reached:.1f} dB or less")
            if largest > MAX_GRID_INTEGER:
                logger.info("TCQ: %g dB takes %d shared values; int8 kernels hold 255, so int8 "
                            "plans round", self.sqnr_db, 2 * largest + 1)
        integers = np.arange(-largest, largest + 1, dtype=np.float32)
        self._store(integers * np.float32(self.step_), False,
                    self.step_ if largest <= MAX_GRID_INTEGER else None)

    def _step_for(self, weights: SortedWeights) -> float:
        """The step at which drawn weights reach the SQNR: noise is about step² / 3."""
        assert self.sqnr_db is not None
        drawn = np.random.default_rng(0).choice(weights.values, _SAMPLE).astype(np.float64)
        signal = float(np.mean(drawn**2))
        wanted = signal / 10 ** (self.sqnr_db / 10)
        step = math.sqrt(3 * wanted)
        for _ in range(4):
            largest = max(math.ceil(np.abs(drawn).max() / step), FEWEST_LEVELS // 2)
            scaled = [(drawn / step).astype(np.float32)]
            rates = estimated_rates([np.rint(scaled[0])], largest)
            found = walk(scaled, rates, largest, min(self.states, 64), self.rate_weight)[0]
            step *= math.sqrt(wanted / np.mean((found * step - drawn) ** 2))
        return float(np.float32(step))


@dataclass(frozen=True)
class Rates:
    """Bits that integers will cost.

    Args:
        table: float32 `(classes, 2 · largest + 1)`, given that the parity is known.
        classes: uint8 `(weights,)`: the class of each weight, in the order of a `ChainLayout`.
    """

    table: NDArray[np.float32]
    classes: NDArray[np.uint8]


def estimated_rates(integers: Sequence[NDArray], largest: int) -> Rates:
    """What integers like these will cost a coder that follows the spread of chains.

    Chains whose mean magnitudes (drawn a little towards their kernel's) lie in the same quarter of
    an octave make a class.

    Args:
        integers: Of the kernels, in their shapes.
        largest: The integers are cut to −largest … largest.
    """
    layout = ChainLayout([kernel.shape for kernel in integers])
    clipped = _clipped(integers, largest)
    means = [float(np.abs(kernel).mean(dtype=np.float64)) if kernel.size else 0.0
             for kernel in clipped]
    scale = np.empty(layout.chains)
    for block in layout.blocks:
        sums = np.abs(layout.matrix(clipped[block.kernel], block)).sum(axis=0, dtype=np.float64)
        scale[block.first_chain : block.first_chain + block.chains] = (
            sums + _KERNEL_STEPS * means[block.kernel]) / (block.steps + _KERNEL_STEPS)
    octaves = np.floor(_CLASSES_PER_OCTAVE * np.log2(np.maximum(scale, _SMALLEST_SCALE)))
    of_chain = np.unique(octaves, return_inverse=True)[1].astype(np.uint8)
    classes = np.empty(layout.size, np.uint8)
    for start, width in zip(layout.starts, layout.widths, strict=False):
        classes[start : start + width] = of_chain[:width]
    return Rates(_rate_table(layout.sequence(clipped), classes, largest), classes)


def coded_rates(integers: Sequence[NDArray], largest: int) -> Rates:
    """What integers like these cost the coder `context`: its tables are the classes.

    Args:
        integers, largest: As for `estimated_rates`, which serves where that coder codes nothing.
    """
    clipped = _clipped(integers, largest)
    classes = tables_to_expect(clipped)
    if classes is None:
        return estimated_rates(integers, largest)
    layout = ChainLayout([kernel.shape for kernel in integers])
    return Rates(_rate_table(layout.sequence(clipped), classes, largest), classes)


def _clipped(integers: Sequence[NDArray], largest: int) -> list[NDArray[np.int16]]:
    return [np.clip(kernel, -largest, largest).astype(np.int16) for kernel in integers]


def _rate_table(
    sequence: NDArray[np.int16], classes: NDArray[np.uint8], largest: int
) -> NDArray[np.float32]:
    """Bits by class: smoothed histograms, with a Laplace density of their mean as prior."""
    grid = np.arange(-largest, largest + 1)
    counts: NDArray = np.zeros((int(classes.max(initial=0)) + 1) * grid.size)
    for first in range(0, sequence.size, _WEIGHTS_AT_ONCE):
        part = slice(first, first + _WEIGHTS_AT_ONCE)
        cells = classes[part] * np.int64(grid.size) + sequence[part] + largest
        counts += np.bincount(cells, minlength=counts.size)
    counts = counts.reshape(-1, grid.size)
    table = np.empty(counts.shape, np.float32)
    for row, line in zip(table, counts, strict=True):
        mean = float((line * np.abs(grid)).sum() / max(line.sum(), 1))
        prior = (1 + 1 / max(mean, 0.05)) ** -np.abs(grid).astype(np.float64)
        smooth = np.convolve(line, [0.25, 0.5, 0.25], "same")
        smooth += _PRIOR_COUNT * prior / prior.sum() + 1e-9
        for parity in (0, 1):
            some = (grid & 1) == parity
            row[some] = -np.log2(smooth[some] / smooth[some].sum())
    return table


def walk(
    kernels: Sequence[NDArray], rates: Rates, largest: int, states: int, rate_weight: float,
) -> list[NDArray[np.int16]]:
    """The walks through the trellis of least squared error + `rate_weight` · bits (Viterbi).

    Args:
        kernels: Weights in steps, in Keras' axis order.
        rates: As `estimated_rates` gives them.
        largest: Integers are −largest … largest; at least 4.
        states: Of the trellis.
        rate_weight: Squared steps a bit.

    Returns:
        The integers of each kernel, in its shape.
    """
    layout = ChainLayout([kernel.shape for kernel in kernels])
    trellis = Trellis(states)
    found = [np.empty(kernel.shape, np.int16) for kernel in kernels]
    group: list[tuple[NDArray, NDArray, NDArray]] = []
    waiting = 0
    for block in layout.blocks:
        source = layout.matrix(kernels[block.kernel], block)
        target = layout.matrix(found[block.kernel], block)
        columns = max(1, _WEIGHTS_AT_ONCE // block.steps)
        for first in range(0, block.chains, columns):
            part = slice(first, first + columns)
            if waiting and waiting + source[:, part].size > _WEIGHTS_AT_ONCE:
                _walk_together(group, rates.table, trellis, largest, rate_weight)
                group, waiting = [], 0
            chains = np.arange(first, min(first + columns, block.chains)) + block.first_chain
            group.append((source[:, part], target[:, part],
                          rates.classes[layout.starts[: block.steps, None] + chains]))
            waiting += source[:, part].size
    if group:
        _walk_together(group, rates.table, trellis, largest, rate_weight)
    return found


def _walk_together(
    group: Sequence[tuple[NDArray, NDArray, NDArray]], table: NDArray[np.float32],
    trellis: Trellis, largest: int, rate_weight: float,
) -> None:
    """Walk all chains of some matrices, longest first; the integers go into their targets."""
    widths = np.array([source.shape[1] for source, _, _ in group])
    ends = np.cumsum(widths)
    lengths = np.array([len(source) for source, _, _ in group])
    costs = table * np.float32(rate_weight)
    levels = 2 * largest + 1
    states, half = trellis.states, trellis.states // 2
    # Of the two ways into state 2 i + u: from i and from i + half, taking in the bit u.
    before = np.arange(states)
    classes = [trellis.union[before] + 2 * (bit ^ trellis.feedback[before]) for bit in (0, 1)]
    total = int(ends[-1])
    sums = np.full((states, total), np.float32(1e9))
    sums[0] = 0
    steps = int(lengths[0])
    chosen = np.zeros((steps, -(-states // 8), total), np.uint8)
    candidates = np.zeros((steps, 4, total), np.int16)
    fresh = np.empty_like(sums)
    late = np.empty((states, total), bool)
    for step in range(steps):
        running = int(np.count_nonzero(lengths > step))
        width = int(ends[running - 1])
        row = np.concatenate([source[step] for source, _, _ in group[:running]])
        own = np.concatenate([tables[step] for _, _, tables in group[:running]])
        first_cost = own * np.int64(levels) + largest
        cost = _nearest(row, costs, first_cost, largest, candidates[step, :, :width])
        old, new, which = sums[:, :width], fresh[:, :width], late[:, :width]
        for bit in (0, 1):
            early_sum = old[:half] + cost[classes[bit][:half]]
            late_sum = old[half:] + cost[classes[bit][half:]]
            np.less(late_sum, early_sum, out=which[bit::2])
            np.minimum(early_sum, late_sum, out=new[bit::2])
        if step % 16 == 15:
            new -= new.min(axis=0)
        chosen[step, :, :width] = np.packbits(which, axis=0)
        # Chains that end here keep their last sums in `sums`; the others go on.
        sums[:, :width] = new
    state = np.argmin(sums, axis=0)
    chains = np.arange(total)
    class_of = np.stack(classes)
    for step in range(steps - 1, -1, -1):
        running = int(np.count_nonzero(lengths > step))
        width = int(ends[running - 1])
        now = state[:width]
        late_way = (chosen[step, now >> 3, chains[:width]] >> (7 - (now & 7))) & 1
        previous = (now >> 1) + late_way.astype(np.int64) * half
        row = candidates[step, class_of[now & 1, previous], chains[:width]]
        state[:width] = previous
        for (_, target, _), part in zip(
                group[:running], np.split(row, ends[: running - 1]), strict=True):
            target[step] = part


def _nearest(
    row: NDArray, costs: NDArray, first_cost: NDArray, largest: int, best: NDArray
) -> NDArray[np.float32]:
    """The best integer of each class n mod 4 for each weight, into `best`; its cost `(4, n)`."""
    low = np.floor((row - np.arange(4, dtype=np.float32)[:, None]) * np.float32(0.25))
    low = (4 * low).astype(np.int64) + np.arange(4)[:, None]
    low = np.where(low < -largest, low + 4 * (-(-(-largest - low) // 4)), low)
    high = low + 4
    high = np.where(high > largest, high - 4 * (-(-(high - largest) // 4)), high)
    low = np.minimum(low, high)
    low_cost = (row - low) ** 2 + costs.ravel()[first_cost + low]
    high_cost = (row - high) ** 2 + costs.ravel()[first_cost + high]
    higher = high_cost < low_cost
    best[...] = np.where(higher, high, low)
    return np.where(higher, high_cost, low_cost).astype(np.float32)
