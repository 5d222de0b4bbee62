"""Training on all GPUs of one machine with the result that one would give.

    with on_devices("mirrored"):
        model = build("small_cxr", (64, 64, 1), classes=14)
        synchronize(model)
        fit_classifier(model, …)

Every device computes its share of a batch (`tf.distribute.MirroredStrategy`); gradients are
summed, and BatchNormalization takes the whole batch's statistics, so the global batch decides the
result and not the number of devices. Several machines: Keras 3's `fit` does not run under
`MultiWorkerMirroredStrategy`; spread seeds and other work units over machines instead
(`search.scheduling`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from cxcompress.errors import InputError
from cxcompress.training.normalization import normalizations

STRATEGIES = ("none", "mirrored")


@contextmanager
def on_devices(strategy: str) -> Iterator[int]:
    """Models built or opened inside train on all devices; gives their number.

    Args:
        strategy: `"mirrored"`: all GPUs, or all logical CPU devices where there is no GPU.
            `"none"`: one device, as ever.

    Raises:
        InputError: If the strategy is unknown.
    """
    if strategy not in STRATEGIES:
        raise InputError(f"--strategy {strategy}: {' or '.join(STRATEGIES)}; Keras cannot fit "
                         "over several machines, spread seeds over them with --scheduler instead")
    if strategy == "none":
        yield 1
        return
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    # Collective operations of CPU devices mismatch where a step has two optimisers.
    reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    with tf.distribute.MirroredStrategy(devices, reduction).scope():
        yield len(devices)


def synchronize(model: keras.Model) -> None:
    """Let every BatchNormalization take its statistics of the batch of all devices together.

    Before a model of `on_devices` is trained; does nothing on one device.
    """
    if tf.distribute.has_strategy():
        for layer in normalizations(model):
            layer.synchronized = True


def on_one_device(model: keras.Model) -> keras.Model:
    """The same network and weights as an ordinary model, made outside `on_devices`."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    for layer in normalizations(copy):
        layer.synchronized = False
    return copy
