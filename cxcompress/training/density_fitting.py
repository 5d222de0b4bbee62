"""Fitting a network of density maps, such as PathoNet, to fields of annotated nuclei.

    history = fit_density(model, collection, preprocessing, epochs=40, seed=0)
"""

from __future__ import annotations

import math
from pathlib import Path

import keras
import numpy as np

from cxcompress.data.collection import Collection, Part
from cxcompress.data.density_maps import density_maps
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing

CHANNEL_WEIGHTS = (1.0, 1.0, 2.0)
"""Weights of the maps in the loss: lymphocytes are rare, and a short training that weights all
maps alike never learns to draw one."""
START_BIAS = 5.0
"""Of the maps, before training: a map that is 0 everywhere has no gradient behind its ReLU."""


class DensityBatches(keras.utils.PyDataset):
    """Batches of fields and their density maps.

    Args:
        part: Fields, with cells as labels: int `(cells, 3)` each.
        preprocessing: From stored image to network input; cells move with it.
        batch_size: Fields a batch.
        seed: Seed of the order, drawn anew each epoch; None keeps the stored order.
        augment: Whether every field is turned and mirrored, one of eight ways by chance.
        crop: Side of the random square that is cut out of every field, in pixels of the input;
            None takes whole fields.
        classes: Number of maps.
    """

    def __init__(self, part: Part, preprocessing: Preprocessing, batch_size: int,
                 seed: int | None = None, augment: bool = False, crop: int | None = None,
                 classes: int = 3):
        super().__init__()
        self.part, self.preprocessing, self.batch_size = part, preprocessing, batch_size
        self.seed, self.augment, self.crop, self.classes = seed, augment, crop, classes
        self.epoch = -1
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
        size = self.preprocessing.size
        inputs = self.preprocessing.batch(batch.images)
        maps = np.stack([
            density_maps(cells, size, self.classes,
                         (size[0] / image.shape[0], size[1] / image.shape[1]))
            for cells, image in zip(batch.labels, batch.images, strict=True)])
        # Without a seed every epoch gets the same crops, so that validation losses compare.
        random = np.random.default_rng(
            (self.seed or 0, self.epoch if self.seed is not None else 0, position))
        if self.crop is not None:
            corners = random.integers(0, np.array(size) - self.crop + 1, (len(rows), 2))
            inputs, maps = (
                np.stack([array[row, top:top + self.crop, left:left + self.crop]
                          for row, (top, left) in enumerate(corners)]) for array in (inputs, maps))
        if self.augment:
            ways = random.integers(8, size=len(rows))
            inputs, maps = (np.stack([turned(image, int(way))
                                      for image, way in zip(array, ways, strict=True)])
                            for array in (inputs, maps))
        return inputs, maps


def turned(image: np.ndarray, way: int) -> np.ndarray:
    """A square image `(size, size, c)` in one of its eight orientations, `way` 0 to 7."""
    image = np.rot90(image, way % 4)
    return image[:, ::-1] if way >= 4 else image


class WeightedSquaredError(keras.losses.Loss):
    """Mean squared error of maps, each map with a weight of its own."""

    def __init__(self, channel_weights=CHANNEL_WEIGHTS):
        super().__init__(name="weighted_squared_error")
        self.channel_weights = tuple(channel_weights)

    def call(self, y_true, y_pred):
        weights = keras.ops.convert_to_tensor(np.array(self.channel_weights, np.float32))
        return keras.ops.mean(weights * keras.ops.square(y_true - y_pred), axis=-1)


def fit_density(
    model: keras.Model,
    collection: Collection,
    preprocessing: Preprocessing,
    *,
    epochs: int = 40,
    learning_rate: float = 2e-3,
    batch_size: int = 8,
    crop: int | None = None,
    seed: int = 0,
    state_folder: str | Path | None = None,
) -> dict[str, list[float]]:
    """Train with Adam and a cosine-decaying learning rate, and keep the best epoch.

    "Best" is the lowest validation loss; the test part is never looked at. Fields are turned and
    mirrored.

    Args:
        model: Gives one map a class, in 0 … 255, and takes whole fields, or crops. Its weights
            are the best epoch's when this returns.
        collection: With `train` and `val` parts of annotated fields.
        preprocessing: From stored image to network input; square.
        epochs: Epochs.
        learning_rate: At the start; 0 at the end.
        batch_size: Fields a step.
        crop: Side of the squares cut out of the fields, at random in training.
        seed: Seed of order, crops and orientation.
        state_folder: Where weights and optimiser are kept after every epoch, so that an
            interrupted training continues; None keeps nothing.

    Returns:
        Keras' history: one list a metric, one number an epoch of this call.

    Raises:
        InputError: If the collection holds no annotated nuclei, or the loss becomes NaN.
    """
    if collection.task != "nuclei":
        raise InputError(f"{collection.name}: holds {collection.task} labels; density maps need "
                         "annotated nuclei")
    if preprocessing.size[0] != preprocessing.size[1]:
        raise InputError(f"fields are turned in training and must be square, not "
                         f"{preprocessing.size[0]}x{preprocessing.size[1]}")
    if crop is not None and not 0 < crop <= preprocessing.size[0]:
        raise InputError(f"--crop {crop}: fields have {preprocessing.size[0]} pixels a side")
    classes = len(collection.classes)
    train = DensityBatches(collection.train, preprocessing, batch_size, seed, True, crop, classes)
    val = DensityBatches(collection.val, preprocessing, batch_size, crop=crop, classes=classes)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(train))
    model.compile(optimizer=keras.optimizers.Adam(schedule),
                  loss=WeightedSquaredError(CHANNEL_WEIGHTS[:classes]))
    last = model.layers[-1]
    if getattr(last, "bias", None) is not None:
        last.bias.assign(np.full(last.bias.shape, START_BIAS, np.float32))
    callbacks = [keras.callbacks.TerminateOnNaN(),
                 keras.callbacks.EarlyStopping("val_loss", patience=epochs,
                                               restore_best_weights=True)]
    if state_folder is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(str(state_folder)))
    history = model.fit(train, validation_data=val, epochs=epochs, callbacks=callbacks,
                        shuffle=False, verbose=2).history
    if not np.isfinite(history.get("loss", [])).all():
        raise InputError(f"the loss became NaN at learning rate {learning_rate:g}; "
                         "give a smaller --lr")
    return history
