"""Small networks and their shared weights, quick to train."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.data.collection import Part
from cxcompress.images import Preprocessing
from cxcompress.quantization import Compression, share_weights
from cxcompress.representation import SharedWeights
from cxcompress.training import PartBatches


@pytest.fixture
def small_network():
    """Builder of a network with two convolutions, BatchNormalization, dropout and two dense
    layers; `dtype` is its policy."""
    def build(activation="softmax", dtype=None, classes=3, dropout=0.2, seed=0):
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        return keras.Sequential([
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3, name="conv1", dtype=dtype),
            layers.BatchNormalization(momentum=0.8, name="norm", dtype=dtype),
            layers.Activation("tanh", dtype=dtype),
            layers.Conv2D(8, 3, name="conv2", dtype=dtype, activation="tanh"),
            layers.Flatten(dtype=dtype),
            layers.Dropout(dropout, dtype=dtype),
            layers.Dense(20, name="dense1", dtype=dtype, activation="tanh"),
            layers.Dense(classes, name="dense2", activation=activation,
                         dtype="float64" if dtype == "float64" else "float32"),
        ], name="small")
    return build


@pytest.fixture
def share():
    """Shared weights of a model by the name of a compression, e.g. `"uUQ"`."""
    def share(model, name="uUQ", k=5, **flags) -> SharedWeights:
        shared = share_weights(
            {kernel.path: (np.asarray(kernel.variable), kernel.family)
             for kernel in models.kernels(model)},
            Compression.parse(name, clustercnn=k, clusterfc=k, **flags))
        left = {path: value for path, value in models.weights(model).items()
                if path not in shared.kernels}
        return replace(shared, unshared=left | dict(shared.unshared))
    return share


@pytest.fixture
def stripes():
    """Builder of batches of 8×8 images in three classes: which third is bright."""
    def part(count, seed) -> Part:
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 3, count)
        images = rng.integers(0, 120, (count, 8, 8, 1))
        for row, one in enumerate(kind):
            images[row, one * 3:one * 3 + 2] += 110
        names = np.array([f"{seed}-{number}" for number in range(count)])
        return Part(images.astype(np.uint8), np.eye(3, dtype=np.float32)[kind], names, names)

    def batches(count=48, seed=1, shuffled: int | None = 0) -> PartBatches:
        return PartBatches(part(count, seed), Preprocessing((8, 8), 1), 16, shuffled)
    return batches
