"""Two logical CPU devices train as one does with the same global batch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cxcompress.errors import InputError
from cxcompress.training.devices import on_devices

SCRIPT = """
import json, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from cxcompress import models
from cxcompress.data import open_collection
from cxcompress.images import Preprocessing
from cxcompress.pipeline.inputs import Study
from cxcompress.pipeline.sharing import share_model
from cxcompress.pipeline.tuning import FineTuning, tune
from cxcompress.quantization import Compression
from cxcompress.tasks import get
from cxcompress.training import fit_classifier
from cxcompress.training.devices import on_devices, on_one_device, synchronize

collection = open_collection("synthetic:cxr", size=28, count=240, seed=0)
preprocessing = Preprocessing.preset("0-1", (28, 28), 1)
study = Study(collection, get(collection.task, collection.classes), preprocessing)
found = {}
for strategy in ("none", "mirrored"):
    with on_devices(strategy) as devices:
        keras.utils.set_random_seed(0)
        model = models.build("tiny_cxr", (28, 28, 1), len(collection.classes),
                             activation="sigmoid")
        synchronize(model)
        fitted = fit_classifier(model, collection, preprocessing, epochs=2, batch_size=42)
    if strategy == "none":
        start = on_one_device(model)
    compression = Compression.parse("uUQ", clustercnn=16, clusterfc=16)
    tuned, _ = tune(start, share_model(start, compression), study,
                    FineTuning(2, batch_size=42, strategy=strategy), compression)
    found[strategy] = {"devices": devices, "training": fitted["val_loss"],
                       "fine-tuning": list(tuned.history["val_loss"])}
json.dump(found, open(sys.argv[1], "w"))
"""


@pytest.mark.slow
def test_two_devices_give_what_one_gives(tmp_path):
    said = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "found.json"],
                          capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["none"]["devices"], found["mirrored"]["devices"]) == (1, 2)
    for name in ("training", "fine-tuning"):
        one, two = found["none"][name], found["mirrored"][name]
        # Adam turns rounding into steps, so the runs part slowly.
        assert two == pytest.approx(one, rel=0.02), (name, one, two)
        assert abs(one[-1] - one[0]) > 0.02


def test_other_strategies_are_refused():
    with pytest.raises(InputError, match="several machines"), on_devices("multi_worker"):
        pass
