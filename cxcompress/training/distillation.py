"""Distillation: a small student learns from a trained teacher's soft outputs beside the labels.

    student = models.build("vgg11_eighth", (64, 64, 1), 2, activation="softmax")
    history = distil(student, teacher, train, val, task="multiclass", temperature=4.0, alpha=0.7)
    baseline = distil(twin, None, train, val, task="multiclass")     # the same, on labels alone

The loss is (1 − α) × cross-entropy + α × T² × KL(teacher ‖ student), both softened by the
temperature T, as a mean over the images of a batch: `keras.distillation` with `LogitsDistillation`.
Independent findings (sigmoids) are softened one by one.

Reference: Hinton et al. (2015), "Distilling the knowledge in a neural network".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from keras import ops

from cxcompress.errors import InputError
from cxcompress.models import ends
from cxcompress.training.compilation import compile_with_optimizer
from cxcompress.training.fine_tuning import loss_on
from cxcompress.training.soft_targets import KnownLabelLoss


class SigmoidDistillation(keras.distillation.DistillationLoss):
    """T² × the mean KL divergence of each finding's softened probability, for sigmoid outputs.

    Args:
        temperature: What logits are divided by.
    """

    def __init__(self, temperature: float):
        self.temperature = temperature

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        taught = teacher_outputs / self.temperature
        learnt = student_outputs / self.temperature
        p = ops.sigmoid(taught)
        # log σ(x) = −softplus(−x), log(1 − σ(x)) = −softplus(x).
        yes = ops.softplus(-learnt) - ops.softplus(-taught)
        no = ops.softplus(learnt) - ops.softplus(taught)
        return self.temperature**2 * ops.mean(p * yes + (1 - p) * no)


def distil(
    student: keras.Model,
    teacher: keras.Model | None,
    train: keras.utils.PyDataset,
    val: keras.utils.PyDataset,
    *,
    task: str,
    temperature: float = 4.0,
    alpha: float = 0.7,
    epochs: int = 30,
    learning_rate: float = 1e-3,
) -> dict[str, list[float]]:
    """Train a student with Adam and keep the epoch with the lowest validation cross-entropy.

    Args:
        student: Ends in one dense layer or activation, softmax or sigmoid; trained in place.
        teacher: Trained, larger, of the same inputs and outputs; unchanged. None: labels alone.
        train, val: Batches `(inputs, labels)`; NaN labels are unknown.
        task: `"multiclass"` or `"multilabel"`.
        temperature: T, above 0.
        alpha: Weight of the teacher, 0 to 1.
        epochs: To train.
        learning_rate: Adam's.

    Returns:
        `"loss"` and `"val_loss"` (cross-entropy of the labels), one number an epoch, and
        `"best_epoch"`, counted from 1.

    Raises:
        InputError: If an argument is out of range, the models do not fit each other, the teacher
            is no larger than the student, or no epoch had a finite validation loss.
    """
    check_settings(temperature, alpha)
    if teacher is not None:
        check_pair(student, teacher)
    loss = KnownLabelLoss(task, from_logits=True)
    optimizer = keras.optimizers.Adam(learning_rate)
    with giving_logits(student):
        best = _BestEpoch(student, val, task)
        if teacher is None:
            compile_with_optimizer(student, optimizer, loss)
            history = student.fit(train, epochs=epochs, shuffle=False, verbose=0,
                                  callbacks=[best]).history
        else:
            frozen = keras.models.clone_model(teacher)
            frozen.set_weights(teacher.get_weights())
            with giving_logits(frozen):
                trainer = keras.distillation.Distiller(
                    frozen, student,
                    keras.distillation.LogitsDistillation(temperature) if task == "multiclass"
                    else SigmoidDistillation(temperature), student_loss_weight=1.0 - alpha)
                compile_with_optimizer(trainer, optimizer, loss)
                history = trainer.fit(train, epochs=epochs, shuffle=False, verbose=0,
                                      callbacks=[best]).history
    if best.weights is None:
        raise InputError(f"the validation loss was never a number at learning rate "
                         f"{learning_rate:g}; give a smaller --lr")
    student.set_weights(best.weights)
    return {"loss": history["loss"], "val_loss": best.losses, "best_epoch": best.epoch}


class _BestEpoch(keras.callbacks.Callback):
    """Remembers the student's weights with the lowest cross-entropy on validation labels."""

    def __init__(self, student: keras.Model, val: keras.utils.PyDataset, task: str):
        super().__init__()
        self.student, self.val, self.task = student, val, task
        self.losses: list[float] = []
        self.epoch, self.weights = 0, None

    def on_epoch_end(self, epoch, logs=None):
        value = loss_on(self.student, self.val, self.task)
        if math.isfinite(value) and value < min(self.losses, default=math.inf):
            self.epoch, self.weights = epoch + 1, self.student.get_weights()
        self.losses.append(value)


@contextmanager
def giving_logits(model: keras.Model) -> Iterator[None]:
    """The model without its last softmax or sigmoid while the block runs: soft targets are made of
    logits.

    Raises:
        InputError: If its last layer has no activation that could be set aside.
    """
    layer = model.layers[-1]
    if ends.gives_logits(model) is None or not hasattr(layer, "activation"):
        raise InputError(f"model {model.name!r}: ends in {type(layer).__name__} {layer.name!r}; "
                         "distillation needs a dense layer or activation with softmax, sigmoid or "
                         "none")
    activation = layer.activation
    _set_activation(model, layer, keras.activations.linear)
    try:
        yield
    finally:
        _set_activation(model, layer, activation)


def _set_activation(model: keras.Model, layer, activation) -> None:
    layer.activation = activation
    # Compiled functions hold the old one.
    model.train_function = model.test_function = model.predict_function = None


def check_settings(temperature: float, alpha: float) -> None:
    """Raise `InputError` unless the temperature is above 0 and alpha between 0 and 1."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"--temperature {temperature:g}: must be above 0, e.g. 4")
    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha {alpha:g}: must lie between 0 (labels alone) and 1 (the teacher "
                         "alone)")


def check_pair(student: keras.Model, teacher: keras.Model) -> None:
    """Raise `InputError` unless a smaller student has the teacher's inputs and outputs."""
    for what, one, other in (("inputs", student.inputs, teacher.inputs),
                             ("outputs", student.outputs, teacher.outputs)):
        if one[0].shape != other[0].shape:
            raise InputError(f"the student's {what} have shape {tuple(one[0].shape[1:])}, the "
                             f"teacher's {tuple(other[0].shape[1:])}; they must be the same")
    if student.count_params() >= teacher.count_params():
        raise InputError(
            f"--student {student.name} has {student.count_params():,} parameters, no fewer than "
            f"the teacher's {teacher.count_params():,}; give a smaller student")
