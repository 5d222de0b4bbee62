"""The data types of a compressed model: codebooks, index maps and what is left unshared.

    codebook = Codebook(values=np.float32([-0.5, 0.0, 0.5]), zero=1)
    kernel = SharedKernel(indices=np.uint8([[0, 1], [2, 2]]), codebook="conv")
    shared = SharedWeights({"conv": codebook}, {"conv1/kernel": kernel}, {})
    shared.kernel("conv1/kernel")        # float32 [[-0.5, 0.0], [0.5, 0.5]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_LEVELS = 65_536
"""Most shared values that one codebook may hold: an index is at most 16 bits."""

MAX_GRID_INTEGER = 127
"""Largest |value / step| of a codebook on an integer grid, so that int8 kernels hold it."""


def index_dtype(k: int) -> np.dtype:
    """The smallest unsigned integer type that holds the indices 0 … k − 1.

    Args:
        k: Number of shared values, 1 <= k <= 65536.

    Returns:
        `uint8` for k <= 256, else `uint16`.

    Raises:
        ValueError: If k is outside 1 … 65536.
    """
    if not 1 <= k <= MAX_LEVELS:
        raise ValueError(f"a codebook holds 1 to {MAX_LEVELS} shared values. Received: k={k}")
    return np.dtype(np.uint8 if k <= 256 else np.uint16)


@dataclass(frozen=True)
class Codebook:
    """The shared values of one family of kernels (or of one kernel).

    Args:
        values: float32 `(k,)`, strictly increasing, finite.
        zero: Index of the value reserved for pruned weights (that value is exactly 0), or None.
        step: If set, `values / step` are integers in [−127, 127]: the codebook lies on a grid
            that int8 kernels represent exactly.

    Raises:
        ValueError: If a rule above is broken.
    """

    values: NDArray[np.float32]
    zero: int | None = None
    step: float | None = None

    def __post_init__(self):
        values = np.asarray(self.values)
        index_dtype(values.size)
        if values.ndim != 1 or values.dtype != np.float32:
            raise ValueError(
                f"codebook values are a float32 vector. Received: {values.dtype} {values.shape}"
            )
        if not np.isfinite(values).all() or not (np.diff(values) > 0).all():
            raise ValueError("codebook values must be finite and strictly increasing")
        if self.zero is not None and not (0 <= self.zero < values.size and values[self.zero] == 0):
            raise ValueError(f"the pruned level must be exactly 0. Received: zero={self.zero}")
        if self.step is not None:
            if not (np.isfinite(self.step) and self.step > 0):
                raise ValueError(f"a grid step is positive and finite. Received: {self.step}")
            ratio = values.astype(np.float64) / self.step
            integers = np.rint(ratio)
            if np.abs(integers).max() > MAX_GRID_INTEGER or np.abs(ratio - integers).max() > 1e-4:
                raise ValueError(
                    f"values / step must be integers in [-127, 127]. Received: step={self.step}"
                )

    @property
    def k(self) -> int:
        """Number of shared values."""
        return int(self.values.size)

    @property
    def grid_integers(self) -> NDArray[np.int8] | None:
        """`values / step` as int8 `(k,)`, or None where the codebook has no step."""
        if self.step is None:
            return None
        return np.rint(self.values.astype(np.float64) / self.step).astype(np.int8)


@dataclass(frozen=True)
class SharedKernel:
    """One kernel as indices into a named codebook.

    Args:
        indices: uint8 or uint16, in Keras' shape and axis order.
        codebook: Name of its codebook in `SharedWeights.codebooks`.
    """

    indices: NDArray[np.unsignedinteger]
    codebook: str


@dataclass(frozen=True)
class SharedWeights:
    """All weights of a compressed model.

    Args:
        codebooks: By name: `"conv"`, `"dense"`, `"depthwise"` at unified scope, the kernel's
            own path at layer scope.
        kernels: By Keras variable path, e.g. `"conv2d_3/kernel"`.
        unshared: By Keras variable path: biases, BatchNormalization and kept-float kernels.

    Raises:
        ValueError: If a kernel names an unknown codebook or an index is outside it.
    """

    codebooks: Mapping[str, Codebook]
    kernels: Mapping[str, SharedKernel]
    unshared: Mapping[str, NDArray] = field(default_factory=dict)

    def __post_init__(self):
        for path, kernel in self.kernels.items():
            if kernel.codebook not in self.codebooks:
                raise ValueError(f"{path}: no codebook named {kernel.codebook!r}")
            k = self.codebooks[kernel.codebook].k
            if kernel.indices.dtype not in (np.uint8, np.uint16):
                raise ValueError(f"{path}: indices must be uint8 or uint16. "
                                 f"Received: {kernel.indices.dtype}")
            if kernel.indices.size and int(kernel.indices.max()) >= k:
                raise ValueError(f"{path}: index {int(kernel.indices.max())} outside its "
                                 f"codebook of {k} values")

    def kernel(self, path: str) -> NDArray[np.float32]:
        """The kernel of a Keras variable path as float32, in Keras' shape and axis order.

        Raises:
            KeyError: If no shared kernel has this path.
        """
        shared = self.kernels[path]
        return self.codebooks[shared.codebook].values[shared.indices]

    def weights(self) -> dict[str, NDArray]:
        """Every weight by Keras variable path: shared kernels decoded, the rest as is."""
        return {path: self.kernel(path) for path in self.kernels} | dict(self.unshared)
