"""Soft targets: what the original model says of an image, as a target for the compressed one.

    loss = known_label_loss("multilabel", from_logits=False)
    targets = blend(labels, soft, label_weight=0.5)

Cross-entropy is linear in its target. So the sum of a loss against labels and a loss against the
original's probabilities is one loss against their blend, and where a label is unknown the
original's answer takes its place. (Squared error differs by a constant: same gradient.)
Reference: Hinton et al., "Distilling the knowledge in a neural network" (2015), temperature 1.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cxcompress.training.losses import CHANNEL_WEIGHTS

LABELS, SOFT = "labels", "soft_targets"
"""Keys of the targets of data that bring soft targets along: `(inputs, {LABELS: …, SOFT: …})`."""


class KnownLabelLoss(keras.losses.Loss):
    """Cross-entropy (or squared error) per image over its known labels; unknown ones are NaN.

    Args:
        task: `"multiclass"`, `"multilabel"`; anything else means squared error of maps, of three
            with `CHANNEL_WEIGHTS`, by which networks of nuclei are trained in the first place.
        from_logits: Whether the model's outputs are logits.
    """

    def __init__(self, task: str, from_logits: bool = False):
        super().__init__(name="known_label_loss")
        self.task, self.from_logits = task, from_logits

    def call(self, y_true, y_pred):
        known = ops.logical_not(ops.isnan(y_true))
        y_true = ops.where(known, y_true, ops.zeros_like(y_true))
        if self.task == "multiclass":
            loss = ops.categorical_crossentropy(y_true, y_pred, from_logits=self.from_logits)
            return ops.where(ops.all(known, axis=-1), loss, ops.zeros_like(loss))
        if self.task == "multilabel":
            loss = ops.binary_crossentropy(y_true, y_pred, from_logits=self.from_logits)
        else:
            loss = ops.square(y_true - y_pred)
            if loss.shape[-1] == len(CHANNEL_WEIGHTS):
                loss = loss * ops.array(CHANNEL_WEIGHTS, loss.dtype)
        loss = ops.where(known, loss, ops.zeros_like(loss))
        axes = tuple(range(1, len(loss.shape)))
        count = ops.sum(ops.cast(known, loss.dtype), axis=axes)
        return ops.sum(loss, axis=axes) / ops.maximum(count, 1)


def as_loss(loss) -> keras.losses.Loss:
    """A Keras loss by instance, name or function `(y_true, y_pred)`, as a `Loss`."""
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        return loss

    class FunctionLoss(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return loss(y_true, y_pred)

    return FunctionLoss(name=getattr(loss, "__name__", "loss"))


def targets_from_outputs(outputs, loss: keras.losses.Loss):
    """The original model's outputs as targets of `loss`: logits become probabilities."""
    if not getattr(loss, "from_logits", False):
        return outputs
    multiclass = (isinstance(loss, keras.losses.CategoricalCrossentropy
                             | keras.losses.CategoricalFocalCrossentropy)
                  or getattr(loss, "task", None) == "multiclass")
    return ops.softmax(outputs) if multiclass else ops.sigmoid(outputs)


def blend(labels, soft, label_weight: float):
    """`label_weight` × labels + the rest × soft targets; soft targets where labels are unknown."""
    labels = ops.cast(labels, soft.dtype)
    blended = label_weight * labels + (1 - label_weight) * soft
    return ops.where(ops.isnan(labels), soft, blended)


def split_targets(y) -> tuple:
    """Labels and soft targets of a batch's targets; None for what it does not bring."""
    if isinstance(y, dict) and set(y) <= {LABELS, SOFT}:
        return y.get(LABELS), y.get(SOFT)
    return y, None


class SoftTargetBatches(keras.utils.PyDataset):
    """Batches of another dataset with soft targets, and an order that depends on the epoch alone.

    Args:
        source: Yields `inputs`, `(inputs,)` or `(inputs, labels)`. Where it has `epoch`, as
            `PartBatches` has, its order is drawn from that number.
        soft: Soft targets of all its images in stored order, found by `source.order` and
            `source.batch_size`; None leaves them out.
        labelled: Whether to pass labels on.
        epoch: The epoch that `on_epoch_begin` starts next; None gives every epoch the order of
            the first, so that sums over validation data repeat to the last bit.
    """

    def __init__(self, source: keras.utils.PyDataset, soft: NDArray | None = None,
                 labelled: bool = True, epoch: int | None = None):
        super().__init__()
        self.source, self.soft, self.labelled, self.next_epoch = source, soft, labelled, epoch

    def __len__(self) -> int:
        return len(self.source)

    def on_epoch_begin(self) -> None:
        if hasattr(self.source, "epoch"):
            self.source.epoch = (self.next_epoch or 0) - 1
        self.source.on_epoch_begin()
        if self.next_epoch is not None:
            self.next_epoch += 1

    def on_epoch_end(self) -> None:
        self.source.on_epoch_end()

    def __getitem__(self, position: int):
        inputs, labels = inputs_and_labels(self.source[position])
        targets = {}
        if self.labelled and labels is not None:
            targets[LABELS] = np.asarray(labels, np.float32)
        if self.soft is not None:
            targets[SOFT] = self.soft[rows_of(self.source, position)]
        return (inputs, targets) if targets else (inputs,)


def inputs_and_labels(batch) -> tuple:
    """Inputs and labels of a batch; labels None where it brings none."""
    if not isinstance(batch, tuple | list):
        return batch, None
    return batch[0], (batch[1] if len(batch) > 1 else None)


def rows_of(source: keras.utils.PyDataset, position: int) -> NDArray:
    """Stored rows of the images of a batch."""
    return source.order[position * source.batch_size:(position + 1) * source.batch_size]
