"""A small trained network and images that it was trained on, made once for all command tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("covid", "normal")
PER_CLASS = {"train": 40, "test": 30}


def draw(rng: np.random.Generator, positive: bool, size: int) -> np.ndarray:
    """A noisy square picture; positives have a faint bright spot somewhere in the middle."""
    y, x = np.mgrid[:size, :size] / size
    centre = rng.uniform(0.35, 0.65, 2)
    spot = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 0.02)
    picture = rng.normal(90, 30, (size, size)) + 90 * rng.uniform(0.6, 1.3) * positive * spot
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """`train|test/covid|normal/*`, of mixed size, mode and format."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part, count in PER_CLASS.items():
        for positive, name in enumerate(reversed(CLASSES)):
            target = folder / part / name
            target.mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(draw(rng, bool(positive), 24 + 8 * (number % 3)))
                if number % 4 == 1:
                    image = image.convert("RGB")
                suffix = "jpg" if number % 5 == 0 else "png"
                image.save(target / f"{number:03}.{suffix}", quality=95)
    return folder


@pytest.fixture(scope="session")
def trained_net(tmp_path_factory, image_folder) -> Path:
    """A small CNN with softmax over (covid, normal), trained on the folder scaled to 0–1."""
    import keras

    from cxcompress.data import open_collection
    from cxcompress.images import Preprocessing

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((24, 24, 1)),
        keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.MaxPooling2D(2),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(2, activation="softmax"),
    ])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    train = open_collection(image_folder).train
    inputs = Preprocessing.preset("0-1", (24, 24), 1).batch(train.images)
    model.fit(inputs, train.labels, epochs=25, batch_size=20, verbose=0)
    path = tmp_path_factory.mktemp("net") / "spots.h5"
    model.save(path)
    return path
