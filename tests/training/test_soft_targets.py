"""A loss against blended targets is the blend of the losses; unknown labels count nowhere."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxcompress.training.density_fitting import WeightedSquaredError
from cxcompress.training.soft_targets import KnownLabelLoss, blend, targets_from_outputs


@pytest.fixture
def outputs():
    rng = np.random.default_rng(0)
    return {"logits": rng.normal(size=(6, 4)).astype(np.float32),
            "labels": (rng.random((6, 4)) < 0.5).astype(np.float32),
            "soft": rng.random((6, 4)).astype(np.float32)}


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_blending_targets_blends_losses(outputs, task):
    loss = KnownLabelLoss(task, from_logits=True)
    mixed = loss(blend(outputs["labels"], outputs["soft"], 0.3), outputs["logits"])
    apart = 0.3 * loss(outputs["labels"], outputs["logits"]) \
        + 0.7 * loss(outputs["soft"], outputs["logits"])
    np.testing.assert_allclose(mixed, apart, rtol=1e-5)


def test_squared_error_of_a_blend_has_the_gradient_of_the_blended_errors(outputs):
    maps = tf.Variable(outputs["logits"])
    loss = KnownLabelLoss("nuclei")
    with tf.GradientTape(persistent=True) as tape:
        mixed = loss(blend(outputs["labels"], outputs["soft"], 0.3), maps.value())
        apart = 0.3 * loss(outputs["labels"], maps.value()) + 0.7 * loss(outputs["soft"],
                                                                       maps.value())
    np.testing.assert_allclose(tape.gradient(mixed, maps), tape.gradient(apart, maps), atol=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "nuclei"])
def test_unknown_labels_have_neither_loss_nor_gradient(outputs, task):
    labels = outputs["labels"].copy()
    labels[2] = np.nan
    logits = tf.Variable(outputs["logits"])
    with tf.GradientTape() as tape:
        value = KnownLabelLoss(task, from_logits=True)(labels, logits.value())
    gradient = tape.gradient(value, logits).numpy()
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert not gradient[2].any() and gradient[1].any()


def test_some_unknown_labels_leave_the_mean_over_the_known_ones():
    labels = np.float32([[1, np.nan, 0]])
    logits = np.float32([[2.0, 50.0, -1.0]])
    known = np.log1p(np.exp([-2.0, -1.0])).mean()
    np.testing.assert_allclose(KnownLabelLoss("multilabel", True)(labels, logits), known, rtol=1e-5)


def test_maps_of_nuclei_count_as_in_their_training():
    rng = np.random.default_rng(0)
    labels, maps = rng.random((2, 2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(KnownLabelLoss("nuclei")(labels, maps),
                               WeightedSquaredError()(labels, maps), rtol=1e-6)


def test_where_a_label_is_unknown_the_soft_target_takes_its_place():
    blended = blend(np.float32([[1, np.nan]]), tf.constant([[0.2, 0.8]]), 0.5)
    np.testing.assert_allclose(blended, [[0.6, 0.8]])


def test_logits_become_probabilities_as_the_loss_wants_them(outputs):
    logits = outputs["logits"]
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for loss in (KnownLabelLoss("multiclass", True),
                 keras.losses.CategoricalCrossentropy(from_logits=True)):
        np.testing.assert_allclose(targets_from_outputs(logits, loss), softmax, rtol=1e-5)
    for loss in (KnownLabelLoss("multilabel", True),
                 keras.losses.BinaryCrossentropy(from_logits=True)):
        np.testing.assert_allclose(targets_from_outputs(logits, loss), 1 / (1 + np.exp(-logits)),
                                   rtol=1e-5)
    assert targets_from_outputs(logits, KnownLabelLoss("nuclei")) is logits
