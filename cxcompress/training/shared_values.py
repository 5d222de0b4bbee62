"""Training a model whose kernels share their values: with `fit`, callbacks and optimisers of Keras.

    trainer = SharedWeightsTrainer(model, shared, assign="learned")
    trainer.compile(optimizer=keras.optimizers.Adam(1e-4),            # biases, BatchNormalization
                    codebook_optimizer=keras.optimizers.Adam(1e-3),   # shared values
                    loss="categorical_crossentropy", metrics=["accuracy"])
    trainer.fit(images, labels, validation_split=0.2, epochs=10, callbacks=[…])
    shared = trainer.shared_weights()

The gradient of a shared value is the sum of the gradients of all weights that have it, over all
kernels of its codebook (Han et al. 2016). The values are variables of their own, so updates add up
over steps and epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.models import kernels as kernels_of
from cxcompress.models import set_weights, weights
from cxcompress.representation.types import SharedKernel, SharedWeights, index_dtype
from cxcompress.training.level_sums import level_dtype, nearest_level, sum_by_level
from cxcompress.training.soft_targets import (
    as_loss,
    blend,
    split_targets,
    targets_from_outputs,
)
from cxcompress.training.trainable_codebook import TrainableCodebook

ASSIGN = ("fixed", "learned")


@dataclass(frozen=True, eq=False)
class _TrainedKernel:
    """A kernel's variables: expanded weights, levels, and for learned levels the latent weights."""

    path: str
    codebook: str
    weights: keras.Variable
    levels: keras.Variable
    latent: keras.Variable | None
    pruned: tf.Tensor | None


class SharedWeightsTrainer(keras.Model):
    """A model in training whose kernels never hold anything but their shared values.

    Biases, BatchNormalization and kept-float kernels train as usual. Regularisation losses of the
    model's layers are left out: they are about weights that no longer exist one by one.

    Args:
        model: Built, with one input and one output, holding its **original** weights: they are
            where latent weights start and what the soft targets come from. From here on its
            kernels hold the shared values. Layers with `trainable = False` keep their indices
            and biases; a codebook of frozen kernels only keeps its values.
        shared: The model's shared weights.
        assign: `"fixed"` keeps every weight's index and trains the shared values only.
            `"learned"` trains latent float weights through a straight-through estimator: the
            latent weight gets the gradient of the shared value that stands for it, and after
            each step it takes the nearest shared value.
        grid: `"int8"` keeps every shared value an integer in [−127, 127] times one trained step a
            codebook, `"free"` lets it be any float; None: as the codebook is. See
            `TrainableCodebook`.
        distill: True: the original model's outputs, from a frozen copy, are the targets, blended
            with labels where the data bring any. `"given"`: the data bring them, as targets
            `{"labels": …, "soft_targets": …}` (either may be missing). False: labels only.
        label_weight: Share of known labels in the blend, 0 to 1; the soft targets have the rest.
        latent: By path, where latent weights start instead of at the model's own.
        pruned: By path, bool in the kernel's shape: weights that stay 0 where their codebook
            reserves an index for that (`quantization.prune_masks`). Without it all that have
            this index stay, those too that are merely nearest to 0.

    Raises:
        InputError: If the model has several inputs or outputs or is frozen, or `shared` belongs
            to another model.
        ValueError: If an argument is none of the above.
    """

    def __init__(
        self,
        model: keras.Model,
        shared: SharedWeights,
        *,
        assign: Literal["fixed", "learned"] = "fixed",
        grid: Literal["int8", "free"] | None = None,
        distill: bool | Literal["given"] = True,
        label_weight: float = 0.5,
        latent: Mapping[str, NDArray] | None = None,
        pruned: Mapping[str, NDArray] | None = None,
    ):
        super().__init__(name=f"{model.name}_shared", dtype=_policy(model))
        if assign not in ASSIGN:
            raise ValueError(f"assign is one of {', '.join(ASSIGN)}. Received: {assign!r}")
        if distill not in (True, False, "given"):
            raise ValueError(f"distill is True, False or 'given'. Received: {distill!r}")
        if not 0 <= label_weight <= 1:
            raise ValueError(f"label_weight lies between 0 and 1. Received: {label_weight}")
        _check(model, shared)
        self.model, self.label_weight, self.distill = model, label_weight, distill
        teacher = _frozen_copy(model) if distill is True else None
        # A closure, so that Keras does not count the copy's weights among the trainer's.
        self._teacher = teacher and (lambda x: teacher(x, training=False))
        found = {kernel.path: kernel.variable for kernel in kernels_of(model)}
        self._codebooks = _Untracked({
            name: TrainableCodebook(codebook, name, grid)
            for name, codebook in shared.codebooks.items()})
        self._kernels = _Untracked(tuple(
            self._trained_kernel(path, found[path], shared, assign, latent or {}, pruned or {})
            for path in shared.kernels))
        moving = {kernel.codebook for kernel in self._kernels.held if kernel.weights.trainable}
        self._moving = _Untracked({name: codebook for name, codebook
                                   in self._codebooks.held.items() if name in moving})
        own = {id(kernel.weights) for kernel in self._kernels.held}
        self._others = _Untracked([variable for variable in model.trainable_variables
                                   if id(variable) not in own])
        # These lists make Keras count the variables among the trainer's weights, so that
        # callbacks which save and restore weights do the whole of it.
        self.codebook_variables = [variable for codebook in self._codebooks.held.values()
                                   for variable in codebook.variables]
        self.codebook_states = [state for codebook in self._codebooks.held.values()
                                for state in codebook.states]
        self.level_variables = [kernel.levels for kernel in self._kernels.held]
        self.latent_variables = [kernel.latent for kernel in self._kernels.held
                                 if kernel.latent is not None]
        set_weights(model, weights(model) | dict(shared.unshared))
        self._expand()

    def _trained_kernel(self, path, variable, shared: SharedWeights, assign,
                        start: Mapping[str, NDArray], masks: Mapping[str, NDArray]
                        ) -> _TrainedKernel:
        kernel = shared.kernels[path]
        codebook = shared.codebooks[kernel.codebook]
        name = path.replace("/", ".")
        levels = keras.Variable(kernel.indices.astype(level_dtype(codebook.k)), trainable=False,
                                dtype=level_dtype(codebook.k), name=f"{name}.levels")
        latent = pruned = None
        if assign == "learned" and variable.trainable:
            latent = keras.Variable(start.get(path, keras.ops.convert_to_numpy(variable)),
                                    dtype="float32", name=f"{name}.latent")
            if codebook.zero is not None:
                pruned = tf.constant(masks.get(path, kernel.indices == codebook.zero))
        return _TrainedKernel(path, kernel.codebook, variable, levels, latent, pruned)

    def compile(self, optimizer="adam", codebook_optimizer="adam", loss=None, metrics=None,
                **arguments) -> None:
        """As `keras.Model.compile`, with a second optimiser.

        Args:
            optimizer: Of biases, BatchNormalization and latent weights.
            codebook_optimizer: Of the shared values. Keras' callbacks that set a learning rate
                set that of `optimizer` only; give this one a schedule.
            loss: Against labels and soft targets alike: a probability target must make sense to
                it, which is true of (binary and categorical) cross-entropy and squared error.
            metrics: Against labels.
            **arguments: Any other argument of `keras.Model.compile`.
        """
        if loss is None:
            raise ValueError("compile needs a loss. Received: loss=None")
        super().compile(optimizer=optimizer, loss=None, metrics=metrics, **arguments)
        self.label_loss = as_loss(loss)
        self.codebook_optimizer = keras.optimizers.get(codebook_optimizer)
        self.optimizer.build(self._weights_of_optimizer())
        self.codebook_optimizer.build(self._variables_of_codebooks())

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """In training against blended targets, in evaluation against labels where there are any."""
        labels, soft = split_targets(y)
        if training or labels is None:
            if soft is None and self._teacher is not None:
                soft = targets_from_outputs(self._teacher(x), self.label_loss)
            if soft is not None:
                soft = tf.cast(soft, y_pred.dtype)
                if labels is None:
                    labels = soft
                else:
                    _check_blendable(labels, soft)
                    labels = blend(labels, soft, self.label_weight)
        if labels is None:
            raise InputError("the data bring neither labels nor soft targets; train with "
                             "distill=True")
        return self.label_loss(labels, y_pred, sample_weight=sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        labels, _ = split_targets(y)
        if labels is None:
            return {"loss": self._loss_tracker.result()}
        return super().compute_metrics(x, labels, y_pred, sample_weight)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        kernel_weights = [kernel.weights.value for kernel in self._kernels.held]
        with tf.GradientTape() as tape:
            # Kernels of frozen layers too: their weights have a say in the shared value.
            tape.watch(kernel_weights)
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        kernel_gradients, gradients = tape.gradient(
            scaled, (kernel_weights, [variable.value for variable in self._others.held]),
            unconnected_gradients=tf.UnconnectedGradients.ZERO)
        replicas = self.distribute_strategy.num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(y_pred)[0])

        codebook_gradients = self._codebook_gradients(kernel_gradients)
        gradients = gradients + [
            gradient for kernel, gradient in zip(self._kernels.held, kernel_gradients, strict=True)
            if kernel.latent is not None]
        if gradients:
            self.optimizer.apply(gradients, self._weights_of_optimizer())
        if codebook_gradients:
            self.codebook_optimizer.apply(codebook_gradients, self._variables_of_codebooks())
        for codebook in self._moving.held.values():
            codebook.follow()
        self._follow_latent_weights()
        self._expand()
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def shared_weights(self) -> SharedWeights:
        """The trained weights: codebooks sorted and without equal or unused values."""
        levels = {kernel.path: keras.ops.convert_to_numpy(kernel.levels)
                  for kernel in self._kernels.held}
        codebooks, renamed = {}, {}
        for name, codebook in self._codebooks.held.items():
            counts = sum(
                (np.bincount(levels[kernel.path].ravel(), minlength=codebook.k)
                 for kernel in self._kernels.held if kernel.codebook == name),
                np.zeros(codebook.k, np.intp))
            if counts.any():
                codebooks[name], renamed[name] = codebook.finished(counts > 0)
        kernels = {
            kernel.path: SharedKernel(
                renamed[kernel.codebook].astype(index_dtype(codebooks[kernel.codebook].k))[
                    levels[kernel.path]], kernel.codebook)
            for kernel in self._kernels.held}
        unshared = {path: array for path, array in weights(self.model).items()
                    if path not in kernels}
        return SharedWeights(codebooks, kernels, unshared)

    def latent_weights(self) -> dict[str, NDArray[np.float32]]:
        """By path, the latent weights of kernels whose levels are learned; pruned ones are 0."""
        return {
            kernel.path: np.where(False if kernel.pruned is None else kernel.pruned, np.float32(0),
                                  keras.ops.convert_to_numpy(kernel.latent))
            for kernel in self._kernels.held if kernel.latent is not None}

    @property
    def starts_exact(self) -> bool:
        """Whether training started from the very values of the shared weights given."""
        return all(codebook.exact for codebook in self._codebooks.held.values())

    def _weights_of_optimizer(self) -> list[keras.Variable]:
        return [*self._others.held, *(kernel.latent for kernel in self._kernels.held
                                      if kernel.latent is not None)]

    def _variables_of_codebooks(self) -> list[keras.Variable]:
        return [variable for codebook in self._moving.held.values()
                for variable in codebook.variables]

    def _codebook_gradients(self, kernel_gradients) -> list[tf.Tensor]:
        sums: dict[str, tf.Tensor] = {}
        for kernel, gradient in zip(self._kernels.held, kernel_gradients, strict=True):
            if kernel.codebook in self._moving.held:
                k = self._codebooks.held[kernel.codebook].k
                part = sum_by_level(gradient, kernel.levels.value, k)
                sums[kernel.codebook] = sums.get(kernel.codebook, 0) + part
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # Overflow is normal while the scale is being found: the step is skipped there as well.
            scale = tf.cast(self.optimizer.dynamic_scale.value, tf.float32)
            sums = {name: tf.where(tf.reduce_all(tf.math.is_finite(total)), total / scale,
                                   tf.zeros_like(total)) for name, total in sums.items()}
        return [gradient for name, codebook in self._moving.held.items()
                for gradient in codebook.gradients(sums[name])]

    def _follow_latent_weights(self) -> None:
        """Every weight whose level is learned takes the shared value nearest to its latent one."""
        values = {name: codebook.values() for name, codebook in self._codebooks.held.items()}
        for kernel in self._kernels.held:
            if kernel.latent is None:
                continue
            levels = nearest_level(kernel.latent.value, values[kernel.codebook])
            if kernel.pruned is not None:
                zero = tf.constant(self._codebooks.held[kernel.codebook].zero, levels.dtype)
                levels = tf.where(kernel.pruned, zero, levels)
            kernel.levels.assign(levels)

    def _expand(self) -> None:
        """Kernels take their shared values."""
        values = {name: codebook.values() for name, codebook in self._codebooks.held.items()}
        for kernel in self._kernels.held:
            levels = tf.cast(kernel.levels.value, tf.int32)
            kernel.weights.assign(tf.cast(tf.gather(values[kernel.codebook], levels),
                                          kernel.weights.dtype))


class _Untracked:
    """Holds what Keras would otherwise wrap, lock or count among a model's weights."""

    def __init__(self, held):
        self.held = held


def _check(model: keras.Model, shared: SharedWeights) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"model {model.name!r} has {len(model.inputs)} inputs and "
                         f"{len(model.outputs)} outputs; models of one input and one output can "
                         "be fine-tuned")
    if not model.trainable_variables:
        raise InputError(f"model {model.name!r} is frozen: all its layers have trainable=False; "
                         "set model.trainable = True to fine-tune it")
    shapes: Mapping[str, tuple] = {kernel.path: kernel.shape for kernel in kernels_of(model)}
    for path, kernel in shared.kernels.items():
        if shapes.get(path) != kernel.indices.shape:
            raise InputError(f"model {model.name!r}: its kernel {path} has shape "
                             f"{shapes.get(path)}, the shared weights have "
                             f"{kernel.indices.shape}; they belong to another model")


def _check_blendable(labels, soft) -> None:
    if len(labels.shape) != len(soft.shape) or labels.shape[-1] != soft.shape[-1]:
        raise InputError(f"labels of shape {tuple(labels.shape)} cannot be blended with the "
                         f"original's outputs of shape {tuple(soft.shape)}; give one-hot labels, "
                         "or distill=False")


def _policy(model: keras.Model) -> keras.DTypePolicy:
    """Of the model, or of its layers: a mixed model from a file does not say so itself.

    By it Keras decides whether losses are scaled.
    """
    policies = [layer.dtype_policy for layer in model._flatten_layers()]
    return next((policy for policy in policies if policy.name == "mixed_float16"),
                model.dtype_policy)


def _frozen_copy(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.trainable = False
    return copy


