"""Fitting a classifier to a collection: the best epoch on validation data is the one kept.

    fitted = fit_classifier(model, collection, preprocessing, epochs=30, seed=0)
    fitted["val_loss"][fitted.best_epoch]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Collection, Part
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.training.compilation import compile_with_optimizer

LOSSES = {"multiclass": "categorical_crossentropy", "multilabel": None}
"""Keras' loss of each task; multilabel ones are in `losses.py`."""


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

    @property
    def drawn_anew(self) -> bool:
        """Whether an image looks another way in every epoch."""
        return self.seed is not None and self.augmentation is not None

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


def smoothed(labels: np.ndarray, share: float, exclusive: bool | None = None) -> np.ndarray:
    """Labels `(n, c)` of which a share is spread evenly: over the classes, or over yes and no.

    Args:
        labels: In {0, 1}; NaN = unknown stays so.
        share: 0 leaves them as they are.
        exclusive: Whether each image has one label; None looks whether these all have.
    """
    if not share:
        return labels
    if exclusive is None:
        exclusive = bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())
    return labels * (1 - share) + share / (labels.shape[1] if exclusive else 2)


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
    loss: str | None = None,
    watched: str = "val_loss",
    state: Path | None = None,
    table: Path | None = None,
    tensorboard: Path | None = None,
    cache: str | Path | None = None,
    about: Mapping | None = None,
    keep_step: bool = False,
) -> Fitted:
    """Train with Adam, halving the learning rate on plateaus, and keep the best epoch.

    "Best" is the lowest validation loss or the highest validation macro average precision; the
    test part is never looked at.

    Args:
        model: Ends in probabilities: softmax for multiclass, sigmoid for multilabel. Its weights
            are the best epoch's when this returns.
        collection: With `train` and `val` parts; unknown labels (NaN) are masked.
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
        loss: For multilabel: one of `losses.LOSSES`, default `"bce"`.
        watched: `"val_loss"` or `"val_macro_ap"`.
        state: File that an interrupted training continues from.
        table: CSV of the epochs.
        tensorboard: Folder for TensorBoard.
        cache: None, `"memory"` or a folder (`image_pipeline.InputCache`).
        about: What a state must agree with to be continued.
        keep_step: The model was trained here before, with the same batch size, loss and kind of
            optimiser: the step that was traced then is used again, and the optimiser starts anew.

    Returns:
        The history, one list a metric and one number an epoch, and the epoch that was kept.

    Raises:
        InputError: If the task has no such loss here, the loss becomes NaN, or an image cannot be
            read.
    """
    import tensorflow as tf

    from cxcompress.training.best_epoch import BestEpoch
    from cxcompress.training.image_pipeline import ImagePipeline
    from cxcompress.training.losses import multilabel_loss

    if collection.task not in LOSSES:
        raise InputError(f"{collection.name}: train.py fits multiclass and multilabel collections, "
                         f"not {collection.task}")
    if collection.task == "multiclass" and (loss is not None or watched != "val_loss"):
        raise InputError(f"{collection.name}: its classes exclude each other; --loss and "
                         "--stop_on val_macro_ap are for multilabel collections")
    if keep_step and model.compiled:
        for variable in model.optimizer.variables:  # moments and the count of steps
            variable.assign(np.zeros(variable.shape))
        model.optimizer.learning_rate = learning_rate
        model.stop_training = False
    else:
        optimizer = (keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
                     if weight_decay else keras.optimizers.Adam(learning_rate))
        compile_with_optimizer(model, optimizer, LOSSES[collection.task] or multilabel_loss(
            loss or "bce", collection.train.labels))
    train = ImagePipeline(
        collection.train, preprocessing, batch_size, seed=seed, augmentation=augmentation,
        label_smoothing=label_smoothing, exclusive=collection.task == "multiclass", cache=cache)
    val = ImagePipeline(collection.val, preprocessing, batch_size, cache=cache)

    def macro_ap(fitted: keras.Model) -> float:
        outputs = fitted.predict(val.dataset.map(lambda inputs, _: inputs), verbose=0)
        return macro_average_precision(outputs, collection)

    keeper = BestEpoch(watched, patience, train, judge=macro_ap if watched != "val_loss" else None,
                       state=state, about=about, table=table)
    start = keeper.resume(model)
    called = [*callbacks, keeper]
    if tensorboard is not None:
        from cxcompress.training.tensorboard import ScalarLog

        called.append(ScalarLog(tensorboard, keeper.history))
    if not keeper.finished and start < epochs:
        try:
            model.fit(train.dataset, validation_data=val.dataset, initial_epoch=start,
                      epochs=epochs, callbacks=called, shuffle=False, verbose=2)
        except tf.errors.OpError as error:
            failure = train.failure or val.failure
            if failure is None:
                raise
            raise InputError(f"{failure}; --check_pictures pixels finds such files first and "
                             "skips them") from error
    if not np.isfinite(keeper.history["loss"]).all():
        raise InputError(f"the loss became NaN at learning rate {learning_rate:g}; "
                         "give a smaller --lr")
    keeper.keep_best(model)
    keeper.forget()
    return Fitted(keeper.history, keeper.best_epoch)


class Fitted(dict):
    """What a training leaves beside the model: Keras' history, one list a number that was logged,
    one entry an epoch; and the epoch that was kept.

    Args:
        history: By name of the number.
        best_epoch: From 0.
    """

    def __init__(self, history: Mapping[str, list[float]], best_epoch: int):
        super().__init__(history)
        self.best_epoch = best_epoch


def macro_average_precision(outputs: np.ndarray, collection: Collection) -> float:
    """Mean average precision of the classes on the val part, of outputs `(n, c)`; NaN if none."""
    from cxcompress.evaluation import metrics
    from cxcompress.evaluation.records import ReadyRecord
    from cxcompress.tasks import Predictions

    val = collection.val
    record = ReadyRecord.of(Predictions(
        val.image_id, val.patient_id, collection.classes, val.labels.astype(np.float64),
        np.asarray(outputs, np.float64).clip(0, 1), "multilabel"))
    return float(metrics.values(metrics.average_precision(record), record)[0])
