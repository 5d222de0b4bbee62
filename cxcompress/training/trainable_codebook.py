"""A codebook as Keras variables: what a shared value learns from the sum of its members' gradients.

    codebook = TrainableCodebook(shared.codebooks["conv"], "conv", grid="int8")
    optimizer.apply(codebook.gradients(sums), codebook.variables)
    codebook.follow()
    kernel.assign(tf.gather(codebook.values(), levels))
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from cxcompress.representation.types import MAX_GRID_INTEGER, Codebook

GRIDS = ("int8", "free")


class TrainableCodebook:
    """Shared values that train, freely or on an integer grid.

    `"free"`: value = latent. One optimiser step of plain SGD moves a shared value by the learning
    rate times the sum of its members' gradients.

    `"int8"`: value = step × round(latent / first step), rounded with a straight-through gradient
    (the latent gets the value's gradient) and clipped to the integers −127 … 127. The latent is
    in the units of the weights, so that one learning rate means the same on both grids. The step
    trains too: its variable is the largest value, `span` = step × largest integer, since a step
    of 0.002 would not survive an Adam step of 0.001. The grid starts as fine as 127 allows: four
    levels at −1, 0, 1, 2 steps become −63, 0, 63, 126 finer steps, so that few levels still move
    almost freely.

    The value reserved for pruned weights stays exactly 0.

    Args:
        codebook: Where training starts.
        name: Of the variables.
        grid: `"int8"`, `"free"`, or None: `"int8"` where the codebook has a step.

    Attributes:
        k: Number of levels; merging happens when training ends.
        variables: What an optimiser trains.
        states: The grid now, which follows them.
        exact: Whether training starts from the codebook's very values: `"int8"` rounds a codebook
            without a step to 127 parts of its largest value.
    """

    def __init__(self, codebook: Codebook, name: str, grid: str | None = None):
        if grid not in (None, *GRIDS):
            raise ValueError(f"grid is one of {', '.join(GRIDS)} or None. Received: {grid!r}")
        self.k, self.zero = codebook.k, codebook.zero
        self.grid = grid or ("free" if codebook.step is None else "int8")
        keep = np.ones(self.k, np.float32)
        if self.zero is not None:
            keep[self.zero] = 0
        self._keep = tf.constant(keep)
        name = name.replace("/", ".")
        self._latent = keras.Variable(codebook.values, dtype="float32", name=f"{name}.values")
        self.variables, self.states, self.exact = [self._latent], [], True
        if self.grid == "int8":
            self.exact = codebook.step is not None
            self._first_step, integers = _finest_grid(codebook)
            self._largest_integer = max(int(np.abs(integers).max()), 1)
            self._span = keras.Variable(self._first_step * self._largest_integer,
                                        dtype="float32", name=f"{name}.span")
            # Kept as variables, so that a value is one product of two floats, the same bits
            # whatever a graph compiler makes of the arithmetic before.
            self._integers = keras.Variable(integers, trainable=False, dtype="float32",
                                            name=f"{name}.integers")
            self._step = keras.Variable(self._first_step, trainable=False, dtype="float32",
                                        name=f"{name}.step")
            self.variables.append(self._span)
            self.states = [self._integers, self._step]

    def values(self) -> tf.Tensor:
        """The shared values now: float32 `(k,)`, neither sorted nor distinct once trained."""
        if self.grid == "free":
            return self._latent.value * self._keep
        return self._integers.value * self._step.value

    def gradients(self, sums: tf.Tensor) -> list[tf.Tensor]:
        """Gradients of `variables` from the sums of the members' gradients, `(k,)`."""
        sums = sums * self._keep
        if self.grid == "free":
            return [sums]
        return [sums, tf.reduce_sum(sums * self._integers.value) / self._largest_integer]

    def follow(self) -> None:
        """After an update of `variables`: back onto the grid."""
        if self.grid == "free":
            return
        # A latent far beyond the grid's ends would not come back, a span of 0 neither.
        end = (MAX_GRID_INTEGER + 0.49) * self._first_step
        self._latent.assign(tf.clip_by_value(self._latent.value, -end, end))
        least = self._first_step * self._largest_integer / 1000
        self._span.assign(tf.maximum(self._span.value, least))
        self._integers.assign(tf.round(self._latent.value / self._first_step) * self._keep)
        self._step.assign(self._span.value / self._largest_integer)

    def finished(self, used: np.ndarray) -> tuple[Codebook, np.ndarray]:
        """The trained codebook, sorted, without equal and unused values, and where levels went.

        Args:
            used: bool `(k,)`: whether any weight has that level.

        Returns:
            The codebook, and int `(k,)`: the new index of each level that is used.
        """
        values = np.asarray(self.values()) + np.float32(0)  # no negative zero
        used = used.copy()
        if self.zero is not None:
            used[self.zero] = True
        kept = np.unique(values[used])
        zero = None if self.zero is None else int(np.searchsorted(kept, 0))
        step = float(np.asarray(self._step)) if self.grid == "int8" else None
        return Codebook(kept, zero, step), np.searchsorted(kept, values).clip(0, kept.size - 1)


def _finest_grid(codebook: Codebook) -> tuple[float, np.ndarray]:
    """The smallest step on which the codebook lies, and its integers there, float32 `(k,)`."""
    if codebook.step is None:
        step = float(np.abs(codebook.values).max()) / MAX_GRID_INTEGER or 1.0
        return step, np.rint(codebook.values / np.float32(step))
    integers = codebook.grid_integers.astype(np.float32)
    finer = MAX_GRID_INTEGER // max(int(np.abs(integers).max()), 1)
    return codebook.step / finer, integers * finer
