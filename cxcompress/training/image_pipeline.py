"""From picture files to batches of network inputs, on as many cores as there are (`tf.data`).

    pipeline = ImagePipeline(collection.train, preprocessing, 32, seed=0, cache="memory")
    pipeline.epoch = 3                      # another order and other changes in every epoch
    for inputs, labels in pipeline.dataset: ...

Pictures are decoded and resized by `images.Preprocessing`, the very code that the runtime uses,
in a few batches at once: Pillow lets go of Python's lock while it decodes and resizes, so that
threads fill the cores. Batches are the same for the same seed and epoch, whatever the number of
threads, and so is a training that was interrupted.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Part, Selection
from cxcompress.data.image_folder import ImageFiles
from cxcompress.data.joining import EndToEnd
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing

BATCHES_AT_ONCE = 4
"""Batches being decoded at the same time."""


class ImagePipeline:
    """Batches of a part, as a `tf.data.Dataset` that starts anew each epoch.

    Args:
        part: Images and labels `(n, c)`.
        preprocessing: From stored image to network input.
        batch_size: Images a batch.
        seed: Of the order and of augmentation; None keeps the stored order.
        augmentation: Random changes of every image, drawn anew each epoch.
        label_smoothing: Share of every label that is spread evenly.
        exclusive: Whether an image has one label only; None looks at each batch.
        cache: None, `"memory"` or a folder: inputs are decoded once and kept, 4 bytes a number.
        at_once: Batches being decoded at the same time.

    Attributes:
        epoch: Which epoch the next iteration is.
        failure: The bad image that stopped an iteration; TensorFlow hides the exception itself.
    """

    def __init__(self, part: Part, preprocessing: Preprocessing, batch_size: int, *,
                 seed: int | None = None, augmentation: Augmentation | None = None,
                 label_smoothing: float = 0.0, exclusive: bool | None = None,
                 cache: str | Path | None = None, at_once: int = BATCHES_AT_ONCE):
        self.part, self.preprocessing, self.batch_size = part, preprocessing, batch_size
        self.seed, self.augmentation, self.epoch = seed, augmentation, 0
        self.label_smoothing, self.exclusive = label_smoothing, exclusive
        self.cache = None if cache is None else InputCache(part, preprocessing, cache)
        self.failure: InputError | None = None
        shape = (None, *preprocessing.size, preprocessing.channels)
        width = part.labels.shape[1]
        rows = tf.data.Dataset.from_generator(self._rows, output_signature=(
            tf.TensorSpec((None,), tf.int64), tf.TensorSpec((2,), tf.int64)))

        def batch(rows, place):
            inputs, labels = tf.numpy_function(self._batch, (rows, place),
                                               (tf.float32, tf.float32))
            return tf.ensure_shape(inputs, shape), tf.ensure_shape(labels, (None, width))

        self.dataset = (rows.map(batch, num_parallel_calls=at_once, deterministic=True)
                        .apply(tf.data.experimental.assert_cardinality(len(self)))
                        .prefetch(1))

    def __len__(self) -> int:
        return math.ceil(len(self.part) / self.batch_size)

    def _rows(self):
        epoch, order = self.epoch, np.arange(len(self.part))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for position in range(len(self)):
            start = position * self.batch_size
            yield order[start:start + self.batch_size], (epoch, position)

    def _batch(self, rows: NDArray, place: NDArray) -> tuple[NDArray, NDArray]:
        from cxcompress.training.fitting import smoothed

        try:
            inputs = (self.preprocessing.batch(self.part.select(rows).images)
                      if self.cache is None else self.cache.inputs(rows))
        except InputError as error:
            self.failure = error
            raise
        if self.augmentation is not None:
            inputs = self.augmentation(
                inputs, np.random.default_rng((self.seed or 0, *map(int, place))))
        labels = smoothed(self.part.labels[rows], self.label_smoothing, self.exclusive)
        return inputs.astype(np.float32, copy=False), labels.astype(np.float32, copy=False)


class InputCache:
    """Network inputs that are computed once and kept, in memory or in a file.

    Args:
        part: Images.
        preprocessing: Of them.
        where: `"memory"`, or a folder; the file in it is named by the images and the
            preprocessing, and a later run goes on with it.

    Raises:
        InputError: If the folder cannot be written.
    """

    def __init__(self, part: Part, preprocessing: Preprocessing, where: str | Path):
        self.part, self.preprocessing = part, preprocessing
        shape = (len(part), *preprocessing.size, preprocessing.channels)
        if where == "memory":
            self.kept, self.there = np.empty(shape, np.float32), np.zeros(len(part), bool)
            return
        stem = Path(where) / f"inputs-{_fingerprint(part, preprocessing)}"
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            self.kept, fresh = _kept_array(stem.with_suffix(".npy"), shape, np.float32)
            self.there, _ = _kept_array(stem.with_suffix(".there.npy"), shape[:1], np.bool_)
            if fresh:  # what was there lay in a file that is lost
                self.there[:] = False
        except OSError as error:
            raise InputError(f"{stem.parent}: cannot keep {4 * math.prod(shape) / 1e9:.1f} GB of "
                             f"network inputs ({error.strerror or error})") from error

    def inputs(self, rows: NDArray) -> NDArray[np.float32]:
        """The inputs of `rows`, float32 `(len(rows), height, width, channels)`."""
        missing = rows[~self.there[rows]]
        if len(missing):
            self.kept[missing] = self.preprocessing.batch(self.part.select(missing).images)
            self.there[missing] = True
        return np.asarray(self.kept[rows])


def _kept_array(path: Path, shape: tuple[int, ...], dtype) -> tuple[NDArray, bool]:
    """The array in a file, and whether it was begun anew."""
    if path.exists():
        try:
            found = np.lib.format.open_memmap(path, mode="r+")
            if found.shape == shape and found.dtype == dtype:
                return found, False
        except (ValueError, OSError):
            pass  # cut short when its run was: begun again
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape), True


def _fingerprint(part: Part, preprocessing: Preprocessing) -> str:
    """Names the images, by their files' size and time where they lie in files."""
    digest = hashlib.sha256(repr(preprocessing.to_dict()).encode())
    for row in range(len(part)):
        path = _path(part.images, row)
        if path is None:
            digest.update(np.ascontiguousarray(part.images[row]))
        else:
            status = path.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _path(images, row: int) -> Path | None:
    """The file of an image that is read when asked for; None for an array."""
    if isinstance(images, ImageFiles):
        return Path(images.paths[row])
    if isinstance(images, Selection):
        return _path(images.items, int(images.rows[row]))
    if isinstance(images, EndToEnd):
        split = len(images.first)
        return _path(*((images.first, row) if row < split else (images.second, row - split)))
    return None
