"""BatchNormalization statistics after quantisation: estimated, kept, and said so."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.quantization import Compression
from tests.pipeline.test_compressing import collection, compress

PARTS = ("train", "val", "test")


@pytest.fixture(scope="module")
def normalised():
    """A trained network that has BatchNormalization."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((12, 12, 1)), layers.Conv2D(8, 3), layers.BatchNormalization(momentum=0.5),
        layers.ReLU(), layers.Conv2D(16, 3), layers.BatchNormalization(momentum=0.5),
        layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy")
    part = collection(parts=PARTS).train
    model.fit(part.images / 255.0, part.labels, epochs=40, verbose=0)
    return model


def statistics(result) -> dict[str, np.ndarray]:
    return {path: array for path, array in result.container.shared.unshared.items()
            if "moving" in path}


def compressed(model, bn_statistics, k=3, parts=PARTS, **settings):
    return compress(model, collection(parts=parts), Compression.parse(
        "uUQ", clustercnn=k, clusterfc=256), preprocessing="0-1", sensitivity=False,
        bn_statistics=bn_statistics, **settings)


def test_few_shared_values_get_new_statistics_where_these_help(normalised):
    before = models.weights(normalised)
    kept, auto = (compressed(normalised, choice) for choice in ("keep", "auto"))
    assert all(np.array_equal(value, before[path]) for path, value in statistics(kept).items())
    assert any("statistics estimated again on 30 training images" in note for note in auto.notes)
    assert auto.container.card.provenance["bn_statistics"] == "estimated"
    assert auto.after["cross_entropy"].value < kept.after["cross_entropy"].value
    for path, kernel in kept.container.shared.kernels.items():
        np.testing.assert_array_equal(kernel.indices, auto.container.shared.kernels[path].indices)
    assert all(np.array_equal(models.weights(normalised)[path], before[path]) for path in before)


def test_what_is_no_clear_gain_is_not_kept(normalised):
    auto = compressed(normalised, "auto", k=255)
    assert any("not kept, since that is no clear gain" in note for note in auto.notes)
    assert auto.container.card.provenance["bn_statistics"] == "kept"
    forced = compressed(normalised, "estimate", k=255)
    assert forced.container.card.provenance["bn_statistics"] == "estimated"


def test_without_training_images(normalised):
    assert compressed(normalised, "auto", parts=("test",)).container.card.provenance[
        "bn_statistics"] == "kept"
    with pytest.raises(InputError, match="no train part to estimate BatchNormalization"):
        compressed(normalised, "estimate", parts=("test",))


def test_a_resumed_run_has_the_very_same_estimate(normalised, tmp_path):
    first, again = (compressed(normalised, "auto", units_folder=tmp_path) for _ in range(2))
    for path, value in statistics(first).items():
        np.testing.assert_array_equal(value, statistics(again)[path])
