"""Fitting a network of density maps, such as PathoNet, to fields of annotated nuclei.

    history = fit_density(model, collection, preprocessing, epochs=40, seed=0)
"""

from __future__ import annotations

import math
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxcompress.data.collection import Collection, Part
from cxcompress.data.density_maps import REACH, density_maps
from cxcompress.data.orientations import oriented
from cxcompress.data.stain_augmentation import StainAugmentation
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.training.compilation import compile_with_optimizer
from cxcompress.training.losses import CHANNEL_WEIGHTS

RECIPES = ("cosine", "paper")
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
        stain: Changes of stain and light; inputs of 0 to 1 only. None changes nothing.
        zoom: The square that is cut out is up to this many times larger or smaller, and resized;
            1 keeps the scale.
    """

    def __init__(self, part: Part, preprocessing: Preprocessing, batch_size: int,
                 seed: int | None = None, augment: bool = False, crop: int | None = None,
                 classes: int = 3, stain: StainAugmentation | None = None, zoom: float = 1.0):
        super().__init__()
        self.stain, self.zoom = stain, zoom
        self.part, self.preprocessing, self.batch_size = part, preprocessing, batch_size
        self.seed, self.augment, self.crop, self.classes = seed, augment, crop, classes
        self.epoch = -1
        self.on_epoch_begin()

    @property
    def drawn_anew(self) -> bool:
        """Whether a field looks another way in every epoch."""
        return self.seed is not None and (
            self.augment or self.crop is not None or self.stain is not None)

    def on_epoch_begin(self):
        self.epoch += 1
        self.order = np.arange(len(self.part))
        if self.seed is not None:
            self.order = np.random.default_rng((self.seed, self.epoch)).permutation(self.order)

    def __len__(self):
        return math.ceil(len(self.part) / self.batch_size)

    def __getitem__(self, position: int):
        rows = self.order[position * self.batch_size:(position + 1) * self.batch_size]
        # Without a seed every epoch gets the same crops, so that validation losses compare.
        random = np.random.default_rng(
            (self.seed or 0, self.epoch if self.seed is not None else 0, position))
        pairs = [self._pair(int(row), random) for row in rows]
        return tuple(np.stack(side) for side in zip(*pairs, strict=True))

    def _pair(self, row: int, random: np.random.Generator) -> tuple[NDArray, NDArray]:
        """One input and its maps, float32 `(side, side, channels)` and `(side, side, classes)`."""
        image = self.part.images[row]
        size = self.preprocessing.size
        factors = np.array([size[1] / image.shape[1], size[0] / image.shape[0]])
        places = self.part.labels[row][:, :2] * factors
        labels = self.part.labels[row][:, 2:]
        inputs, side = self.preprocessing(image), size[0]
        if self.crop is not None:
            side = self.crop
            cut = min(round(side * self.zoom ** random.uniform(-1, 1)), *size)
            top, left = random.integers(0, np.array(size) - cut + 1)
            inputs = resized(inputs[top:top + cut, left:left + cut], side)
            places = (places - (left, top)) * (side / cut)
        # A margin, so that peaks of cells just outside reach in.
        places = np.floor(places).astype(np.int64) + 2 * REACH
        maps = density_maps(np.concatenate([places, labels], axis=1), (side + 4 * REACH,) * 2,
                            self.classes)[2 * REACH:-2 * REACH, 2 * REACH:-2 * REACH]
        if self.stain is not None:
            inputs = self.stain(inputs, random)
        if self.augment:
            way = int(random.integers(8))
            inputs, maps = oriented(inputs, way), oriented(maps, way)
        return inputs, maps


def resized(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """A float image `(h, w, c)` at `(side, side, c)`, bilinear."""
    if image.shape[:2] == (side, side):
        return image
    return np.stack([
        np.asarray(Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(
            (side, side), Image.Resampling.BILINEAR)) for channel in range(image.shape[-1])], -1)


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
    recipe: str = "cosine",
    stain: StainAugmentation | None = None,
    zoom: float = 1.0,
    start_bias: bool = True,
) -> dict[str, list[float]]:
    """Train with Adam, and keep the best epoch.

    "Best" is the lowest validation loss; the test part is never looked at. Fields are turned and
    mirrored.

    Args:
        model: Gives one map a class, in 0 … 255, and takes whole fields, or crops. Its weights
            are the best epoch's when this returns.
        collection: With `train` and `val` parts of annotated fields.
        preprocessing: From stored image to network input; square.
        epochs: Epochs.
        learning_rate: At the start.
        batch_size: Fields a step.
        crop: Side of the squares cut out of the fields, at random in training.
        seed: Seed of order, crops and orientation.
        state_folder: Where weights and optimiser are kept after every epoch, so that an
            interrupted training continues; None keeps nothing.
        recipe: `"cosine"`: the learning rate falls to 0 on a cosine, and lymphocytes count
            twice in the loss. `"paper"` (Negahbani et al. 2021): plain squared error, the
            learning rate as given for a third of the epochs, a hundredth and then a thousandth
            of it for the others.
        stain, zoom: Of training fields, as for `DensityBatches`.
        start_bias: Whether the maps' biases start at `START_BIAS`; not for a trained network.

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
    train = DensityBatches(collection.train, preprocessing, batch_size, seed, True, crop, classes,
                           stain, zoom)
    val = DensityBatches(collection.val, preprocessing, batch_size, crop=crop, classes=classes)
    paper = recipe == "paper"
    weights = (1.0,) * classes if paper else CHANNEL_WEIGHTS[:classes]
    compile_with_optimizer(model, keras.optimizers.Adam(
        _schedule(recipe, learning_rate, epochs * len(train))), WeightedSquaredError(weights))
    last = model.layers[-1]
    if start_bias and not paper and getattr(last, "bias", None) is not None:
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


def _schedule(recipe: str, learning_rate: float, steps: int):
    schedules = keras.optimizers.schedules
    if recipe == "cosine":
        return schedules.CosineDecay(learning_rate, steps)
    if recipe == "paper":
        return schedules.PiecewiseConstantDecay(
            [steps // 3, 2 * steps // 3],
            [learning_rate, learning_rate / 100, learning_rate / 1000])
    raise ValueError(f"recipe is one of {', '.join(RECIPES)}. Received: {recipe!r}")
