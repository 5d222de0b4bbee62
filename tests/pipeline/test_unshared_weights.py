"""Compact biases and BatchNormalization: the same answers from far fewer bytes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from cxcompress import models
from cxcompress.pipeline.sharing import share_model
from cxcompress.pipeline.unshared_weights import COMPACT_NOTE, with_compact_floats
from cxcompress.quantization import Compression
from cxcompress.quantization.short_floats import rounded
from cxcompress.representation import SharedWeights
from cxcompress.storage import read_sizes
from tests.pipeline.test_compressing import collection, compress


@pytest.fixture
def normalised() -> keras.Model:
    """A network whose normalisations have statistics, one of them without a scale, one nested."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.BatchNormalization(epsilon=1e-5)],
                             name="inner")
    model = keras.Sequential([
        keras.Input((10, 10, 1)), layers.Conv2D(4, 3), layers.BatchNormalization(name="whole"),
        inner, layers.BatchNormalization(scale=False, name="shift"), layers.ReLU(),
        layers.Flatten(), layers.Dense(2)])
    random = np.random.default_rng(1)
    models.set_weights(model, {
        path: (np.exp if path.endswith("variance") else np.asarray)(
            random.normal(size=array.shape)).astype(array.dtype)
        for path, array in models.weights(model).items()})
    return model


def shared_of(model: keras.Model) -> SharedWeights:
    return share_model(model, Compression.parse("uUQ", clustercnn=256, clusterfc=256), 0)


def test_the_network_answers_as_before(normalised):
    shared = shared_of(normalised)
    compact = with_compact_floats(normalised, shared)
    images = np.random.default_rng(2).normal(size=(16, 10, 10, 1)).astype(np.float32)
    answers = []
    for one in (shared, compact):
        models.set_weights(normalised, one.weights())
        answers.append(normalised(images).numpy())
    change = np.abs(answers[1] - answers[0])
    assert 0 < change.max() < 0.02 * answers[0].std()
    assert compact.kernels is shared.kernels or compact.kernels == shared.kernels


def test_statistics_become_constants_where_there_are_scale_and_shift(normalised):
    compact = with_compact_floats(normalised, shared_of(normalised)).unshared
    ends = {path: array for path, array in compact.items() if "moving" in path}
    merged = {path: array for path, array in ends.items() if "shift" not in path}
    assert len(ends) == 6 and len(merged) == 4
    for path, array in merged.items():
        epsilon = 1e-5 if "inner" in path else 1e-3
        if path.endswith("mean"):
            assert not array.any()
        else:  # plus ε that is 1 exactly, so that a folded scale has few bits too
            assert (array + np.float32(epsilon) == 1).all()
    for path, array in compact.items():
        if path not in merged:
            np.testing.assert_array_equal(rounded(array, 8), array)


def test_what_cannot_be_merged_stays_and_float_kernels_are_exact(normalised):
    arrays = models.weights(normalised)
    path = next(path for path in arrays if path.endswith("whole/moving_variance"))
    arrays[path][0] = -1  # no normalisation of any data
    models.set_weights(normalised, arrays)
    shared = shared_of(normalised)
    kernel = next(iter(shared.kernels))
    shared = SharedWeights(shared.codebooks, {name: one for name, one in shared.kernels.items()
                                              if name != kernel},
                           shared.unshared | {kernel: arrays[kernel]})
    with np.errstate(invalid="ignore"):
        compact = with_compact_floats(normalised, shared).unshared
    np.testing.assert_array_equal(compact[kernel], arrays[kernel])
    np.testing.assert_array_equal(compact[path], rounded(arrays[path], 8))


def test_only_vectors_change():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,), dtype="int32"), layers.Embedding(7, 6),
                              layers.LSTM(4), layers.Dense(2)])
    shared = shared_of(model)
    compact = with_compact_floats(model, shared).unshared
    assert any(array.ndim == 2 for array in compact.values())
    for path, array in compact.items():
        kept = array.ndim > 1 or not array.any()
        assert np.array_equal(array, shared.unshared[path]) or not kept, path


def test_compressed_files_are_smaller_and_say_so(normalised, tmp_path):
    sizes, results = [], []
    for unshared in ("exact", "compact"):
        result = compress(normalised, compression="uUQ", unshared=unshared)
        path = tmp_path / f"{unshared}.h5"
        result.save(path)
        sizes.append(read_sizes(path))
        results.append(result)
    assert sizes[1].unshared < sizes[0].unshared
    exact, compact = results
    assert COMPACT_NOTE in compact.notes and COMPACT_NOTE not in exact.notes
    assert compact.container.card.provenance["unshared"] == "compact"
    assert "unshared" not in exact.container.card.provenance


def test_what_is_judged_is_the_compact_network(normalised):
    data = collection(parts=("train", "val", "test"))
    resized = keras.Sequential([keras.Input((12, 12, 1)), layers.Resizing(10, 10), *(
        normalised.layers)])
    last = normalised.layers[-1].kernel
    last.assign(0.01 * last)  # no certain answers, whose cross-entropy would be clipped
    found = [compress(resized, data, "uUQ", preprocessing="0-1", unshared=unshared,
                      bn_statistics="keep") for unshared in ("exact", "compact")]
    exact, compact = (result.after["cross_entropy"].value for result in found)
    assert exact != compact and abs(exact - compact) < 0.02 * abs(exact)
