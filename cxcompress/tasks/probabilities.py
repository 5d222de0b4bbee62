"""From whatever the last layer of a classifier gives to probabilities, and saying so.

    multiclass_probabilities([[2.0, -1.0]], ("covid", "normal"))     # logits: softmax
    multiclass_probabilities([[0.9]], ("normal", "covid"))           # one sigmoid: (0.1, 0.9)
    multilabel_probabilities([[-3.0, 2.0]], ("Mass", "Nodule"))      # logits: sigmoid

Whether numbers are logits can only be guessed from the numbers, and the guess for one image may
differ from the guess for the next. Whoever knows the last layer says so with `from_logits`.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError

logger = logging.getLogger(__name__)

SUM_TOLERANCE = 1e-3
"""Rows of float probabilities sum to 1 within this."""

GRID_TOLERANCE = 1 / 256
"""Each probability that an int8 graph gives may be off by this much."""


def softmax(logits: NDArray) -> NDArray[np.float64]:
    """Rows of `logits` `(n, c)` as probabilities that sum to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(logits: NDArray) -> NDArray[np.float64]:
    """`1 / (1 + exp(-logits))` without overflow, any shape."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


def multiclass_probabilities(
    outputs: ArrayLike, classes: tuple[str, ...], from_logits: bool | None = None
) -> NDArray[np.float64]:
    """Probabilities whose rows sum to 1.

    Args:
        outputs: Float `(n, c)`, or `(n, 1)` or `(n,)` for two classes: then the probability (or
            logit) of the second class.
        classes: The c class names.
        from_logits: Whether `outputs` are logits. None guesses: anything outside [0, 1] is. Rows
            inside [0, 1] that do not sum to 1 (a sigmoid a class) are divided by their sum.

    Returns:
        float64 `(n, c)`.

    Raises:
        InputError: If the width does not match the classes, or a value is not finite.
    """
    outputs = _as_columns(outputs)
    if outputs.shape[1] == 1 and len(classes) == 2:
        second = _sigmoid_outputs(outputs, from_logits)
        return np.concatenate([1 - second, second], axis=1)
    _require_width(outputs, classes)
    if _are_logits(outputs, from_logits):
        if from_logits is None:
            logger.warning("the model's outputs are not probabilities: softmax applied")
        return softmax(outputs)
    outputs = outputs.clip(0, 1)
    sums = outputs.sum(axis=1, keepdims=True)
    distance = np.abs(sums - 1).max(initial=0)
    if distance <= SUM_TOLERANCE:
        return outputs
    if distance > SUM_TOLERANCE + GRID_TOLERANCE * len(classes):
        logger.warning("the model's outputs do not sum to 1 over the classes: divided by their sum")
    return np.divide(
        outputs, sums, out=np.full_like(outputs, 1 / len(classes)), where=sums > 0
    )


def multilabel_probabilities(
    outputs: ArrayLike, classes: tuple[str, ...], from_logits: bool | None = None
) -> NDArray[np.float64]:
    """A probability for each class by itself.

    Args:
        outputs: Float `(n, c)`, or `(n,)` for one class.
        classes: The c class names.
        from_logits: Whether `outputs` are logits. None guesses: anything outside [0, 1] is.

    Returns:
        float64 `(n, c)`, each in [0, 1].

    Raises:
        InputError: If the width does not match the classes, or a value is not finite.
    """
    outputs = _as_columns(outputs)
    _require_width(outputs, classes)
    return _sigmoid_outputs(outputs, from_logits)


def _sigmoid_outputs(outputs: NDArray, from_logits: bool | None) -> NDArray[np.float64]:
    if _are_logits(outputs, from_logits):
        if from_logits is None:
            logger.warning("the model's outputs are not probabilities: sigmoid applied")
        return sigmoid(outputs)
    return outputs.clip(0, 1)


def _as_columns(outputs: ArrayLike) -> NDArray[np.float64]:
    outputs = np.asarray(outputs, dtype=np.float64)
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2:
        raise InputError(f"a classifier gives one row of numbers an image; this model's output "
                         f"has shape {outputs.shape}: choose the task that fits the model")
    bad = int((~np.isfinite(outputs)).any(axis=1).sum())
    if bad:
        raise InputError(f"the model's output is NaN or infinite for {bad} of {len(outputs)} "
                         f"images; check its weights and --preprocessing")
    return outputs


def _require_width(outputs: NDArray, classes: tuple[str, ...]) -> None:
    if outputs.shape[1] != len(classes):
        raise InputError(f"the model gives {outputs.shape[1]} outputs an image but there are "
                         f"{len(classes)} classes ({', '.join(classes)}); name the model's "
                         f"classes with --classes")


def _are_logits(outputs: NDArray, from_logits: bool | None) -> bool:
    if from_logits is not None:
        return from_logits
    slack = SUM_TOLERANCE
    return bool(outputs.size and (outputs.min() < -slack or outputs.max() > 1 + slack))
