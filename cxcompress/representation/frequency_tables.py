"""Frequency tables of the rANS coder: how often it expects each index, in a byte a level.

A table gives every level in use a share of 2^14 or 2^16, at least 1. It is stored as one
*logarithmic code* a level: 0 = not in use, q > 0 = a weight of about 2^((q − 1) / 8), 9% from
one code to the next, which costs under 0.001 bit a weight. The shares follow from the codes by
the integer arithmetic of `frequencies`, always sum to the whole, and are part of the file
format: `storage/FORMAT.md` repeats them.

    table = fit_table(histogram(indices, k))
    table.frequencies.sum() == 1 << table.precision
    read_tables(write_tables([table]), [k])    # the same tables
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

PRECISIONS = (14, 16)
"""Bits of the whole that a table shares out. 12 bits would cost 0.04 bit a weight."""

MAX_TABLE_LEVELS = 4096
"""Largest alphabet with a table; index maps with more shared values are packed raw."""

_MAX_CODE = 160
_STEPS_PER_OCTAVE = 8
_MANTISSAS = np.array([4096, 4467, 4871, 5312, 5793, 6317, 6889, 7512], np.int64)
"""round(4096 · 2^(j / 8)), j = 0 … 7."""

_SMALLEST_WEIGHT = 0.25
"""Weight of code 1 relative to one share, when codes are chosen."""


@dataclass(frozen=True)
class FrequencyTable:
    """Shares of the levels 0 … k − 1.

    Args:
        codes: uint8 `(k,)`, logarithmic codes; 0 = the level is not in use.
        precision: 14 or 16; the shares sum to 2^precision.

    Raises:
        ValueError: If no level is in use, or a code or the precision is not one of these.
    """

    codes: NDArray[np.uint8]
    precision: int

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"table precision is 14 or 16. Received: {self.precision}")
        if not 1 <= self.codes.size <= MAX_TABLE_LEVELS:
            raise ValueError(f"a table has 1 to {MAX_TABLE_LEVELS} levels. "
                             f"Received: {self.codes.size}")
        if not 1 <= int(self.codes.max()) <= _MAX_CODE:
            raise ValueError(f"table codes are 0 … {_MAX_CODE} and not all 0. "
                             f"Received: at most {int(self.codes.max())}")

    @cached_property
    def frequencies(self) -> NDArray[np.int64]:
        """Share of each level, int64 `(k,)`; their sum is exactly 2^precision."""
        return frequencies(self.codes, self.precision)

    @property
    def constant(self) -> bool:
        """Whether only one level is in use, so that its indices take no bits at all."""
        return int(np.count_nonzero(self.codes)) == 1

    def bits(self, counts: NDArray) -> float:
        """Bits that this table's code takes for all indices of a histogram."""
        used = counts > 0
        shares = self.frequencies[used].astype(np.float64)
        return float((counts[used] * (self.precision - np.log2(shares))).sum())


def frequencies(codes: NDArray[np.uint8], precision: int) -> NDArray[np.int64]:
    """Shares of 2^precision from logarithmic codes, in integers alone.

    Every level in use gets 1, the rest is divided by weight and rounded down, and what the
    rounding leaves goes to the (first) largest share.
    """
    used = codes > 0
    exponents = np.where(used, codes, 1).astype(np.int64) - 1
    weights = _MANTISSAS[exponents % _STEPS_PER_OCTAVE] << (exponents // _STEPS_PER_OCTAVE)
    weights *= used
    total = 1 << precision
    shares = used + weights * (total - np.count_nonzero(used)) // weights.sum()
    shares[shares.argmax()] += total - shares.sum()
    return shares


def fit_table(counts: NDArray, precisions: Sequence[int] = PRECISIONS) -> FrequencyTable:
    """The table of a histogram: the precision whose code for these counts is shorter.

    14 bits wins a tie to within 0.2%, since its decoding table stays in the fastest cache.

    Raises:
        ValueError: If the histogram is empty or has more than 4,096 levels.
    """
    tables = [_fit(counts, precision) for precision in precisions]
    if tables[0].constant or tables[0].bits(counts) <= 1.002 * tables[-1].bits(counts):
        return tables[0]
    return tables[-1]


def _fit(counts: NDArray, precision: int) -> FrequencyTable:
    share = counts * ((1 << precision) / max(int(counts.sum()), 1)) - 1
    exponents = np.log2(np.maximum(share, _SMALLEST_WEIGHT) / _SMALLEST_WEIGHT)
    codes = np.rint(_STEPS_PER_OCTAVE * exponents).astype(np.uint8) + 1
    return FrequencyTable(np.where(counts > 0, codes, 0).astype(np.uint8), precision)


def write_tables(tables: Sequence[FrequencyTable]) -> NDArray[np.uint8]:
    """One zlib stream: of each table its precision and the differences of its codes (mod 256)."""
    body = b"".join(
        bytes([table.precision]) + np.diff(table.codes, prepend=np.uint8(0)).tobytes()
        for table in tables
    )
    return np.frombuffer(zlib.compress(body, 9), np.uint8)


def read_tables(stored: NDArray[np.uint8], levels: Sequence[int]) -> list[FrequencyTable]:
    """Inverse of `write_tables`; `levels` is the k of each table.

    Raises:
        ValueError: If the stream is damaged or does not hold exactly these tables.
    """
    expected = sum(1 + k for k in levels)
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(stored.tobytes(), expected + 1)
    except zlib.error as error:
        raise ValueError(f"frequency tables: {error}") from None
    if len(body) != expected or not inflate.eof or inflate.unused_data:
        raise ValueError(f"frequency tables take {expected} bytes. Received: {len(body)}")
    tables, start = [], 0
    for k in levels:
        differences = np.frombuffer(body, np.uint8, count=k, offset=start + 1)
        tables.append(FrequencyTable(np.add.accumulate(differences, dtype=np.uint8), body[start]))
        start += 1 + k
    return tables


def share_tables(
    histograms: Sequence[NDArray], precisions: Sequence[int] = PRECISIONS
) -> tuple[list[FrequencyTable], list[int]]:
    """Tables for kernels, shared where that is cheaper.

    Kernels with equally many levels are ordered by entropy, and neighbours are merged as long
    as one common table takes fewer bits than two (the table's own bytes included).

    Args:
        histograms: Of each kernel, int64 `(k,)`, not empty.
        precisions: To choose from.

    Returns:
        The tables, and for each kernel the number of its table.
    """
    members: list[list[int]] = []
    for k in sorted({counts.size for counts in histograms}):
        members += _merge([i for i, counts in enumerate(histograms) if counts.size == k],
                          histograms)
    members.sort()
    tables = [fit_table(np.sum([histograms[i] for i in group], axis=0), precisions)
              for group in members]
    number = {i: table for table, group in enumerate(members) for i in group}
    return tables, [number[i] for i in range(len(histograms))]


def _merge(kernels: list[int], histograms: Sequence[NDArray]) -> list[list[int]]:
    """Greedy merging of neighbours in order of entropy: lists of kernels that share a table."""

    def cost(counts: NDArray) -> float:
        table = _fit(counts, PRECISIONS[0 if counts.size <= 1024 else 1])
        return table.bits(counts) + 8 * len(write_tables([table]))

    def bits_a_weight(kernel: int) -> float:
        counts = histograms[kernel]
        return _fit(counts, PRECISIONS[0]).bits(counts) / counts.sum()

    order = sorted(kernels, key=bits_a_weight)
    groups = [[kernel] for kernel in order]
    pooled = [histograms[kernel] for kernel in order]
    costs = [cost(counts) for counts in pooled]
    joint = [cost(a + b) for a, b in zip(pooled, pooled[1:], strict=False)]
    while joint:
        gains = [costs[i] + costs[i + 1] - joint[i] for i in range(len(joint))]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        groups[best] = sorted(groups[best] + groups.pop(best + 1))
        pooled[best] = pooled[best] + pooled.pop(best + 1)
        costs[best] = joint.pop(best)
        del costs[best + 1]
        for i in (best - 1, best):
            if 0 <= i < len(joint):
                joint[i] = cost(pooled[i] + pooled[i + 1])
    return groups
