"""Masked losses: unknown labels never count, weights and focus are the formulas'."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress.training.losses import LOSSES, multilabel_loss, positive_weights

RNG = np.random.default_rng(0)
P = RNG.uniform(0.05, 0.95, (8, 4)).astype(np.float32)
Y = (RNG.random((8, 4)) < 0.3).astype(np.float32)
UNKNOWN = RNG.random((8, 4)) < 0.3


def value(name, truth, probability, labels=Y):
    return float(multilabel_loss(name, labels)(truth, probability))


def cross_entropy():
    return -(Y * np.log(P) + (1 - Y) * np.log(1 - P))


def test_formulas_of_fully_known_labels():
    each = cross_entropy()
    weights = positive_weights(Y)
    assert value("bce", Y, P) == pytest.approx(each.mean(), rel=1e-5)
    assert value("weighted_bce", Y, P) == pytest.approx(
        (each * np.where(Y == 1, weights, 1)).mean(), rel=1e-5)
    of_truth = np.where(Y == 1, P, 1 - P)
    assert value("focal", Y, P) == pytest.approx((each * (1 - of_truth) ** 2).mean(), rel=1e-5)
    assert value("masked_bce", Y, P) == pytest.approx(each.sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_labels_neither_count_nor_pull(name):
    import tensorflow as tf

    masked = np.where(UNKNOWN, np.nan, Y)
    other = P.copy()
    other[UNKNOWN] = 0.5
    assert value(name, masked, P) == pytest.approx(value(name, masked, other))
    variable = tf.Variable(P)
    with tf.GradientTape() as tape:
        loss = multilabel_loss(name, Y)(masked, variable)
    gradient = tape.gradient(loss, variable).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[UNKNOWN] == 0).all() and (gradient[~UNKNOWN] != 0).all()


def test_means_are_over_what_is_known():
    masked = np.where(UNKNOWN, np.nan, Y)
    each = np.where(UNKNOWN, 0, cross_entropy())
    assert value("bce", masked, P) == pytest.approx(each.sum() / (~UNKNOWN).sum(), rel=1e-5)
    assert value("masked_bce", masked, P) == pytest.approx(each.sum() / 8, rel=1e-5)
    assert value("bce", np.full_like(Y, np.nan), P) == 0


def test_positive_weights_are_bounded_and_defined():
    labels = np.zeros((100, 4), np.float32)
    labels[:50, 0], labels[:2, 1], labels[:, 3] = 1, 1, np.nan
    np.testing.assert_allclose(positive_weights(labels), [1, 20, 1, 1])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="bce"):
        multilabel_loss("hinge", Y)


def test_a_model_trains_on_missing_labels():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.05), loss=multilabel_loss("bce", Y))
    losses = model.fit(P, np.where(UNKNOWN, np.nan, Y), epochs=20, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
