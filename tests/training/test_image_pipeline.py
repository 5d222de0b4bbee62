"""The pipeline gives Preprocessing's bits, each image once an epoch, the same whatever happens."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Part
from cxcompress.data.image_folder import ImageFiles
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.training.image_pipeline import ImagePipeline, InputCache

SIZE = Preprocessing.preset("imagenet", (12, 12), 3)


@pytest.fixture
def part(tmp_path):
    """33 grey pictures of mixed size, read when asked for."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(33):
        paths.append(tmp_path / f"{number:02d}.png")
        side = 16 + number % 3
        Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(paths[-1])
    labels = np.eye(33, dtype=np.float32)
    ids = np.arange(33).astype(str)
    return Part(ImageFiles(paths), labels, ids, ids)


def epoch(pipeline, number=0):
    pipeline.epoch = number
    batches = list(pipeline.dataset.as_numpy_iterator())
    return np.concatenate([one for one, _ in batches]), np.concatenate([one for _, one in batches])


def test_inputs_are_preprocessings_bit_for_bit(part):
    inputs, labels = epoch(ImagePipeline(part, SIZE, 8))
    np.testing.assert_array_equal(inputs, SIZE.batch(part.images))
    np.testing.assert_array_equal(labels, part.labels)


@pytest.mark.parametrize("cache", [None, "memory", "folder"])
def test_epochs_repeat_and_differ(part, tmp_path, cache):
    cache = tmp_path / "kept" if cache == "folder" else cache
    make = lambda at_once: ImagePipeline(part, SIZE, 8, seed=3, augmentation=Augmentation(),  # noqa: E731
                                         cache=cache, at_once=at_once)
    one, other = make(4), make(1)
    first, again = epoch(one, 2), epoch(other, 2)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(np.sort(first[1].argmax(1)), np.arange(33))
    assert not np.array_equal(first[1], epoch(one, 3)[1])


def test_a_cache_reads_each_picture_once_and_lasts(part, tmp_path):
    folder = tmp_path / "kept"
    expected = SIZE.batch(part.images)
    epoch(ImagePipeline(part, SIZE, 8, cache=folder))
    for path in part.images.paths:
        path.write_bytes(path.read_bytes())     # another time: another file, so another cache
    assert len(list(folder.iterdir())) == 2
    kept = InputCache(part, SIZE, folder)
    assert not kept.there.any() and len(list(folder.iterdir())) == 4
    kept.inputs(np.arange(5))
    again = InputCache(part, SIZE, folder)
    assert again.there.sum() == 5
    np.testing.assert_array_equal(again.inputs(np.array([7, 2])), expected[[7, 2]])
    for damaged in sorted(folder.glob("*.npy")):
        damaged.write_bytes(b"cut short")
        np.testing.assert_array_equal(InputCache(part, SIZE, folder).inputs(np.array([1])),
                                      expected[[1]])


def test_a_picture_that_cannot_be_read_is_named(part):
    import tensorflow as tf

    part.images.paths[20].write_bytes(b"no picture")
    pipeline = ImagePipeline(part, SIZE, 8)
    with pytest.raises(tf.errors.OpError):
        epoch(pipeline)
    assert isinstance(pipeline.failure, InputError) and "20.png" in str(pipeline.failure)


def test_flips_mirror_and_turned_changes_nothing_else():
    images = np.random.default_rng(0).random((400, 5, 5, 1)).astype(np.float32)
    moved = Augmentation.turned(0.0, 0.5)(images, np.random.default_rng(1))
    mirrored = np.isclose(moved, images[:, :, ::-1], atol=1e-5).all((1, 2, 3))
    same = np.isclose(moved, images, atol=1e-5).all((1, 2, 3))
    assert (mirrored | same).all() and 150 < mirrored.sum() < 250
    with pytest.raises(ValueError, match="flip"):
        Augmentation(flip=1.5)
