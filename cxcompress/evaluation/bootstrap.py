"""The bootstrap that draws patients, with all draws of a metric computed at once.

    draws = PatientDraws(patients=624, resamples=1000, seed=0)
    values = draws.apply(statistic)                 # (q, 1000)
    values = draws.apply(lambda counts: b(counts) - a(counts))       # paired: the same draws

A draw says how often each patient is taken. A statistic takes such counts `(patients, draws)` and
gives its values `(q, draws)`; with all counts 1 it gives the plain values. Patients are drawn
whole, with all their images, and not stratified by label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation.estimates import TAIL

UNDEFINED_ALLOWED = 0.05
"""Share of draws in which a metric may be undefined; they are dropped and counted."""

BLOCK_ELEMENTS = 4_000_000
"""Counts held in memory at once (8 bytes each)."""

Compute = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class PatientDraws:
    """Resamples of patients, the same ones at every use.

    Args:
        patients: Number of patients, at least 1.
        resamples: Number of draws.
        seed: Of `numpy.random.default_rng`.
    """

    patients: int
    resamples: int = 1000
    seed: int = 0

    @cached_property
    def _stored(self) -> list[NDArray[np.uint16]]:
        """The draws in blocks, kept small because many statistics ask for them."""
        random = np.random.default_rng(self.seed)
        size = max(1, BLOCK_ELEMENTS // self.patients)
        blocks = []
        for start in range(0, self.resamples, size):
            draws = min(size, self.resamples - start)
            taken = random.integers(0, self.patients, size=(draws, self.patients))
            cells = taken * draws + np.arange(draws)[:, None]
            counts = np.bincount(cells.reshape(-1), minlength=self.patients * draws)
            blocks.append(counts.reshape(self.patients, draws).astype(np.uint16))
        return blocks

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """All draws in blocks: float64 `(patients, draws)`; every column sums to `patients`."""
        for counts in self._stored:
            yield counts.astype(np.float64)

    def apply(self, compute: Compute) -> NDArray[np.float64]:
        """Values of a statistic in every draw `(q, resamples)`."""
        return np.concatenate([compute(counts) for counts in self.blocks()], axis=1)


@dataclass(frozen=True)
class PercentileInterval:
    """What the draws say of one value.

    Args:
        low, high: 2.5th and 97.5th percentile of the defined draws; NaN with too few of them.
        dropped: Draws in which the value was undefined.
        constant: Whether all defined draws agree, so that they say nothing about spread.
    """

    low: float
    high: float
    dropped: int
    constant: bool


def percentile_interval(values: NDArray[np.float64]) -> PercentileInterval:
    """The 95% percentile interval of one value's draws `(resamples,)`, NaN = undefined."""
    defined = values[~np.isnan(values)]
    dropped = len(values) - len(defined)
    if not len(defined) or dropped > UNDEFINED_ALLOWED * len(values):
        return PercentileInterval(math.nan, math.nan, dropped, False)
    low, high = np.quantile(defined, [TAIL, 1 - TAIL])
    constant = bool(np.ptp(defined) <= 1e-12)
    return PercentileInterval(float(low), float(high), dropped, constant)
