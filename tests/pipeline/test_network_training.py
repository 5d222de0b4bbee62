"""Networks trained one after the other: each as if it were alone, judged by several checkpoints."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from cxcompress import tasks
from cxcompress.data import open_collection, with_validation
from cxcompress.images import Preprocessing
from cxcompress.pipeline.inputs import Study, evenly
from cxcompress.pipeline.network_training import (
    NetworkTrainer,
    TrainingSettings,
    _last_map,
)

SETTINGS = TrainingSettings(epochs=3, learning_rate=3e-3, batch_size=32, patience=5, checkpoints=2,
                            statistics=64)


@pytest.fixture(scope="module")
def study():
    collection = with_validation(open_collection("synthetic:cxr", size=28, count=200, seed=3))
    return Study(collection, tasks.get(collection.task, collection.classes),
                 Preprocessing.preset("0-1", (28, 28), 1))


def network(seed, filters=6):
    keras.utils.set_random_seed(seed)
    images = keras.Input((28, 28, 1), name="image")
    x = keras.layers.Conv2D(filters, 3, strides=4, name="conv")(images)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Dropout(0.3, name="dropout")(x)  # its random numbers are a training's too
    return keras.Model(images, keras.layers.Dense(14, activation="sigmoid",
                                                  name="predictions")(x), name="tiny")


def test_a_training_is_the_same_whatever_was_trained_before(study):
    alone = NetworkTrainer(study, SETTINGS).train(network(0), 0)
    trainer = NetworkTrainer(study, SETTINGS)
    first = trainer.train(network(1), 1)
    second = trainer.train(network(0), 0)
    assert second.model is first.model  # its traced step served again
    mean = np.asarray(second.model.get_layer("bn").moving_mean)
    seen = study.preprocessing.batch(evenly(study.collection.train, 64).images)
    convolved = np.asarray(second.model.get_layer("conv")(seen))
    np.testing.assert_allclose(mean, convolved.mean(axis=(0, 1, 2)), atol=0.01)
    np.testing.assert_array_equal(second.record.score, alone.record.score)
    assert second.facts == alone.facts
    assert not np.array_equal(first.record.score, second.record.score)
    wider = trainer.train(network(0, filters=8), 0)
    assert wider.model is not second.model
    assert wider.facts["parameters"] > second.facts["parameters"]


def test_predictions_are_the_mean_of_the_best_checkpoints(study):
    best, mean = (NetworkTrainer(study, replace(SETTINGS, checkpoints=count)).train(network(0), 0)
                  for count in (1, 9))
    assert best.facts["checkpoints"] == [best.facts["best_epoch"]]
    assert sorted(mean.facts["checkpoints"]) == [0, 1, 2]
    assert mean.facts["checkpoints"][0] == best.facts["best_epoch"]
    # Either way the model left behind is that of the best epoch.
    part, _ = study.judged_part("test", [])
    np.testing.assert_allclose(study.record(mean.model, part, 48, "Test").score,
                               best.record.score, atol=1e-6)
    assert not np.allclose(mean.record.score, best.record.score, atol=1e-4)


@pytest.mark.parametrize("name", ["mobilenetv3", "efficientnetb0"])
def test_the_last_map_is_the_heads_though_squeeze_and_excitation_pools_too(name):
    from cxcompress import models

    model = models.build(name, (64, 64, 1), 2)
    assert _last_map(model) == (2, 2)
    assert _last_map(models.truncate(model, 1))[0] >= 2
