"""Laws of distillation: its loss, its limits, and what it leaves unchanged."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.training.distillation import (
    SigmoidDistillation,
    check_settings,
    distil,
    giving_logits,
)


def student(seed=0, activation="softmax", classes=3):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, activation="tanh"),
        keras.layers.Flatten(), keras.layers.Dense(classes, activation=activation)], name="student")


def test_the_sigmoid_loss_is_the_softened_divergence():
    rng = np.random.default_rng(0)
    z_t, z_s = rng.normal(0, 3, (2, 6, 4))
    for temperature in (1.0, 5.0):
        p, q = (1 / (1 + np.exp(-z / temperature)) for z in (z_t, z_s))
        expected = temperature**2 * np.mean(
            p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
        loss = SigmoidDistillation(temperature)
        assert float(loss.compute_loss(z_t, z_s)) == pytest.approx(expected, rel=1e-6)
        assert float(loss.compute_loss(z_t, z_t)) == pytest.approx(0, abs=1e-7)


def test_a_teacher_of_no_weight_teaches_nothing(small_network, stripes):
    """With alpha 0 the student trains exactly as on labels alone."""
    teacher = small_network(seed=5)
    weights = models.weights(teacher)
    alone, taught = student(), student()
    common = {"task": "multiclass", "epochs": 2, "learning_rate": 0.01}
    one = distil(alone, None, stripes(), stripes(24, 2, None), **common)
    other = distil(taught, teacher, stripes(), stripes(24, 2, None), alpha=0.0, **common)
    np.testing.assert_allclose(one["val_loss"], other["val_loss"], rtol=1e-3)
    for a, b in zip(alone.get_weights(), taught.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    for path, array in models.weights(teacher).items():
        np.testing.assert_array_equal(array, weights[path])
    assert all(layer.trainable for layer in teacher.layers)
    for model in (alone, taught, teacher):
        assert model.layers[-1].activation is keras.activations.softmax
    assert len(one["val_loss"]) == 2 and one["best_epoch"] in (1, 2)


@pytest.mark.parametrize("task, activation", [("multiclass", "softmax"), ("multilabel", "sigmoid")])
def test_a_teacher_alone_is_imitated(small_network, stripes, task, activation):
    teacher, pupil = small_network(activation, seed=7), student(1, activation)
    history = distil(pupil, teacher, stripes(), stripes(), task=task, alpha=1.0, epochs=15,
                     temperature=2.0, learning_rate=0.02)
    # The epoch is chosen by labels, which this teacher knows nothing of; its loss tells.
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_what_cannot_be_is_refused(small_network, stripes):
    common = {"task": "multiclass"}
    with pytest.raises(InputError, match="parameters, no fewer than the teacher's"):
        distil(small_network(), student(), stripes(), stripes(), **common)
    with pytest.raises(InputError, match=r"outputs have shape \(4,\), the teacher's \(3,\)"):
        distil(student(classes=4), small_network(), stripes(), stripes(), **common)
    with pytest.raises(InputError, match="--temperature 0"):
        check_settings(0.0, 0.5)
    with pytest.raises(InputError, match="--alpha 1.5"):
        check_settings(4.0, 1.5)
    pooled = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(InputError, match="ends in GlobalAveragePooling2D"), giving_logits(pooled):
        pass
