"""Losses of multilabel classifiers, in which unknown labels (NaN) never count, and what losses
of several trainings share.

    loss = multilabel_loss("weighted_bce", labels)       # labels of the training part
    model.compile("adam", loss=loss)

- `bce`: binary cross-entropy, mean over the known labels of a batch.
- `weighted_bce`: the same; positives of a class count negatives / positives of it, at most 20.
- `focal`: the same; each label counts (1 - probability of the truth)^2 (Lin et al. 2017).
- `masked_bce`: MedImaging's *task-padding mask*: sum over an image's known labels, mean over
  images, so that an image that was read for one finding pulls a fourteenth as hard.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

LOSSES = ("bce", "weighted_bce", "focal", "masked_bce")
LARGEST_WEIGHT = 20.0
FOCUS = 2.0
CHANNEL_WEIGHTS = (1.0, 1.0, 2.0)
"""Weights of the maps of nuclei in their squared error: lymphocytes are rare, and a short training
that weights all maps alike never learns to draw one."""


class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of probabilities, in nats, over known labels.

    Args:
        positive_weights: `(c,)`, how much a positive label of each class counts; None: 1.
        focus: γ of the focal loss; 0 is plain cross-entropy.
        per_image: Divide by the images of the batch instead of its known labels.
    """

    def __init__(self, positive_weights: NDArray | None = None, focus: float = 0.0,
                 per_image: bool = False):
        super().__init__(name="masked_binary_crossentropy")
        self.positive_weights = positive_weights
        self.focus, self.per_image = focus, per_image

    def call(self, y_true, y_pred):
        """Labels `(n, c)` in [0, 1] or NaN, and probabilities `(n, c)`, to the mean `(1,)`.

        Not a scalar: Keras shares losses of several devices out only where they have an axis.
        """
        y_true = ops.cast(y_true, y_pred.dtype)
        known = ops.cast(ops.logical_not(ops.isnan(y_true)), y_pred.dtype)
        truth = ops.where(ops.isnan(y_true), ops.zeros_like(y_true), y_true)
        p = ops.clip(y_pred, keras.config.epsilon(), 1 - keras.config.epsilon())
        present, absent = -ops.log(p), -ops.log(1 - p)
        if self.focus:
            present, absent = present * (1 - p) ** self.focus, absent * p**self.focus
        if self.positive_weights is not None:
            present = present * ops.convert_to_tensor(
                np.asarray(self.positive_weights, np.float32))
        loss = known * (truth * present + (1 - truth) * absent)
        count = ops.cast(ops.shape(y_true)[0], y_pred.dtype) if self.per_image else (
            ops.maximum(ops.sum(known), 1.0))
        return ops.reshape(ops.sum(loss) / count, (1,))


def positive_weights(labels: NDArray) -> NDArray[np.float32]:
    """Negatives / positives of each class `(c,)`, at most 20; 1 for a class without positives."""
    positives = np.nansum(labels, axis=0)
    negatives = np.sum(labels == 0, axis=0)
    weights = np.divide(negatives, positives, out=np.ones(labels.shape[1]), where=positives > 0)
    return np.minimum(weights, LARGEST_WEIGHT).astype(np.float32)


def multilabel_loss(name: str, labels: NDArray) -> MaskedBinaryCrossentropy:
    """The loss of a name.

    Args:
        name: One of `LOSSES`.
        labels: Of the training part, for the weights of `weighted_bce`.

    Raises:
        ValueError: If no loss has this name.
    """
    if name not in LOSSES:
        raise ValueError(f"loss is one of {', '.join(LOSSES)}. Received: {name!r}")
    return MaskedBinaryCrossentropy(
        positive_weights(labels) if name == "weighted_bce" else None,
        FOCUS if name == "focal" else 0.0, name == "masked_bce")
