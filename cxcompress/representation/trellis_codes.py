"""Trellis codes: which integers of a grid may follow which, so that a bit a weight is saved.

Dependent (trellis-coded) quantisation walks along a chain of weights through a finite state
machine. In a state whose `union` is 0 the next weight takes an even integer, else an odd one:
half the integers, one bit less. Of the two classes of its union (n mod 4), the integer chosen
gives the bit that the state takes in. The quantiser picks the best walk; a reader follows it.

    trellis = Trellis(8)
    trellis.follows(integers, offset=0)        # whether chains (columns) obey it

Method: Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources"
(1990), with entropy coding after Fischer and Wang (1992). Codes: Ungerboeck, "Channel coding with
multilevel/phase signals" (1982), table I (amplitude modulation).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_PARITY_CHECKS = {
    4: (0o5, 0o2), 8: (0o13, 0o4), 16: (0o23, 0o4), 32: (0o45, 0o10), 64: (0o103, 0o24),
    128: (0o235, 0o126), 256: (0o515, 0o362)}

STATES = tuple(_PARITY_CHECKS)
"""Numbers of states that there is a code for."""


class Trellis:
    """A state machine of `states` states; every chain begins in state 0.

    Args:
        states: One of `STATES`.

    Raises:
        ValueError: If there is no such code.
    """

    def __init__(self, states: int):
        if states not in _PARITY_CHECKS:
            raise ValueError(f"trellis codes have {', '.join(map(str, STATES))} states. "
                             f"Received: {states}")
        self.states = states

    @cached_property
    def union(self) -> NDArray[np.uint8]:
        """`(states,)`: 0 where the next integer is even, 1 where it is odd."""
        return _parity(_PARITY_CHECKS[self.states][1] >> 1, self.states)

    @cached_property
    def feedback(self) -> NDArray[np.uint8]:
        """`(states,)`: what is added to bit 1 of the integer to give the bit that comes in."""
        return _parity(_PARITY_CHECKS[self.states][0] >> 1, self.states)

    def follow(self, state: NDArray, integers: NDArray) -> NDArray:
        """The states after these integers (their bits 0 and 1 count, in two's complement)."""
        entering = ((integers >> 1) & 1) ^ self.feedback.take(state)
        return ((state << 1) | entering) & (self.states - 1)

    def follows(self, integers: NDArray, offset: int = 0) -> bool:
        """Whether every chain obeys the code.

        Args:
            integers: `(steps, chains)`.
            offset: Added to all of them.
        """
        state = np.zeros(integers.shape[1], np.intp)
        for row in integers:
            row = row.astype(np.intp) + offset
            if ((row & 1) != self.union[state]).any():
                return False
            state = self.follow(state, row)
        return True


def _parity(mask: int, states: int) -> NDArray[np.uint8]:
    """Parity of the bits that each state has in common with the mask."""
    return np.array([(state & mask).bit_count() & 1 for state in range(states)], np.uint8)
