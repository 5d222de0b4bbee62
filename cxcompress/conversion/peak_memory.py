"""Peak memory of a whole process that loads a model and answers once, measured in a child.

    peak_memory_bytes("keras", "model.h5")               # TensorFlow, Keras and float weights
    peak_memory_bytes("index_map", "model-uCWS.h5")      # the index-map graph instead

A process cannot give its peak back, so every variant gets a fresh one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cxcompress.runtime.measuring import own_peak_bytes

VARIANTS = ("keras", "index_map")
TIME_LIMIT = 600
"""Seconds after which a child is given up."""


def peak_memory_bytes(variant: str, path: str | Path, batch_size: int = 1) -> int:
    """Peak resident memory, in bytes, of a process that loads `path` and predicts three times.

    Args:
        variant: `"keras"` for a model file, `"index_map"` for a container.
        path: The file.
        batch_size: Images a prediction.

    Raises:
        RuntimeError: If the child fails; the message is its own.
    """
    child = subprocess.run(
        [sys.executable, "-m", __name__, variant, str(path), str(batch_size)],
        capture_output=True, text=True, timeout=TIME_LIMIT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if child.returncode:
        raise RuntimeError(f"measuring the memory of {path} failed: "
                           f"{child.stderr.strip().splitlines()[-1:]}")
    return int(child.stdout.split()[-1])


def _predict_and_report(variant: str, path: str, batch_size: int) -> None:
    import tensorflow as tf

    from cxcompress import models
    from cxcompress.conversion.index_map_graph import IndexMapGraph
    from cxcompress.storage import read_container

    if variant == "keras":
        model = models.load_model(path)
        call = tf.function(model)
    else:
        container = read_container(path)
        model = models.model_from_architecture(container.architecture)
        call = IndexMapGraph(model, container.shared, batch_size=batch_size)
        del container
    shape = model.inputs[0].shape
    if variant != "keras":
        del model  # with it go the float kernels
    inputs = tf.zeros((batch_size, *shape[1:]), tf.float32)
    for _ in range(3):
        np.asarray(call(inputs))
    print(own_peak_bytes())


if __name__ == "__main__":
    _predict_and_report(sys.argv[1], sys.argv[2], int(sys.argv[3]))
