"""Fitting a classifier to a collection: the best epoch on validation data is the one kept.

    history = fit_classifier(model, collection, preprocessing, epochs=30, seed=0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np

from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Collection, Part
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing

LOSSES = {"multiclass": "categorical_crossentropy", "multilabel": "binary_crossentropy"}


class PartBatches(keras.utils.PyDataset):
    """Batches of a part: preprocessed when asked for, so that a large part never fills memory.

    Args:
        part: Images and labels.
        preprocessing: From stored image to network input.
        batch_size: Images a batch.
        seed: Seed of the order, drawn anew each epoch; None keeps the stored order.
        augmentation: Random changes of every image, drawn anew each epoch.
        label_smoothing: Share of every label that is spread evenly (Szegedy et al. 2016).
    """

    def __init__(self, part: Part, preprocessing: Preprocessing, batch_size: int,
                 seed: int | None = None, augmentation: Augmentation | None = None,
                 label_smoothing: float = 0.0):
        super().__init__()
        self.label_smoothing = label_smoothing
        self.part, self.preprocessing, self.batch_size = part, preprocessing, batch_size
        self.seed, self.augmentation, self.epoch = seed, augmentation, -1
        self.on_epoch_begin()

    def on_epoch_begin(self):
        self.epoch += 1
        self.order = np.arange(len(self.part))
        if self.seed is not None:
            self.order = np.random.default_rng((self.seed, self.epoch)).permutation(self.order)

    def __len__(self):
        return math.ceil(len(self.part) / self.batch_size)

    def __getitem__(self, position: int):
        rows = self.order[position * self.batch_size:(position + 1) * self.batch_size]
        batch = self.part.select(rows)
        inputs = self.preprocessing.batch(batch.images)
        if self.augmentation is not None:
            inputs = self.augmentation(
                inputs, np.random.default_rng((self.seed or 0, self.epoch, position)))
        return inputs, smoothed(batch.labels, self.label_smoothing)


def smoothed(labels: np.ndarray, share: float) -> np.ndarray:
    """Labels `(n, c)` of which a share is spread evenly: over the classes, or over yes and no."""
    if not share:
        return labels
    rows = labels.sum(axis=1)
    one_hot = np.isin(labels, (0, 1)).all() and (rows == 1).all()
    return labels * (1 - share) + share / (labels.shape[1] if one_hot else 2)


def fit_classifier(
    model: keras.Model,
    collection: Collection,
    preprocessing: Preprocessing,
    *,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    patience: int = 6,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, list[float]]:
    """Train with Adam, halving the learning rate on plateaus, and keep the best epoch.

    "Best" is the lowest validation loss; the test part is never looked at.

    Args:
        model: Ends in probabilities: softmax for multiclass, sigmoid for multilabel. Its weights
            are the best epoch's when this returns.
        collection: With `train` and `val` parts and known labels.
        preprocessing: From stored image to network input.
        epochs: Most epochs.
        learning_rate: Adam's, at the start.
        batch_size: Images a step.
        patience: Epochs without improvement on validation after which training stops.
        seed: Seed of the order of the images, and of what augmentation draws.
        augmentation: Random changes of training images.
        weight_decay: Of AdamW (Loshchilov and Hutter 2019); 0 is Adam.
        label_smoothing: Share of every training label spread evenly over the classes; the
            validation loss has none.
        callbacks: Called before those that keep the best epoch, such as one that keeps pruned
            weights at 0.

    Returns:
        Keras' history: one list a metric, one number an epoch.

    Raises:
        InputError: If the task has no loss here, or the loss becomes NaN.
    """
    if collection.task not in LOSSES:
        raise InputError(f"{collection.name}: train.py fits multiclass and multilabel collections, "
                         f"not {collection.task}")
    optimizer = (keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay) if weight_decay
                 else keras.optimizers.Adam(learning_rate))
    model.compile(optimizer=optimizer, loss=LOSSES[collection.task])
    callbacks = [
        *callbacks,
        keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=max(patience // 3, 1)),
        keras.callbacks.TerminateOnNaN(),
    ]
    history = model.fit(
        PartBatches(collection.train, preprocessing, batch_size, seed, augmentation,
                    label_smoothing),
        validation_data=PartBatches(collection.val, preprocessing, batch_size),
        epochs=epochs, callbacks=callbacks, shuffle=False, verbose=2,
    ).history
    if not np.isfinite(history["loss"]).all():
        raise InputError(f"the loss became NaN at learning rate {learning_rate:g}; "
                         "give a smaller --lr")
    return history
