"""A Keras model as a LiteRT flatbuffer, converted in a child process.

    flatbuffer = convert(model, ["static_int8"], calibration=images)["static_int8"]

The stock converter can crash its process (static conversion of an LSTM does) or never end, so it
runs in one of its own. The batch is fixed to 1: with an open batch, dilated convolutions stay
SPACE_TO_BATCH with unfolded BatchNormalization, and LSTM does not convert.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.runs import atomic_path
from cxcompress.runtime import PLANS

TIME_LIMIT = 900
"""Seconds after which a conversion is given up."""
CALIBRATION_IMAGES = 64
"""Most images that activation ranges are taken from."""


class ConversionError(RuntimeError):
    """The stock converter refused the model, crashed, or took too long; the message is one line."""


def convert(
    model: keras.Model, plans: Sequence[str], weights: Mapping[str, NDArray] | None = None,
    calibration: NDArray | None = None, time_limit: float = TIME_LIMIT,
) -> dict[str, bytes | ConversionError]:
    """The model as the stock converter writes it, for a batch of 1.

    Args:
        model: Built, with one input and one output.
        plans: Of `PLANS`, converted one after the other: a crash costs those behind it.
        weights: By path, instead of the model's own.
        calibration: Inputs `(n, …)` as the model takes them, for `"static_int8"`.
        time_limit: Seconds for all.

    Returns:
        By plan a LiteRT flatbuffer, or why there is none.

    Raises:
        ValueError: If a plan is unknown, or static without calibration inputs.
    """
    if unknown := [plan for plan in plans if plan not in PLANS]:
        raise ValueError(f"plans are {', '.join(PLANS)}. Received: {', '.join(unknown)}")
    if "static_int8" in plans and (calibration is None or not len(calibration)):
        raise ValueError("static_int8 needs calibration inputs")
    with tempfile.TemporaryDirectory(prefix="cxcompress-") as folder:
        folder = Path(folder)
        (folder / "model.json").write_text(models.architecture_json(model))
        np.savez(folder / "weights.npz", **(models.weights(model) | dict(weights or {})))
        if "static_int8" in plans:
            np.save(folder / "calibration.npy", np.asarray(calibration, np.float32))
        try:
            child = subprocess.run(
                [sys.executable, "-m", __name__, str(folder), *plans], capture_output=True,
                text=True, timeout=time_limit, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
            ended = (f"the converter crashed (signal {-child.returncode})"
                     if child.returncode < 0 else _cause(child.stderr))
        except subprocess.TimeoutExpired:
            ended = f"not converted within {time_limit:.0f} s"
        found: dict[str, bytes | ConversionError] = {}
        for plan in plans:
            if (written := folder / f"{plan}.tflite").exists():
                found[plan] = written.read_bytes()
            elif (refused := folder / f"{plan}.error").exists():
                found[plan] = ConversionError(_cause(refused.read_text()))
            else:
                found[plan] = ConversionError(ended)
        return found


def _cause(said: str) -> str:
    """The line of the converter's output that says most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for pattern in (r"error: (.+)", r"\w*Error: (.+)"):
        for line in lines:
            if found := re.search(pattern, line):
                return found[1][:200]
    return lines[-1][:200] if lines else "the converter failed without a word"


def _convert_here(folder: Path, plans: Sequence[str]) -> None:
    import tensorflow as tf

    inner = models.model_from_architecture((folder / "model.json").read_text())
    with np.load(folder / "weights.npz", allow_pickle=False) as file:
        models.set_weights(inner, dict(file))
    shape = inner.inputs[0].shape
    inputs = keras.Input(batch_shape=(1, *shape[1:]), dtype=inner.inputs[0].dtype)
    wrapped = keras.Model(inputs, inner(inputs))
    for plan in plans:
        converter = tf.lite.TFLiteConverter.from_keras_model(wrapped)
        if plan != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if plan == "static_int8":
            images = np.load(folder / "calibration.npy", allow_pickle=False)
            converter.representative_dataset = lambda images=images: (
                [image[None]] for image in images)
        try:
            flatbuffer = converter.convert()
        except Exception as error:  # whatever it is, the parent reports it for this plan
            (folder / f"{plan}.error").write_text(f"{type(error).__name__}: {error}")
            continue
        with atomic_path(folder / f"{plan}.tflite") as temporary:
            Path(temporary).write_bytes(flatbuffer)


if __name__ == "__main__":
    _convert_here(Path(sys.argv[1]), sys.argv[2:])
