"""A compressed classifier in a file, made without training: its weights are noise."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import cxcompress
from cxcompress.data.collection import Collection, Part


def noise_images(count: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 1), np.uint8)


@pytest.fixture(scope="session")
def compressed(tmp_path_factory):
    """`(path, result, model)`: uUQ of a small network with BatchNormalization, all plans."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((16, 16, 1)),
        layers.Conv2D(16, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.Conv2D(32, 3, strides=2), layers.BatchNormalization(), layers.ReLU(),
        layers.GlobalAveragePooling2D(), layers.Dense(3, activation="sigmoid")])
    images = noise_images(90)
    names = np.arange(90).astype(str)
    labels = np.random.default_rng(1).integers(0, 2, (90, 3)).astype(np.float32)
    whole = Part(images, labels, names, names)
    parts = {name: whole.select(np.arange(90)[start::3])
             for start, name in enumerate(("train", "val", "test"))}
    collection = Collection("noise", "multilabel", ("effusion", "mass", "nodule"), **parts)
    result = cxcompress.compress(model, collection, "uUQ", k=255, preprocessing="0-1",
                                 sensitivity=False)
    path = tmp_path_factory.mktemp("runtime") / "model-uUQ.h5"
    result.save(path)
    return path, result, model
