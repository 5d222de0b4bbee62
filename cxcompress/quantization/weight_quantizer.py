"""What all quantizers share: validation, the exact case, assignment, configurations and names.

    quantizer = get("CWS", k=16)                        # by name
    quantizer = get({"name": "CWS", "k": 16})           # from `get_config()`
    indices = quantizer.fit(kernel).assign(kernel)      # uint8, in the kernel's shape
    quantizer.codebook_.values[indices]                 # decoded
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError
from cxcompress.quantization.interval_lookup import locate
from cxcompress.quantization.weight_distribution import (
    SortedWeights,
    finite_float32,
    floor_float32,
    midpoints,
)
from cxcompress.representation.types import MAX_LEVELS, Codebook

logger = logging.getLogger(__name__)

_REGISTRY: dict[str, type[WeightQuantizer]] = {}


class WeightQuantizer:
    """Base of the quantizers: learns a codebook from weights, then gives each weight an index.

    Args:
        k: Most shared values, 1 … 65536. The codebook has fewer where the weights hold fewer
            distinct values: it then is those values and nothing is lost.

    After `fit`:
        codebook_: The shared values, a `Codebook`.
        thresholds_: float32 `(codebook_.k − 1,)` decision points between them.
    """

    name: ClassVar[str]

    codebook_: Codebook
    thresholds_: NDArray[np.float32]

    def __init__(self, k: int = 256):
        self.k = k

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _REGISTRY[cls.name] = cls

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self._parameters().items())
        return f"{type(self).__name__}({arguments})"

    def fit(
        self,
        weights: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        keep_zero: bool = False,
    ) -> Self:
        """Learn `codebook_` from weights.

        Args:
            weights: Real numbers, any shape, at least one, finite.
            sample_weight: Importance of each weight's error, same shape, none negative.
                None: all alike.
            keep_zero: Reserve one of the k values for exactly 0 (`codebook_.zero`), which every
                zero weight takes: pruned weights stay pruned.

        Returns:
            self

        Raises:
            InputError: If k, another parameter, the weights or the sample weights cannot be used.
        """
        self.check()
        distribution = SortedWeights.of(weights, sample_weight)
        if keep_zero and self.k == 1 and distribution.largest > 0:
            raise InputError("k=1 with a level kept for pruned weights would make every weight 0; "
                             "give k of 2 or more")
        self._learn(distribution, keep_zero)
        return self

    def assign(self, weights: ArrayLike) -> NDArray[np.unsignedinteger]:
        """Index of each weight's shared value.

        Args:
            weights: Real numbers, any shape, finite; not necessarily those of `fit`.

        Returns:
            uint8 (`codebook_.k` <= 256) or uint16, in the weights' shape.

        Raises:
            InputError: If weights are empty, NaN or infinite.
            ValueError: If `fit` was not called.
        """
        self._require_fit()
        return locate(finite_float32(weights), self.thresholds_)

    def assign_kernels(self, kernels: Sequence[NDArray]) -> list[NDArray[np.unsignedinteger]]:
        """Indices of several kernels that share the codebook, each in its shape.

        Args:
            kernels: In Keras' axis order, not empty.

        Raises:
            As `assign`.
        """
        # Assigned in one go, so that random rounding never repeats its draws between kernels.
        indices = self.assign(np.concatenate([np.ravel(kernel) for kernel in kernels]))
        ends = np.cumsum([np.size(kernel) for kernel in kernels])[:-1]
        return [part.reshape(np.shape(kernel)).copy()
                for part, kernel in zip(np.split(indices, ends), kernels, strict=True)]

    def get_config(self) -> dict[str, Any]:
        """Name and parameters, JSON-ready: `get(config)` makes an equal, unfitted quantizer."""
        return {"name": self.name} | self._parameters()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The inverse of `get_config`."""
        parameters = {key: value for key, value in config.items() if key != "name"}
        known = list(inspect.signature(cls.__init__).parameters)[1:]
        unknown = sorted(set(parameters) - set(known))
        if unknown:
            raise InputError(f"{cls.name} has no parameter {unknown[0]!r}; it has "
                             f"{', '.join(known)}")
        return cls(**parameters)

    def _parameters(self) -> dict[str, Any]:
        return {key: getattr(self, key)
                for key in list(inspect.signature(type(self).__init__).parameters)[1:]}

    def check(self) -> None:
        """Validate the parameters; `fit` begins with it.

        Raises:
            InputError: If one is out of range.
        """
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer):
            raise InputError(f"k must be a whole number of shared values, received {self.k!r}")
        if not 1 <= self.k <= MAX_LEVELS:
            raise InputError(f"k must be 1 to {MAX_LEVELS} shared values, received {self.k}")

    def _require_fit(self) -> None:
        if not hasattr(self, "codebook_"):
            raise ValueError(f"call fit before assign. Received: unfitted {self!r}")

    def _learn(self, weights: SortedWeights, keep_zero: bool) -> None:
        """Set `codebook_` and `thresholds_`."""
        levels = self._exact_levels(weights, keep_zero)
        if levels is None:
            levels = self._levels(weights, keep_zero)
        self._store(levels, keep_zero)

    def _levels(self, weights: SortedWeights, keep_zero: bool) -> NDArray:
        """At most k levels, 0 among them with `keep_zero`; more distinct weights than k."""
        raise NotImplementedError

    def _exact_levels(self, weights: SortedWeights, keep_zero: bool) -> NDArray | None:
        """The distinct weights themselves where k suffices for them, else None."""
        if weights.distinct > self.k:
            return None
        levels = weights.distinct_values()
        if keep_zero and 0.0 not in levels:
            if levels.size == self.k:
                return None
            levels = np.union1d(levels, np.float32(0.0))
        if weights.distinct < self.k:
            logger.info("%s: asked for %d levels, only %d distinct weights; the codebook is exact",
                        self.name, self.k, weights.distinct)
        return levels

    def _store(self, levels: NDArray, keep_zero: bool, step: float | None = None) -> None:
        """Round levels to float32, drop equal ones and decide halfway between neighbours."""
        values = np.unique(np.asarray(levels, dtype=np.float32) + np.float32(0.0))
        self.codebook_ = Codebook(values, zero=zero_of(values) if keep_zero else None, step=step)
        self.thresholds_ = floor_float32(midpoints(values))


def zero_of(levels: NDArray) -> int | None:
    """Index of the level that is exactly 0, or None."""
    found = np.flatnonzero(levels == 0)
    return int(found[0]) if found.size else None


def names() -> tuple[str, ...]:
    """Names that `get` knows."""
    return tuple(sorted(_REGISTRY))


def get(
    quantizer: str | WeightQuantizer | Mapping[str, Any], **parameters: Any
) -> WeightQuantizer:
    """A quantizer by name, instance or configuration.

    Args:
        quantizer: "UQ", "CWS", "PWS", "ECSQ" or "TCQ"; or an instance, returned as it is; or a
            mapping as `get_config` returns it.
        **parameters: With a name: parameters of the class, e.g. `k=16`.

    Raises:
        InputError: If the name or a parameter is unknown.
        ValueError: If parameters accompany an instance or a configuration.
    """
    if isinstance(quantizer, str):
        return _class_of(quantizer).from_config(parameters)
    if parameters:
        raise ValueError(f"parameters go with a name only. Received: {quantizer!r}, {parameters}")
    if isinstance(quantizer, WeightQuantizer):
        return quantizer
    return _class_of(str(quantizer.get("name"))).from_config(quantizer)


def _class_of(name: str) -> type[WeightQuantizer]:
    if name not in _REGISTRY:
        raise InputError(f"no quantizer is named {name!r}; choose one of {', '.join(names())}")
    return _REGISTRY[name]
