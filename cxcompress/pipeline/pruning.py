"""Pruning on the road from model to container: prune, fine-tune, keep the epoch best on validation.

    settings = Pruning("iterative", 0.8, epochs=10)
    pruned = prune_and_tune(model, study, settings, seed=0)
    pruned.model, pruned.best_epoch, pruned.history["val_loss"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress import runtime
from cxcompress.conversion.plans import build_plans
from cxcompress.data.augmentation import Augmentation
from cxcompress.errors import InputError
from cxcompress.evaluation.timing import interleaved
from cxcompress.models import ends
from cxcompress.pipeline.inputs import Study, evenly
from cxcompress.pruning import (
    PruneInStages,
    check_dense,
    gradually,
    prunable_kernels,
    prune_filters,
    stages,
)
from cxcompress.pruning import scores as scoring
from cxcompress.pruning.filters import SCOPES as FILTER_SCOPES
from cxcompress.pruning.masks import check_sparsity
from cxcompress.pruning.scopes import SCOPES
from cxcompress.pruning.strategies import STRATEGIES, study_epochs
from cxcompress.storage import Container
from cxcompress.training.compilation import compile_with_optimizer
from cxcompress.training.fine_tuning import MAX_MOMENTUM
from cxcompress.training.fitting import PartBatches
from cxcompress.training.normalization import normalizations
from cxcompress.training.soft_targets import KnownLabelLoss

SCHEDULES = ("constant", "polynomial")
BUDGETS = ("equal", "study")
OPTIMIZERS = ("adam", "sgd")
UNITS = ("weights", "filters")


@dataclass(frozen=True)
class Pruning:
    """How a model is pruned and fine-tuned.

    Args:
        strategy: `"oneshot"`, `"iterative"` or `"layerwise"`.
        sparsity: Share of the weights (or of each layer's filters) to remove.
        epochs: Of fine-tuning in all, whatever the strategy.
        unit: `"weights"`, or `"filters"` as a whole: one-shot only.
        scope: Which kernels share a threshold: `"global"`, `"layer"`, `"group"` (of filters:
            `"layer"` or `"global"`).
        score: `"magnitude"`, `"random"` or `"taylor"`.
        schedule: `"constant"` prunes at once at the start of every stage, `"polynomial"` gradually
            over its first half.
        budget: `"equal"`: `epochs` for every strategy. `"study"`: 10 epochs after every stage,
            100 after every layer of layerwise pruning.
        exclude: Layers that are not pruned.
        optimizer: `"adam"`, or `"sgd"` with momentum 0.9 and weight decay 5e-4 as in the study.
        learning_rate: Of the optimiser.
        batch_size: Images a step.
        multiple: Filters kept are rounded up to a multiple of this.
        augment: Whether training images are moved, turned and exposed a little differently in
            every epoch, as `train.py --augment` does.

    Raises:
        InputError: If a value cannot be used.
    """

    strategy: str
    sparsity: float
    epochs: int = 10
    unit: Literal["weights", "filters"] = "weights"
    scope: str = "global"
    score: str = "magnitude"
    schedule: Literal["constant", "polynomial"] = "constant"
    budget: Literal["equal", "study"] = "equal"
    exclude: tuple[str, ...] = ()
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 3e-4
    batch_size: int = 64
    multiple: int = 1
    augment: bool = False

    def __post_init__(self):
        check_sparsity(self.sparsity)
        for flag, value, known in (
                ("strategy", self.strategy, STRATEGIES), ("score", self.score, scoring.NAMES),
                ("schedule", self.schedule, SCHEDULES), ("budget", self.budget, BUDGETS),
                ("optimizer", self.optimizer, OPTIMIZERS), ("unit", self.unit, UNITS)):
            if value not in known:
                raise InputError(f"--{flag} {value}: choose one of {', '.join(known)}")
        for flag, value, least in (("epochs", self.epochs, 1), ("batch_size", self.batch_size, 1)):
            if value < least:
                raise InputError(f"--{flag} {value}: must be at least {least}")
        if not self.learning_rate > 0:
            raise InputError(f"--lr {self.learning_rate:g}: must be above 0, e.g. 0.0003")
        if self.unit == "filters" and self.strategy != "oneshot":
            raise InputError(f"--unit filters with --strategy {self.strategy}: filters are pruned "
                             "one-shot; give --strategy oneshot")
        scopes = FILTER_SCOPES if self.unit == "filters" else SCOPES
        if self.scope not in scopes:
            raise InputError(f"--scope {self.scope}: {self.unit} are pruned by "
                             f"{', '.join(scopes)}")


@dataclass(frozen=True)
class Pruned:
    """A pruned and fine-tuned model.

    Args:
        model: With the weights of the epoch best on validation; of filters: a smaller one.
        history: Keras' history, one number an epoch.
        best_epoch: From 1; only epochs at the full sparsity count.
        epochs: Trained in all.
        weights, nonzeros: Of the kernels that were pruned.
    """

    model: keras.Model
    history: Mapping[str, Sequence[float]]
    best_epoch: int
    epochs: int
    weights: int
    nonzeros: int


class _BestEpoch(keras.callbacks.Callback):
    """Remembers the weights with the lowest validation loss among epochs at full sparsity."""

    def __init__(self, pruner: PruneInStages | None):
        super().__init__()
        self.pruner, self.loss, self.epoch, self.weights = pruner, math.inf, 0, None

    def on_epoch_end(self, epoch, logs=None):
        loss = (logs or {}).get("val_loss", math.nan)
        if (self.pruner is None or self.pruner.complete) and loss < self.loss:
            self.loss, self.epoch, self.weights = loss, epoch + 1, self.model.get_weights()


def prune_and_tune(
    model: keras.Model, study: Study, settings: Pruning, seed: int = 0, name: str = "the model"
) -> Pruned:
    """Prune a model as its strategy says and fine-tune it on the study's training images.

    Args:
        model: Dense; its weights change (of filters: they stay, and another model comes back).
        study: With training and validation parts and known labels.
        settings: How.
        seed: Of the order of images, of dropout and of random scores.
        name: Of the model's file, for messages.

    Raises:
        InputError: If the model is pruned or quantised already, a setting does not fit it, or
            there is nothing to train on.
    """
    collection = study.collection
    if collection.train is None or collection.val is None or not study.labelled:
        raise InputError(f"{collection.name}: pruning needs a train part with labels to fine-tune "
                         "on")
    if study.task.name == "nuclei":
        raise InputError(f"{collection.name}: prune.py fits multiclass and multilabel collections, "
                         "not density maps of nuclei")
    kernels = prunable_kernels(model, settings.exclude if settings.unit == "weights" else ())
    check_dense(kernels, name)
    keras.utils.set_random_seed(seed)
    train = PartBatches(collection.train, study.preprocessing, settings.batch_size, seed,
                        Augmentation() if settings.augment else None)
    val = PartBatches(collection.val, study.preprocessing, settings.batch_size)
    score = scoring.get(settings.score, seed=seed, data=train, task=study.task.name)
    before = sum(math.prod(kernel.shape) for kernel in kernels)
    pruner, epochs = None, settings.epochs
    if settings.unit == "filters":
        model = prune_filters(
            model, settings.sparsity, score=score, exclude=settings.exclude,
            scope=settings.scope, multiple=settings.multiple)
    else:
        def plan_of(steps):
            return stages(settings.strategy, settings.sparsity, steps, kernels, settings.scope)

        if settings.budget == "study":
            epochs = study_epochs(settings.strategy, plan_of(10**9))
        plan = plan_of(epochs * len(train))
        pruner = PruneInStages(
            gradually(plan) if settings.schedule == "polynomial" else plan,
            exclude=settings.exclude, score=score)
    best, history = _fit(model, train, val, settings, study, pruner, epochs)
    counts = [int(np.count_nonzero(kernel.variable)) for kernel in
              prunable_kernels(model, settings.exclude if settings.unit == "weights" else ())]
    return Pruned(model, history, best, epochs, before, sum(counts))


def _fit(model, train, val, settings: Pruning, study: Study, pruner, epochs: int):
    optimizer = (keras.optimizers.Adam(settings.learning_rate) if settings.optimizer == "adam"
                 else keras.optimizers.SGD(settings.learning_rate, momentum=0.9,
                                           weight_decay=5e-4))
    compile_with_optimizer(model, optimizer, KnownLabelLoss(
        study.task.name, from_logits=ends.gives_logits(model) is True))
    best = _BestEpoch(pruner)
    layers = normalizations(model)
    momenta = [layer.momentum for layer in layers]
    try:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = min(momentum, MAX_MOMENTUM)
        history = model.fit(
            train, validation_data=val, epochs=epochs, shuffle=False, verbose=0,
            # The pruner first: its step is counted when the best epoch asks whether it is done.
            callbacks=[callback for callback in (pruner, best) if callback is not None]).history
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if best.weights is None:
        raise InputError("the validation loss was not a number at the full sparsity; give a "
                         "smaller --lr")
    model.set_weights(best.weights)
    return best.epoch, history


def times_in_the_runtime(
    variants: Mapping[str, tuple[keras.Model, Container]], study: Study,
    plans: Sequence[str] = ("float32", "static_int8"), repeats: int = 20,
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Median seconds of one image in the runtime, all variants of a plan in turns.

    Args:
        variants: By name, a Keras model and its container.
        study: Where activation ranges come from.
        plans: Of `runtime.PLANS`.
        repeats: Timed calls of each.

    Returns:
        Seconds by plan and variant, and a note for each plan that is missing.
    """
    part = study.collection.train or study.collection.val
    inputs = study.preprocessing.batch(evenly(part, 64).images)
    notes: list[str] = []
    running: dict[str, dict[str, Any]] = {plan: {} for plan in plans}
    for name, (model, container) in variants.items():
        built = build_plans(model, container.shared, inputs, plans)
        notes += [f"{name}: {note}" for note in built.notes]
        for plan in plans:
            if plan in built.graphs:
                running[plan][name] = runtime.RuntimeModel.of(container, built.graphs[plan], plan)
    seconds: dict[str, dict[str, float]] = {}
    one: NDArray = inputs[:1]
    for plan, opened in running.items():
        if opened:
            timed = interleaved({name: lambda plan=loaded: plan.predict(one)
                                 for name, loaded in opened.items()}, repeats)
            seconds[plan] = {name: float(np.median(values)) for name, values in timed.items()}
    return seconds, notes
