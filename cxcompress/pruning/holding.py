"""Masks held through training: a pruned weight is exactly 0 after every step of every optimiser.

    model.fit(images, labels, epochs=5, callbacks=[HoldMasks(masks)])

A mask becomes the constraint of its kernel's variable, which Keras applies inside the compiled
training step, after the optimiser's update. So momentum, weight decay and moving averages cannot
revive a weight, in mixed precision and under `tf.distribute` no more than otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cxcompress.models.kernels import Kernel
from cxcompress.models.kernels import kernels as kernels_of
from cxcompress.pruning.masks import Masks, apply


class MaskConstraint:
    """Zero where the mask is False; a constraint that the variable had before comes first.

    Args:
        mask: bool variable of the kernel's shape.
        inner: The kernel's own constraint.
    """

    def __init__(self, mask: keras.Variable, inner: Callable | None):
        self.mask, self.inner = mask, inner

    def __call__(self, value):
        if self.inner is not None:
            value = self.inner(value)
        value = ops.convert_to_tensor(value)
        # Not a product: 0 × infinity, which mixed precision may bring, is not a number.
        return ops.where(self.mask, value, ops.zeros_like(value))


class HoldMasks(keras.callbacks.Callback):
    """Holds masks while `model.fit` runs, and leaves an ordinary model behind.

    Args:
        masks: By kernel path, True where a weight stays.

    Raises:
        InputError: When training begins, if the masks belong to another model.
    """

    def __init__(self, masks: Masks):
        super().__init__()
        self.masks: dict[str, NDArray[np.bool_]] = dict(masks)
        self._held: dict[str, tuple[Kernel, MaskConstraint]] = {}

    def on_train_begin(self, logs=None):
        self.hold()

    def on_train_end(self, logs=None):
        self.release()

    def hold(self) -> None:
        """Prune the weights and install the constraints."""
        with self._scope():
            apply(self.model, self.masks)
            kernels = {kernel.path: kernel for kernel in kernels_of(self.model)}
            for path, mask in self.masks.items():
                if path in self._held:
                    self._held[path][1].mask.assign(mask)
                    continue
                variable = keras.Variable(mask, trainable=False, dtype="bool",
                                          name=f"{path.replace('/', '.')}.mask")
                kernel = kernels[path]
                inner = kernel.variable.constraint
                if isinstance(inner, MaskConstraint):  # of a training that was interrupted
                    inner = inner.inner
                constraint = MaskConstraint(variable, inner)
                kernel.variable.constraint = constraint
                self._held[path] = (kernel, constraint)
                # Constraints are compiled into the training step, which `fit` may have kept.
                self._retrace()

    def release(self) -> None:
        """Prune the weights once more and take the constraints away.

        Once more, since an optimiser's moving average replaces the weights after the last step.
        """
        with self._scope():
            apply(self.model, self.masks)
        for kernel, constraint in self._held.values():
            kernel.variable.constraint = constraint.inner
        if self._held:
            self.model.train_function = None
        self._held.clear()

    def _retrace(self) -> None:
        if getattr(self.model, "compiled", False):
            self.model.make_train_function(force=True)

    def _scope(self):
        """Variables belong to the strategy that the model was made under."""
        strategy = getattr(self.model, "distribute_strategy", None)
        return contextlib.nullcontext() if strategy is None else strategy.scope()
