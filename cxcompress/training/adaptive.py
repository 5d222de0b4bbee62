"""Adaptive fine-tuning: from one task to the next, the head replaced and the rest kept.

    stages = [Stage("pneumonia", pneumonia, 4), Stage("cardiomegaly", single, 6),
              Stage("14 diseases", collection, 20, loss="masked_bce")]
    model, histories = run_chain(build, stages, preprocessing, settings)

The study behind it (MedImaging, an EfficientNet-B4) goes from ImageNet to pneumonia, to
cardiomegaly against no finding, to 14 diseases; it reports that freezing the early layers is
considerably worse, without numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Collection
from cxcompress.images import Preprocessing
from cxcompress.training.fitting import Fitted, fit_classifier
from cxcompress.training.transfer import freeze_backbone, transfer

ACTIVATIONS = {"multiclass": "softmax", "multilabel": "sigmoid"}


@dataclass(frozen=True)
class Stage:
    """One task of the chain.

    Args:
        name: Of the stage.
        collection: Its images and labels, with `train` and `val` parts.
        epochs: All of them are trained; the best on validation is kept.
        loss: For multilabel, one of `losses.LOSSES`.
        watched: `"val_loss"` or, multilabel, `"val_macro_ap"`.
        frozen: Whether only the head trains.
    """

    name: str
    collection: Collection
    epochs: int
    loss: str | None = None
    watched: str = "val_loss"
    frozen: bool = False

    @property
    def images_seen(self) -> int:
        """Training images that go through the network: what a budget counts."""
        return self.epochs * len(self.collection.train)


@dataclass(frozen=True)
class ChainSettings:
    """What all stages share: Adam's learning rate, images a step, seed, augmentation, AdamW's
    weight decay, and a folder for the state of each stage (None keeps none)."""

    learning_rate: float = 5e-4
    batch_size: int = 16
    seed: int = 0
    augmentation: Augmentation | None = None
    weight_decay: float = 0.0
    folder: Path | None = None


def budget_epochs(stages: Sequence[Stage]) -> int:
    """Epochs of the last stage's collection in which as many images are seen as in the chain."""
    seen = sum(stage.images_seen for stage in stages)
    return max(1, round(seen / len(stages[-1].collection.train)))


def run_chain(
    build: Callable[[int, str], keras.Model], stages: Sequence[Stage],
    preprocessing: Preprocessing, settings: ChainSettings,
) -> tuple[keras.Model, dict[str, Fitted]]:
    """Train stage after stage, each from the backbone of the one before.

    Args:
        build: From the number of classes and the activation to a new network.
        stages: In their order.
        preprocessing: From stored image to network input, the same in all.
        settings: Of all.

    Returns:
        The model after the last stage, and what each stage's training left.
    """
    model, fitted = None, {}
    for number, stage in enumerate(stages):
        keras.utils.set_random_seed(settings.seed + number)
        following = build(len(stage.collection.classes), ACTIVATIONS[stage.collection.task])
        if model is not None:
            transfer(model, following)
        freeze_backbone(following, stage.frozen)
        state = settings.folder and settings.folder / f"stage{number + 1}.npz"
        fitted[stage.name] = fit_classifier(
            following, stage.collection, preprocessing, epochs=stage.epochs,
            learning_rate=settings.learning_rate, batch_size=settings.batch_size,
            patience=max(stage.epochs, 3), seed=settings.seed + number,
            augmentation=settings.augmentation, weight_decay=settings.weight_decay,
            loss=stage.loss, watched=stage.watched, state=state,
            about={"stage": stage.name, "frozen": stage.frozen, "epochs": stage.epochs})
        freeze_backbone(following, False)
        model = following
    return model, fitted
