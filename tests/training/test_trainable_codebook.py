"""A trained codebook stays on its grid, keeps its zero, and comes out sorted and distinct."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.representation.types import Codebook
from cxcompress.training.trainable_codebook import TrainableCodebook


def on_grid(integers, step, zero=None) -> Codebook:
    step = float(np.float32(step))
    values = np.asarray(integers, np.float32) * np.float32(step)
    return Codebook(values, zero, step)


@settings(max_examples=40)
@given(integers=st.sets(st.integers(-127, 127), min_size=1, max_size=20),
       step=st.floats(1e-5, 10), seed=st.integers(0, 2**31))
def test_training_starts_from_the_codebook_itself(integers, step, seed):
    codebook = on_grid(sorted(integers), step)
    for grid in (None, "free", "int8"):
        trained = TrainableCodebook(codebook, "conv", grid)
        assert trained.exact
        np.testing.assert_allclose(trained.values(), codebook.values, rtol=3e-7)


@settings(max_examples=40)
@given(integers=st.sets(st.integers(-127, 127), min_size=2, max_size=20),
       step=st.floats(1e-3, 1), seed=st.integers(0, 2**31))
def test_whatever_the_updates_the_values_stay_on_an_int8_grid(integers, step, seed):
    integers = sorted(integers | {0})
    rng = np.random.default_rng(seed)
    trained = TrainableCodebook(on_grid(integers, step, integers.index(0)), "conv")
    optimizer = keras.optimizers.Adam(step)
    for _ in range(5):
        gradients = trained.gradients(rng.normal(size=trained.k).astype(np.float32) * 100)
        optimizer.apply(gradients, trained.variables)
        trained.follow()
    used = rng.random(trained.k) < 0.8
    used[0] = True
    finished, renamed = trained.finished(used)  # `Codebook` itself checks grid and order
    assert finished.step is not None and finished.zero is not None
    assert finished.values[finished.zero] == 0
    before = np.asarray(trained.values())
    np.testing.assert_array_equal(finished.values[renamed[used]], before[used])
    assert finished.k <= used.sum() + 1


def test_four_levels_start_on_a_grid_fine_enough_to_move_on():
    trained = TrainableCodebook(on_grid([-1, 0, 1, 2], 0.2), "conv")
    keras.optimizers.SGD(1.0).apply(trained.gradients(np.float32([0.05, 0, 0, 0])),
                                    trained.variables)
    trained.follow()
    assert -0.3 < trained.values()[0] < -0.21  # a whole first step would lead to -0.4


def test_a_free_value_moves_by_the_learning_rate_times_its_sum_and_merges():
    trained = TrainableCodebook(Codebook(np.float32([-1, 1, 3])), "conv")
    keras.optimizers.SGD(0.5).apply(trained.gradients(np.float32([-8, 0, -2])), trained.variables)
    np.testing.assert_array_equal(trained.values(), [3, 1, 4])
    keras.optimizers.SGD(1.0).apply(trained.gradients(np.float32([0, 0, 1])), trained.variables)
    trained.follow()
    finished, renamed = trained.finished(np.array([True, True, True]))
    np.testing.assert_array_equal(finished.values, [1, 3])
    np.testing.assert_array_equal(renamed, [1, 0, 1])


def test_levels_without_a_weight_are_dropped_but_the_pruned_one():
    codebook = Codebook(np.float32([-1, 0, 1]), zero=1)
    finished, renamed = TrainableCodebook(codebook, "dense").finished(np.array([1, 0, 0], bool))
    np.testing.assert_array_equal(finished.values, [-1, 0])
    assert finished.zero == 1 and renamed[0] == 0


def test_the_pruned_level_has_no_gradient():
    trained = TrainableCodebook(on_grid([-3, 0, 5], 0.1, zero=1), "conv")
    assert np.asarray(trained.gradients(np.ones(3, np.float32))[0])[1] == 0


def test_an_int8_grid_for_a_codebook_without_one_rounds_it_and_says_so():
    values = np.float32([-0.7, 0.123, 1.0])
    trained = TrainableCodebook(Codebook(values), "conv", "int8")
    assert not trained.exact
    np.testing.assert_allclose(trained.values(), values, atol=0.5 / 127 + 1e-6)


def test_an_unknown_grid_is_refused():
    with pytest.raises(ValueError, match="Received: 'int4'"):
        TrainableCodebook(Codebook(np.float32([0, 1])), "conv", "int4")
