"""The same small network, saved by the Keras release that runs this.

    python -m venv /tmp/k2 && /tmp/k2/bin/pip install tensorflow-cpu==2.12.1
    /tmp/k2/bin/python tests/compatibility/make_keras_models.py
    /tmp/k3/bin/python tests/compatibility/make_keras_models.py      # with any Keras 3
    python tests/compatibility/make_keras_models.py tf_keras         # the legacy package

Weights come from arithmetic (`set_weights`), so every release saves the same network.
`outputs.json` holds what it answers, as the first release that ran this computed it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).parent


def network(keras):
    """Convolutions, BatchNormalization, a depthwise kernel, a shortcut and a dense head."""
    layers = keras.layers
    inputs = keras.Input((12, 12, 1), name="picture")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("relu", name="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Add(name="shortcut")([x, y])
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Conv2D(5, 3, activation="relu", name="block/conv" if old(keras) else "block_conv")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    outputs = layers.Dense(3, activation="softmax", name="head")(x)
    return keras.Model(inputs, outputs, name="small")


def old(keras) -> bool:
    """Whether this is Keras 2, where names may hold a slash."""
    return keras.__version__.startswith("2")


def set_weights(model) -> None:
    """Numbers between −0.5 and 0.5 that look random; variances positive."""
    start, found = 0, []
    for shape in (np.shape(weight) for weight in model.get_weights()):
        size = int(np.prod(shape))
        number = (np.arange(start, start + size, dtype=np.uint64) * np.uint64(2654435761)
                  % np.uint64(1 << 32))
        found.append((number.astype(np.float64) / 2**32 - 0.5).astype(np.float32).reshape(shape))
        start += size
    norm = [place for place, weight in enumerate(model.weights) if "variance" in weight.name]
    for place in norm:
        found[place] = np.abs(found[place]) + np.float32(0.5)
    model.set_weights(found)


def picture() -> np.ndarray:
    """float32 `(2, 12, 12, 1)`."""
    number = np.arange(2 * 144, dtype=np.uint64) * np.uint64(2246822519) % np.uint64(1 << 32)
    return (number.astype(np.float64) / 2**32).astype(np.float32).reshape(2, 12, 12, 1)


def main() -> None:
    keras = importlib.import_module(sys.argv[1] if len(sys.argv) > 1 else "keras")
    model = network(keras)
    set_weights(model)
    stem = f"{keras.__name__}-{keras.__version__}"
    folder = HERE / "keras_models"
    folder.mkdir(exist_ok=True)
    model.save(folder / f"{stem}.h5")
    print(stem, "h5", flush=True)
    try:
        model.save(folder / f"{stem}.keras")
    except (ValueError, ImportError) as error:  # before 2.12
        print(error)
    answers = HERE / "outputs.json"
    if not answers.exists():
        answers.write_text(json.dumps(np.asarray(model(picture())).tolist()))


if __name__ == "__main__":
    main()
