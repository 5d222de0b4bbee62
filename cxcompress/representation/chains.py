"""The order in which trellis and context coding walk through kernels: chains, all at once.

A kernel is taken as a matrix: a column (a *chain*) an output channel, a row a weight of its
window, in Keras' order (row, column, input channel). All chains of all kernels advance together,
one weight a step, so that a step is a few NumPy operations over thousands of chains.

    layout = ChainLayout([(3, 3, 16, 32), (288, 10)])
    sequence = layout.sequence([kernel, head])      # all weights, step by step
    layout.widths[0], layout.starts[0]              # weights of the first step
    kernel, head = layout.kernels(sequence)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike, NDArray

MAX_STEPS = 4608
"""Longer chains are cut, so that few long ones do not make everything wait: 512 · 3 · 3."""
_POSITIONS_AT_ONCE = 1 << 18
"""Bounds the memory of reading: 8 bytes for each of them."""


@dataclass(frozen=True)
class ChainBlock:
    """Rows of a kernel's matrix that are walked through as chains of their own.

    Args:
        kernel: Number of the kernel.
        first_row: Its first row in the kernel's matrix.
        steps: Rows.
        chains: Columns.
        period: Rows from one place of the window to the next at the same input channel; 0: none.
        first_chain: Its first column among those of all blocks.
    """

    kernel: int
    first_row: int
    steps: int
    chains: int
    period: int
    first_chain: int


def as_matrix(shape: Sequence[int]) -> tuple[int, int, int]:
    """Rows and columns of a kernel's matrix, and its period.

    Axes of length 1 at the end are dropped first: depthwise kernels have a chain a channel.
    """
    sides = list(shape)
    while len(sides) > 1 and sides[-1] == 1:
        sides.pop()
    if len(sides) < 2:
        return 1, math.prod(sides), 0
    return math.prod(sides[:-1]), sides[-1], sides[-2] if len(sides) > 2 else 0


class ChainLayout:
    """Where each weight of some kernels comes in the common sequence.

    Args:
        shapes: Of the kernels, in Keras' axis order.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]):
        self.shapes = [tuple(shape) for shape in shapes]
        parts = []
        for number, shape in enumerate(self.shapes):
            rows, columns, period = as_matrix(shape)
            if rows * columns == 0:
                continue
            length = math.ceil(rows / math.ceil(rows / MAX_STEPS))
            parts += [(number, first, min(length, rows - first), columns, period)
                      for first in range(0, rows, length)]
        # The longest first: the chains that are still running are then always the first ones.
        parts.sort(key=lambda part: -part[2])
        firsts = np.cumsum([0, *(part[3] for part in parts)])
        self.blocks = [ChainBlock(*part, int(first))
                       for part, first in zip(parts, firsts, strict=False)]
        self.chains = int(firsts[-1])

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Chains that are still running at each step."""
        steps = np.array([block.steps for block in self.blocks], np.int64)
        ends = np.bincount(steps, [block.chains for block in self.blocks]).astype(np.int64) \
            if self.blocks else np.zeros(1, np.int64)
        return (self.chains - np.cumsum(ends))[:-1]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Position of each step's first weight in the sequence, and the end."""
        return np.concatenate([[0], np.cumsum(self.widths)])

    @property
    def size(self) -> int:
        """Weights in all."""
        return int(self.starts[-1])

    def positions(self, block: ChainBlock, rows: slice = slice(None)) -> NDArray[np.int64]:
        """Positions of a block's weights in the sequence, `(steps, chains)`, or of some rows."""
        return self.starts[: block.steps][rows, None] + np.arange(
            block.first_chain, block.first_chain + block.chains)

    def sequence(self, kernels: Sequence[NDArray], dtype: DTypeLike | None = None) -> NDArray:
        """All weights in the order of coding."""
        found = np.empty(self.size, dtype or np.result_type(*kernels))
        for block in self.blocks:
            found[self.positions(block)] = self.matrix(kernels[block.kernel], block)
        return found

    def kernels(self, sequence: NDArray) -> list[NDArray]:
        """The inverse of `sequence`, each kernel in its shape."""
        found = [np.empty(shape, sequence.dtype) for shape in self.shapes]
        for block in self.blocks:
            matrix = self.matrix(found[block.kernel], block)
            at_once = max(1, _POSITIONS_AT_ONCE // block.chains)
            for first in range(0, block.steps, at_once):
                rows = slice(first, first + at_once)
                matrix[rows] = sequence[self.positions(block, rows)]
        return found

    def per_chain(self, values: Sequence, dtype: DTypeLike | None = None) -> NDArray:
        """Values, one a block, repeated for each of its chains."""
        return np.repeat(np.asarray(values, dtype), [block.chains for block in self.blocks])

    def matrix(self, kernel: NDArray, block: ChainBlock) -> NDArray:
        """The rows of a block of a kernel, a view `(steps, chains)`."""
        rows, columns, _ = as_matrix(kernel.shape)
        matrix = kernel.reshape(rows, columns)
        return matrix[block.first_row : block.first_row + block.steps]
