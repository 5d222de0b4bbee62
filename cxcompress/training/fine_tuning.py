"""Fine-tuning of a compressed model: best epoch on validation data, stoppable and resumable.

    tuned = fine_tune(model, shared, models.weights(model), train, val, task="multiclass",
                      epochs=30, assign="learned", state_folder=run_folder / "fine_tuning")
    tuned.shared, tuned.best_epoch, tuned.history["val_loss"]
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.models import ends, set_weights
from cxcompress.representation.types import Codebook, SharedKernel, SharedWeights
from cxcompress.runs import atomic_path, progress
from cxcompress.training.devices import on_devices, synchronize
from cxcompress.training.normalization import normalizations
from cxcompress.training.shared_values import SharedWeightsTrainer
from cxcompress.training.soft_targets import (
    KnownLabelLoss,
    SoftTargetBatches,
    inputs_and_labels,
    rows_of,
    targets_from_outputs,
)

logger = logging.getLogger(__name__)

SOFT_TARGET_BYTES = 256 * 2**20
"""Soft targets are computed once while they take less; above, a frozen copy of the model computes
them in every step, which costs its forward pass."""
MAX_MOMENTUM = 0.9
"""Of BatchNormalization's moving statistics: at Keras' 0.99 they are of weights a hundred
steps old, which makes the validation loss of short trainings jump."""
FINGERPRINT_IMAGES = 32
"""Images of each part that a resumed run compares, evenly spread, beside all ids and labels."""
LR_SCHEDULES = ("cosine", "constant")
STATE_FILE = "fine_tuning.npz"


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning gave.

    Args:
        shared: The weights of the best epoch.
        history: `"loss"` and `"val_loss"`: one number an epoch, the first before training (its
            training loss is NaN).
        best_epoch: Position in the history; 0: training made nothing better.
        notes: Lines that a user must read, e.g. that the loss became NaN.
        latent: By path, the best epoch's latent weights, pruned ones 0; empty unless asked for.
    """

    shared: SharedWeights
    history: Mapping[str, list[float]]
    best_epoch: int
    notes: tuple[str, ...] = ()
    latent: Mapping[str, NDArray] = field(default_factory=dict)


@dataclass
class _Progress:
    """What an interrupted run must remember beside the arrays of its variables."""

    fingerprint: str
    best: SharedWeights
    best_epoch: int = 0
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    diverged: bool = False
    latent: dict[str, NDArray] | None = None

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return len(self.val_loss) - 1


def fine_tune(
    model: keras.Model,
    shared: SharedWeights,
    original_weights: Mapping[str, NDArray],
    train: keras.utils.PyDataset,
    val: keras.utils.PyDataset | None,
    *,
    task: str,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    lr_cumulative: float = 1e-3,
    batch_size: int | None = None,
    patience: int = 5,
    assign: Literal["fixed", "learned"] = "fixed",
    grid: Literal["int8", "free"] | None = None,
    distill: bool = True,
    label_weight: float = 0.5,
    latent: Mapping[str, NDArray] | None = None,
    pruned: Mapping[str, NDArray] | None = None,
    keep_latent: bool = False,
    seed: int = 0,
    state_folder: str | Path | None = None,
    strategy: Literal["none", "mirrored"] = "none",
    lr_schedule: Literal["cosine", "constant"] = "cosine",
    schedule_epochs: int | None = None,
) -> FineTuned:
    """Fine-tune shared values (and with `assign="learned"` the indices) with Adam.

    The epoch with the lowest validation loss is kept, the state before training included, so the
    result is never worse on the validation data than what came in. That loss is the mean
    cross-entropy against the labels (for maps the squared error of `KnownLabelLoss`), or where
    `val` has no labels, against the original model's outputs.

    Args:
        model: Of the architecture; its weights are the original ones when this returns.
        shared: The compressed weights.
        original_weights: By path, as `models.weights` gives them.
        train, val: Batches `(inputs, labels)` or `inputs` alone, as `PartBatches` gives them;
            NaN labels are unknown. An order drawn anew each epoch must depend on the dataset's
            attribute `epoch` for a resumed run to equal an uninterrupted one.
        task: `"multiclass"`, `"multilabel"`, or `"nuclei"` for density maps.
            Without `val` all epochs are trained and the last one is kept.
        epochs: Most epochs.
        learning_rate: Of biases, BatchNormalization and latent weights.
        lr_cumulative: Of the shared values.
        batch_size: For the record of what the run depends on; the datasets hold their own.
        patience: Epochs without improvement on validation after which training stops. Under
            `"cosine"` they count from half of the epochs on: until then the rates are high, and
            it is their fall that lowers the loss.
        assign, grid, distill, label_weight, latent, pruned: As for `SharedWeightsTrainer`.
        keep_latent: Whether the result holds latent weights, for a later call to start from.
        seed: Of dropout; the datasets hold that of their order.
        state_folder: Where the state is written, whole or not at all, after every epoch; a later
            call with the same arguments continues there.
        strategy: `"mirrored"`: on all devices of this machine (`devices.on_devices`).
        lr_schedule: `"cosine"`: both rates fall to 0 on half a cosine (Loshchilov & Hutter 2017,
            eq. 5, without restarts). `"constant"`: they stay.
        schedule_epochs: Epochs in which they fall, at least `epochs`; None: `epochs`.

    Returns:
        A `FineTuned`.

    Raises:
        InputError: If the model cannot be fine-tuned, the data do not fit it, the validation loss
            is not a number before training, or the folder holds a run of other data or settings.
        ValueError: If `lr_schedule` is none of the two.
    """
    if lr_schedule not in LR_SCHEDULES:
        raise ValueError(
            f"lr_schedule is one of {', '.join(LR_SCHEDULES)}. Received: {lr_schedule!r}")
    set_weights(model, original_weights)
    layers = normalizations(model)
    momenta = [layer.momentum for layer in layers]
    try:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = min(momentum, MAX_MOMENTUM)
        return _fine_tune(
            model, shared, train, val, task=task, epochs=epochs, patience=patience,
            distill=distill, latent=latent, pruned=pruned, keep_latent=keep_latent, seed=seed,
            state_folder=state_folder,
            training={"assign": assign, "grid": grid, "label_weight": label_weight},
            rates={"learning_rate": learning_rate, "lr_cumulative": lr_cumulative,
                   "batch_size": batch_size}, strategy=strategy,
            falling=None if lr_schedule == "constant" else max(epochs, schedule_epochs or 0, 1))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        set_weights(model, original_weights)


def loss_on(model: keras.Model, data: keras.utils.PyDataset, task: str) -> float:
    """Mean loss of the known labels: cross-entropy in nats, or `KnownLabelLoss` of maps.

    Args:
        model: Built; its outputs are compared with the labels.
        data: Batches `(inputs, labels)`.
        task: As for `fine_tune`.
    """
    loss = KnownLabelLoss(task, from_logits=ends.gives_logits(model) is True)
    total = count = 0.0
    for position in range(len(data)):
        inputs, labels = inputs_and_labels(data[position])
        values = loss.call(np.asarray(labels, np.float32), model.predict_on_batch(inputs))
        total, count = total + float(np.sum(values)), count + len(labels)
    return total / count


def _fine_tune(model, shared, train, val, *, task, epochs, patience, distill, latent, pruned,
               keep_latent, seed, state_folder, training: dict[str, Any], rates: dict[str, Any],
               strategy: str, falling: int | None) -> FineTuned:
    loss = KnownLabelLoss(task, from_logits=ends.gives_logits(model) is True)
    labelled, val_labelled = _labelled(train), val is None or _labelled(val)
    for name, data in (("training", train), ("validation", val)):
        if data is not None:
            _check_fit(model, data, name)
    if not labelled and not distill:
        raise InputError("the training data have no labels; fine-tune with distillation")
    settings = training | rates | {"task": task, "distill": distill, "seed": seed,
                                   "epochs of falling rates": falling}
    fingerprint = _fingerprint(settings, shared, latent, pruned, train, val)

    soft = _soft_targets(model, train, loss, "Soft targets") if distill else None
    val_soft = None
    if not val_labelled:
        val_soft = _soft_targets(model, val, loss, "Soft targets of validation")
        if val_soft is None:
            raise InputError("validation data without labels must come as PartBatches of less "
                             f"than {SOFT_TARGET_BYTES >> 20} MiB of outputs")
    with on_devices(strategy):
        trained = model if strategy == "none" else _twin(model)
        trainer = SharedWeightsTrainer(
            trained, shared, distill="given" if soft is not None else distill, latent=latent,
            pruned=pruned, **training)
        adam = keras.optimizers.Adam
        steps = None if falling is None else falling * len(train)
        trainer.compile(optimizer=adam(_scheduled(rates["learning_rate"], steps)),
                        codebook_optimizer=adam(_scheduled(rates["lr_cumulative"], steps)),
                        loss=loss)
        _seed(trainer, seed)
        val_batches = None if val is None else SoftTargetBatches(val, val_soft, val_labelled)

        state = Path(state_folder) / STATE_FILE if state_folder is not None else None
        if state is not None and state.exists():
            found = _read_state(state, trainer, fingerprint)
            logger.info("fine-tuning continues after epoch %d", found.epochs)
        else:
            start = math.nan if val is None else trainer.evaluate(
                val_batches, verbose=0, return_dict=True)["loss"]
            if val is not None and not math.isfinite(start):
                raise InputError("the validation loss of the compressed model is not a number "
                                 "before training; check the data and --preprocessing")
            best = shared if trainer.starts_exact else trainer.shared_weights()
            found = _Progress(fingerprint, best, 0, [math.nan], [float(start)],
                              latent=trainer.latent_weights() if keep_latent else None)

        patient = _Patience(epochs if val is None else patience, (falling or 0) // 2)
        if found.epochs < epochs and not patient.is_out(found):
            trainer.fit(
                SoftTargetBatches(train, soft, labelled, epoch=found.epochs + 1),
                validation_data=val_batches, initial_epoch=found.epochs, epochs=epochs,
                shuffle=False, verbose=0, callbacks=[_AfterEpoch(found, patient, state)])
    notes = ()
    if found.diverged:
        notes = (f"fine-tuning stopped in epoch {found.epochs}: the loss became NaN at learning "
                 f"rates {rates['learning_rate']:g} and {rates['lr_cumulative']:g}; epoch "
                 f"{found.best_epoch} is kept. Give smaller rates",)
        logger.warning(notes[0])
    return FineTuned(found.best, {"loss": found.loss, "val_loss": found.val_loss},
                     found.best_epoch, notes, found.latent or {})


def _twin(model: keras.Model) -> keras.Model:
    """The same network with the same weights, its variables where the strategy in force puts them.

    Outside the strategy the model itself still predicts on one device.
    """
    twin = type(model).from_config(model.get_config())
    twin.set_weights(model.get_weights())
    for layer, momentum in zip(normalizations(twin), normalizations(model), strict=True):
        layer.momentum = momentum.momentum
    synchronize(twin)
    return twin


def _scheduled(rate: float, steps: int | None):
    return rate if steps is None else keras.optimizers.schedules.CosineDecay(rate, steps)


@dataclass(frozen=True)
class _Patience:
    """Stops after so many epochs without improvement, counted from an epoch on."""

    epochs: int
    counted_from: int

    def is_out(self, found: _Progress) -> bool:
        waited = found.epochs - max(found.best_epoch, self.counted_from)
        return found.diverged or waited >= max(self.epochs, 1)


class _AfterEpoch(keras.callbacks.Callback):
    """Keeps the best epoch, writes the state, and stops on NaN or when patience is out."""

    def __init__(self, found: _Progress, patience: _Patience, state: Path | None):
        super().__init__()
        self.found, self.patience, self.state = found, patience, state

    def on_train_begin(self, logs=None):
        left = (self.params["epochs"] - self.found.epochs) * (self.params["steps"] or 0)
        self.steps = iter(progress(range(left), "Fine-tuning", total=left))

    def on_train_end(self, logs=None):
        close = getattr(self.steps, "close", None)  # the bar's, where training stopped early
        if close is not None:
            close()

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        next(self.steps, None)
        if not math.isfinite(logs["loss"]):
            self.found.diverged = True
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        found = self.found
        loss, val_loss = float(logs["loss"]), float(logs.get("val_loss", math.nan))
        # The last update of an epoch shows in no loss where there are no validation data.
        found.diverged |= not (math.isfinite(logs.get("val_loss", loss)) and _finite(self.model))
        found.loss.append(loss)
        found.val_loss.append(val_loss)
        # Without validation data every epoch replaces the one before.
        if not found.diverged and not val_loss >= found.val_loss[found.best_epoch]:
            found.best, found.best_epoch = self.model.shared_weights(), found.epochs
            if found.latent is not None:
                found.latent = self.model.latent_weights()
        judged = "" if math.isnan(val_loss) else (
            f", validation {val_loss:.4g} (best {found.val_loss[found.best_epoch]:.4g} in epoch "
            f"{found.best_epoch})")
        logger.info("epoch %d: loss %.4g%s, %.0f s", found.epochs, loss, judged,
                    time.perf_counter() - self.started)
        if self.state is not None:
            _write_state(self.state, self.model, found)
        if self.patience.is_out(found):
            self.model.stop_training = True


def _finite(trainer: SharedWeightsTrainer) -> bool:
    return all(np.isfinite(keras.ops.convert_to_numpy(variable)).all()
               for variable in trainer.weights)


def _labelled(data: keras.utils.PyDataset) -> bool:
    """Whether the first batch brings a label that is known, or the dataset's part does."""
    labels = getattr(getattr(data, "part", None), "labels", None)
    if not isinstance(labels, np.ndarray):
        labels = inputs_and_labels(data[0])[1]
    return labels is not None and not np.isnan(np.asarray(labels, np.float32)).all()


def _check_fit(model: keras.Model, data: keras.utils.PyDataset, name: str) -> None:
    if not len(data):
        raise InputError(f"there are no {name} images to fine-tune with")
    inputs, labels = inputs_and_labels(data[0])
    for what, array, tensor in (("inputs", inputs, model.inputs[0]),
                                ("labels", labels, model.outputs[0])):
        if array is None:
            continue
        shape, wanted = np.shape(array)[1:], tuple(tensor.shape)[1:]
        if len(shape) != len(wanted) or any(
                side not in (None, size) for size, side in zip(shape, wanted, strict=True)):
            raise InputError(f"the {name} data have {what} of shape {shape}; "
                             f"model {model.name!r} has {wanted}")


def _soft_targets(model, data, loss, description: str) -> NDArray | None:
    """The original model's outputs as targets in stored order; None where a copy must give them."""
    order = getattr(data, "order", None)
    values = np.prod([side or 0 for side in model.outputs[0].shape[1:]])
    if order is None or not hasattr(data, "batch_size") or not values:
        return None
    if getattr(data, "drawn_anew", False):
        return None
    if len(order) * values * 4 > SOFT_TARGET_BYTES:
        return None
    soft = None
    for position in progress(range(len(data)), description, total=len(data)):
        outputs = model.predict_on_batch(inputs_and_labels(data[position])[0])
        targets = np.asarray(targets_from_outputs(outputs, loss), np.float32)
        if soft is None:
            soft = np.empty((len(order), *targets.shape[1:]), np.float32)
        soft[rows_of(data, position)] = targets
    return soft


def _random_states(trainer: SharedWeightsTrainer) -> list[keras.Variable]:
    """States of the random generators of dropout and the like, which are not weights."""
    stored = {id(variable) for variable in trainer.weights}
    return [variable for variable in trainer.model.variables
            if id(variable) not in stored and "seed" in variable.name]


def _seed(trainer: SharedWeightsTrainer, seed: int) -> None:
    for number, variable in enumerate(_random_states(trainer)):
        drawn = np.random.default_rng((seed, number)).integers(0, 2**31, variable.shape)
        variable.assign(drawn.astype(variable.dtype))


def digest(*arrays) -> str:
    """16 hexadecimal digits of the SHA-256 of arrays: their types, shapes and values."""
    sha = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        sha.update(f"{array.dtype.str[1:]}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()[:16]


def _fingerprint(settings, shared: SharedWeights, latent, pruned, train, val) -> str:
    """SHA-256s of all that an epoch's result depends on: not of how many follow."""
    def data_digest(data) -> str:
        if data is None:
            return "none"
        inputs, labels = inputs_and_labels(data[0])
        if not hasattr(data, "part"):
            return digest(len(data), inputs, *(() if labels is None else (labels,)))
        part = data.part
        labels = part.labels if isinstance(part.labels, np.ndarray) else np.concatenate(part.labels)
        # In stored order, whatever epoch the dataset is in.
        changes = [getattr(data, name, None) for name in ("crop", "augment", "augmentation")]
        return digest(len(data), np.asarray(part.image_id, "U"), labels,
                      data.preprocessing.batch(part.select(np.linspace(
                          0, len(part) - 1, min(len(part), FINGERPRINT_IMAGES)).round().astype(int)
                      ).images),
                      *([str(changes)] if any(changes) else ()))

    return json.dumps({
        "settings": settings, "training data": data_digest(train),
        "validation data": data_digest(val),
        "compressed weights": digest(
            *(latent or {}).values(), *(pruned or {}).values(),
            *(book.values for book in shared.codebooks.values()),
            *(kernel.indices for kernel in shared.kernels.values()), *shared.unshared.values()),
    }, sort_keys=True)


def _variables(trainer: SharedWeightsTrainer) -> list[keras.Variable]:
    return [*trainer.weights, *_random_states(trainer), *trainer.optimizer.variables,
            *trainer.codebook_optimizer.variables]


def _write_state(path: Path, trainer: SharedWeightsTrainer, found: _Progress) -> None:
    best = found.best
    about = asdict(found) | {"best": {
        "codebooks": {name: [book.zero, book.step] for name, book in best.codebooks.items()},
        "kernels": {name: kernel.codebook for name, kernel in best.kernels.items()},
        "unshared": list(best.unshared)},
        "latent": None if found.latent is None else list(found.latent)}
    arrays = {f"variable{number}": keras.ops.convert_to_numpy(variable)
              for number, variable in enumerate(_variables(trainer))}
    for kind, values in (("codebook", [book.values for book in best.codebooks.values()]),
                         ("kernel", [kernel.indices for kernel in best.kernels.values()]),
                         ("unshared", best.unshared.values()),
                         ("latent", (found.latent or {}).values())):
        arrays |= {f"{kind}{number}": value for number, value in enumerate(values)}
    with atomic_path(path) as temporary:
        np.savez(temporary, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


def _read_state(path: Path, trainer: SharedWeightsTrainer, fingerprint: str) -> _Progress:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(arrays["about"].tobytes())
        before, now = json.loads(about["fingerprint"]), json.loads(fingerprint)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a readable state of fine-tuning ({error}); remove it to "
                         "start anew") from error
    changed = sorted(name for name in now if now[name] != before.get(name))
    if changed:
        raise InputError(f"{path}: holds an interrupted fine-tuning with other "
                         f"{' and '.join(changed)}; remove it to start anew, or give another "
                         "--output_path")
    for number, variable in enumerate(_variables(trainer)):
        variable.assign(arrays[f"variable{number}"])
    stored = about.pop("best")
    codebooks = {name: Codebook(arrays[f"codebook{number}"], *rest)
                 for number, (name, rest) in enumerate(stored["codebooks"].items())}
    kernels = {name: SharedKernel(arrays[f"kernel{number}"], codebook)
               for number, (name, codebook) in enumerate(stored["kernels"].items())}
    unshared = {name: arrays[f"unshared{number}"]
                for number, name in enumerate(stored["unshared"])}
    latent = about.pop("latent", None)
    if latent is not None:
        latent = {name: arrays[f"latent{number}"] for number, name in enumerate(latent)}
    return _Progress(best=SharedWeights(codebooks, kernels, unshared), latent=latent, **about)
