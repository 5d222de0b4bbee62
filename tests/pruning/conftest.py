"""Small networks of every shape that pruning must understand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

L = keras.layers


def chain(x):
    x = L.Conv2D(8, 3, padding="same", name="conv1", activation="relu")(x)
    x = L.MaxPooling2D(name="pool")(x)
    x = L.Conv2D(12, 3, name="conv2", use_bias=False)(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    x = L.Flatten(name="flatten")(x)
    return L.Dense(10, activation="relu", name="hidden")(x)


def residual(x):
    x = L.Conv2D(8, 3, padding="same", name="stem")(x)
    for block in (1, 2):
        y = L.Conv2D(8, 3, padding="same", name=f"conv{block}a", activation="relu")(x)
        y = L.Conv2D(8, 3, padding="same", name=f"conv{block}b")(y)
        x = L.Add(name=f"add{block}")([x, L.BatchNormalization(name=f"norm{block}")(y)])
        x = L.ReLU(name=f"relu{block}")(x)
    return L.GlobalAveragePooling2D(name="average")(x)


def dense_block(x):
    x = L.Conv2D(6, 3, padding="same", name="conv0")(x)
    for number in (1, 2):
        y = L.BatchNormalization(name=f"norm{number}")(x)
        y = L.Conv2D(4, 3, padding="same", name=f"conv{number}")(L.ReLU(name=f"relu{number}")(y))
        x = L.Concatenate(name=f"concat{number}")([x, y])
    x = L.Conv2D(7, 1, name="transition")(x)
    return L.GlobalMaxPooling2D(name="largest")(x)


def depthwise(x):
    """An inverted residual with squeeze-and-excitation, and a separable convolution."""
    x = L.Conv2D(6, 3, padding="same", name="stem")(x)
    y = L.Conv2D(12, 1, name="expand", activation="relu")(x)
    y = L.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = L.BatchNormalization(name="norm")(y)
    s = L.GlobalAveragePooling2D(name="squeeze")(y)
    s = L.Reshape((1, 1, 12), name="reshape")(s)
    s = L.Conv2D(3, 1, name="reduce", activation="relu")(s)
    s = L.Conv2D(12, 1, name="excite", activation="sigmoid")(s)
    y = L.Multiply(name="scaled")([y, s])
    y = L.Conv2D(6, 1, name="project")(y)
    x = L.Add(name="add")([x, y])
    x = L.SeparableConv2D(8, 3, depth_multiplier=2, name="separable")(x)
    x = L.Conv2DTranspose(5, 2, strides=2, name="up")(x)
    return L.GlobalAveragePooling2D(name="average")(x)


NETWORKS = {"chain": chain, "residual": residual, "dense_block": dense_block,
            "depthwise": depthwise}


@pytest.fixture
def network():
    """Builder of a network by name, with random weights, statistics and biases."""
    def build(name="chain", seed=0, classes=3) -> keras.Model:
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((8, 8, 1), name="image")
        outputs = L.Dense(classes, activation="softmax", name="predictions")(
            NETWORKS[name](inputs))
        model = keras.Model(inputs, outputs, name=name)
        rng = np.random.default_rng(seed)
        for layer in model.layers:
            for variable in layer.weights:
                if variable.name != "kernel" and len(variable.shape) == 1:
                    variable.assign(rng.uniform(0.2, 1, variable.shape))
        return model
    return build


@pytest.fixture
def images():
    """48 images and one-hot labels of three classes: which third is bright."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 48)
    x = rng.uniform(0, 0.5, (48, 8, 8, 1)).astype(np.float32)
    for row, one in enumerate(kind):
        x[row, one * 3:one * 3 + 2] += 0.5
    return x, np.eye(3, dtype=np.float32)[kind]
