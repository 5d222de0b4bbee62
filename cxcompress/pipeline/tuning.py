"""Fine-tuning on the road from model to container: which images, for how long, and on what.

    settings = FineTuning(epochs=30, assign="learned")
    tuned, notes = tune(model, shared, study, settings, seed=0)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Part
from cxcompress.data.joining import joined
from cxcompress.errors import InputError
from cxcompress.pipeline.inputs import Study
from cxcompress.pipeline.sharing import STATISTICS_FILE, share_model
from cxcompress.quantization import Compression, prune_masks
from cxcompress.representation import SharedWeights
from cxcompress.training.fine_tuning import STATE_FILE, FineTuned, fine_tune
from cxcompress.training.fitting import PartBatches

MOST_GRADUAL = 256
"""Shared values that gradual quantisation starts from at most."""


@dataclass(frozen=True)
class FineTuning:
    """How shared values are fine-tuned.

    Args:
        epochs: Most epochs; 0 leaves the quantised model as it is.
        learning_rate: Adam's, of biases, BatchNormalization and (with `assign="learned"`) the
            latent weights.
        lr_cumulative: Adam's, of the shared values.
        batch_size: Images a step.
        patience: Epochs without improvement on validation after which training stops, counted
            from half of the epochs on where rates fall.
        assign: `"fixed"` keeps every weight's index; `"learned"` lets indices follow latent
            weights.
        grid: `"int8"`, `"free"`, or None: `"int8"` for codebooks that lie on a grid.
        distill: Whether the original model's outputs are soft targets.
        gradual: Whether the number of shared values falls to the one asked for by quarters
            (64, 16, 4) over the first half of the epochs, of which there must be 4 or more to
            share out; `"learned"` only, and not of TCQ.
        retrain: Whether to train again on training and validation images together for the
            number of epochs that was best on validation.
        strategy: `"mirrored"`: on all devices of this machine, else `"none"`.
        crop: Side of the squares, in pixels of the input, that are cut out of fields of nuclei,
            turned and mirrored, anew in every epoch; None trains on whole fields as they are.
            Validation fields are whole either way.
        augment: Whether training images are moved, turned and exposed a little differently in
            every epoch, as `train.py --augment` does; fields of nuclei are turned and mirrored.
            The original's outputs are then computed in every step.
        lr_schedule: `"cosine"`: both rates fall to 0 over the epochs; `"constant"`: they stay.

    Raises:
        InputError: If a value cannot be used.
    """

    epochs: int = 0
    learning_rate: float = 1e-3
    lr_cumulative: float = 1e-3
    batch_size: int = 32
    patience: int = 5
    assign: Literal["fixed", "learned"] = "learned"
    grid: Literal["int8", "free"] | None = None
    distill: bool = True
    gradual: bool = False
    retrain: bool = False
    strategy: Literal["none", "mirrored"] = "none"
    crop: int | None = None
    augment: bool = False
    lr_schedule: Literal["cosine", "constant"] = "cosine"

    def __post_init__(self):
        for flag, value, least in (("--epochs", self.epochs, 0), ("--ptnc", self.patience, 0),
                                   ("--minibatch", self.batch_size, 1)):
            if value < least:
                raise InputError(f"{flag} {value}: must be at least {least}")
        for flag, rate in (("--learning_rate", self.learning_rate),
                           ("--lr_cumulative", self.lr_cumulative)):
            if not 0 < rate < math.inf:
                raise InputError(f"{flag} {rate:g}: must be above 0, e.g. 0.001")
        if self.gradual and self.assign == "fixed":
            raise InputError("--gradual needs --assign learned: with fixed indices there are no "
                             "float weights left to quantise later")


def check_tunable(shared: SharedWeights, pruned_floats: bool) -> None:
    """Refuse what fine-tuning would not keep.

    Args:
        shared: The compressed weights.
        pruned_floats: Whether a pruned kernel is left float.

    Raises:
        InputError: If nothing is shared, or pruned weights would grow back.
    """
    if not shared.kernels:
        raise InputError("--epochs: no kernel shares values, so there is nothing to fine-tune; "
                         "give a quantiser, e.g. --compression pruCWS, or --epochs 0; prune.py "
                         "fine-tunes pruned float kernels")
    if pruned_floats:
        raise InputError("--epochs: pruned kernels that are left float would grow back; share "
                         "their values too (--clustercnn, --clusterfc above 0), or --epochs 0")


def tune(
    model: keras.Model,
    shared: SharedWeights,
    study: Study,
    settings: FineTuning,
    compression: Compression,
    *,
    seed: int = 0,
    state_folder: Path | None = None,
    sample_weight: Mapping[str, NDArray] | None = None,
    pruned: Mapping[str, NDArray] | None = None,
) -> tuple[FineTuned, list[str]]:
    """Fine-tune on the study's training images, stopping early on its validation images.

    With `settings.retrain` the shared weights are then trained again, from where they started,
    on training and validation images together, for as many epochs as were best.

    Args:
        model: Holding its original weights, and again when this returns.
        shared: Its shared weights before.
        study: With a training part; labels may all be unknown (NaN) where
            `settings.distill` is on.
        settings: How.
        compression: What `shared` came from; gradual quantisation shares weights again.
        seed: Of the order of images and of dropout.
        state_folder: Where the state is kept after each epoch, so that an interrupted call
            resumes.
        sample_weight: As for `share_model`, where weights are shared again.
        pruned: By path, bool in the kernel's shape: weights that stay 0. None: those that
            `compression` prunes of the model's original weights, or finds at 0
            (`quantization.prune_masks`).

    Returns:
        What came out, with the history of the first training, and lines that a user must read.

    Raises:
        InputError: If there are no training images, or they cannot be used.
    """
    collection = study.collection
    check_crop(settings.crop, study)
    if collection.train is None or collection.val is None:
        raise InputError(f"{collection.name}: has no train part to fine-tune on; give one with "
                         "train images, or --epochs 0")
    weights = models.weights(model)
    common = {
        "task": study.task.name, "learning_rate": settings.learning_rate,
        "lr_cumulative": settings.lr_cumulative, "batch_size": settings.batch_size,
        "assign": settings.assign, "grid": settings.grid, "distill": settings.distill,
        "seed": seed, "strategy": settings.strategy}
    on_trellis = compression.quantizer == "TCQ"
    if on_trellis:
        common |= {"assign": "fixed", "lr_cumulative": 0.0}
    train = _training_batches(study, collection.train, settings, seed)
    # Whole fields: they are what the network answers in the end, and squares of them judge epochs
    # otherwise.
    val = batches(study, collection.val, settings.batch_size)
    if settings.crop is not None:
        model = models.at_any_size(model, settings.crop)
    common["pruned"] = pruned if pruned is not None else prune_masks(
        {kernel.path: (weights[kernel.path], kernel.family)
         for kernel in models.kernels(model) if kernel.path in shared.kernels}, compression)
    notes = _frozen(model, shared)
    start, latent, epochs = shared, None, settings.epochs
    coarser = stages(compression) if settings.gradual and not on_trellis else []
    epochs_a_stage = epochs // (2 * len(coarser)) if coarser else 0
    if coarser and not epochs_a_stage:
        notes.append(f"--gradual: {epochs} epochs are too few to share out, so that all of them "
                     f"train the shared values asked for; give --epochs {2 * len(coarser)} or more")
    elif coarser:
        start, latent, said = _gradually(
            model, weights, train, val, [*coarser, compression], epochs_a_stage, settings.patience,
            seed, state_folder, sample_weight, common)
        epochs -= len(coarser) * epochs_a_stage
        notes += said
    tuned = fine_tune(
        model, start, weights, train, val, epochs=epochs, patience=settings.patience,
        state_folder=state_folder, lr_schedule=settings.lr_schedule, latent=latent, **common)
    notes += tuned.notes
    if start is not shared:
        tuned = _better_of(
            fine_tune(model, shared, weights, train, val, epochs=0, **common), tuned)
    notes.append(_what_happened(tuned))
    if settings.retrain and tuned.best_epoch > 0:
        both = joined(collection.train, collection.val)
        again = fine_tune(
            model, start, weights,
            _training_batches(study, both, settings, seed), None, epochs=tuned.best_epoch,
            state_folder=state_folder and Path(state_folder) / "retraining",
            lr_schedule=settings.lr_schedule, schedule_epochs=epochs, latent=latent, **common)
        notes += again.notes
        if again.best_epoch == tuned.best_epoch:
            notes.append(f"trained again on training and validation images together ({len(both)}) "
                         f"for {tuned.best_epoch} epochs; validation images no longer tell "
                         "anything about the result")
            tuned = replace(tuned, shared=again.shared)
        else:
            notes.append("training again on training and validation images together diverged; "
                         "what the training images alone gave is kept")
    if on_trellis:
        # The very indices again: a codebook without its unused values would hide the code.
        tuned = replace(tuned, shared=replace(shared, unshared=tuned.shared.unshared))
        notes.append("TCQ: shared values and indices stay as they are, since any change would "
                     "leave the trellis; only biases and BatchNormalization train")
    return tuned, notes


def stages(compression: Compression) -> list[Compression]:
    """The same compression with 16 and with 4 times as many shared values, at most 256.

    Families left float stay so; stages in which nothing is coarser are left out.
    """
    found = []
    for factor in (16, 4):
        k = {family: min(factor * count, max(count, MOST_GRADUAL))
             for family, count in compression.k.items()}
        if k != dict(compression.k) and (not found or k != dict(found[-1].k)):
            found.append(replace(compression, k=k))
    return found


def _gradually(
    model: keras.Model, original: dict[str, NDArray], train, val,
    compressions: Sequence[Compression], epochs: int, patience: int, seed: int,
    state_folder: Path | None, sample_weight: Mapping[str, NDArray] | None,
    common: Mapping[str, Any],
) -> tuple[SharedWeights, Mapping[str, NDArray], list[str]]:
    """Latent weights trained under all compressions but the last, and shared as that one says.

    Returns:
        The shared weights, the latent weights, and a line a stage.
    """
    def shared_as(compression: Compression, weights: Mapping[str, NDArray]) -> SharedWeights:
        models.set_weights(model, weights)
        try:
            return share_model(model, compression, seed, sample_weight)
        finally:
            models.set_weights(model, original)

    weights, latent, notes = original, None, []
    for number, stage in enumerate(compressions[:-1], start=1):
        step = fine_tune(
            model, shared_as(stage, weights), original, train, val, epochs=epochs,
            patience=patience, lr_schedule="constant", latent=latent, keep_latent=True,
            state_folder=state_folder and Path(state_folder) / f"stage{number}", **common)
        latent = step.latent
        # Latent weights, not shared values: those would be taken for weights pruned to 0.
        weights = original | dict(step.shared.unshared) | latent
        notes.append(" ".join((
            f"gradually: k = {max(stage.k.values())}, validation loss "
            f"{step.history['val_loss'][step.best_epoch]:.4g}", *step.notes)))
    return shared_as(compressions[-1], weights), latent, notes


def _better_of(untrained: FineTuned, tuned: FineTuned) -> FineTuned:
    """What came in, untrained, unless what came out has the lower validation loss."""
    before = untrained.history["val_loss"][0]
    if before <= tuned.history["val_loss"][tuned.best_epoch]:
        return replace(tuned, shared=untrained.shared, best_epoch=0, history={
            name: [values[0], *tuned.history[name][1:]]
            for name, values in untrained.history.items()})
    return tuned


def _frozen(model: keras.Model, shared: SharedWeights) -> list[str]:
    """One line where some kernels belong to layers that do not train."""
    trained = {kernel.path: kernel.variable.trainable for kernel in models.kernels(model)
               if kernel.path in shared.kernels}
    frozen = [path for path, trains in trained.items() if not trains]
    if not frozen or len(frozen) == len(trained):
        return []
    return [f"{len(frozen)} of {len(trained)} kernels are of frozen layers (the first: "
            f"{frozen[0]}) and keep their indices; to train them too, save the model with "
            "trainable = True"]


def _what_happened(tuned: FineTuned) -> str:
    losses = tuned.history["val_loss"]
    if tuned.best_epoch == 0:
        return (f"fine-tuning: none of {len(losses) - 1} epochs lowered the validation loss "
                f"({losses[0]:.4g}); the quantised weights are kept. Try other rates")
    return (f"fine-tuning: validation loss {losses[0]:.4g} to {losses[tuned.best_epoch]:.4g} in "
            f"epoch {tuned.best_epoch} of {len(losses) - 1}")


def check_crop(crop: int | None, study: Study) -> None:
    """Refuse squares that cannot be cut out.

    Args:
        crop: As for `FineTuning`.
        study: Images that they are cut out of.

    Raises:
        InputError: If the images are no fields of nuclei, or smaller.
    """
    if crop is None:
        return
    if study.task.name != "nuclei":
        raise InputError(f"--crop {crop}: for fields of nuclei; these are {study.task.name} images")
    side = min(study.preprocessing.size)
    if not 0 < crop <= side:
        raise InputError(f"--crop {crop}: the network's fields have {side} pixels a side")


def _training_batches(study: Study, part: Part, settings: FineTuning, seed: int
                      ) -> keras.utils.PyDataset:
    return batches(study, part, settings.batch_size, seed, settings.crop,
                   settings.augment or settings.crop is not None)


def batches(
    study: Study, part: Part, batch_size: int, seed: int | None = None, crop: int | None = None,
    augment: bool = False,
) -> keras.utils.PyDataset:
    """Batches to train on and to validate on: images and labels, or fields and density maps.

    Args:
        study: Task and preprocessing.
        part: Images.
        batch_size: Images a batch.
        seed: Of an order anew in every epoch; None keeps the stored one.
        crop: As for `FineTuning`.
        augment: As for `FineTuning`.
    """
    if study.task.name == "nuclei":
        from cxcompress.training.density_fitting import DensityBatches

        return DensityBatches(
            part, study.preprocessing, batch_size, seed, classes=len(study.task.classes),
            crop=crop, augment=augment)
    return PartBatches(part, study.preprocessing, batch_size, seed,
                       Augmentation() if augment else None)


def forget(state_folder: Path) -> None:
    """Remove the states of fine-tuning, which are as large as several models."""
    (Path(state_folder) / STATISTICS_FILE).unlink(missing_ok=True)
    for state in list(Path(state_folder).rglob(STATE_FILE)):
        state.unlink()
        if state.parent != Path(state_folder):
            state.parent.rmdir()
