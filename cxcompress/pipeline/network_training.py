"""Training many networks alike, one after the other, as studies of architectures and seeds do.

    trainer = NetworkTrainer(study, TrainingSettings(epochs=5, checkpoints=3))
    trained = trainer.train(model, seed=0)
    trained.record                                 # on the test part, mean of 3 checkpoints
    trained.facts["parameters"]

In a short training of a deep network most of the time is TensorFlow's tracing of its step: half a
minute for MobileNetV2 on one core. So a network of the same architecture as the one before takes
over the step that was traced, with weights and optimiser of its own.
"""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from cxcompress import models
from cxcompress.inspection.grad_cam import feature_layer
from cxcompress.models.multiply_accumulates import multiply_accumulates
from cxcompress.pipeline.inputs import Study, evenly
from cxcompress.tasks import Predictions
from cxcompress.training.best_checkpoints import BestCheckpoints
from cxcompress.training.fitting import PartBatches, fit_classifier
from cxcompress.training.normalization import FreshStatistics, statistics_step


@dataclass(frozen=True)
class TrainingSettings:
    """What all networks of a study have in common.

    Args:
        epochs, learning_rate, batch_size, patience: As for `fit_classifier`.
        checkpoints: Epochs, of the lowest validation loss, whose predictions are averaged.
        statistics: Training images on which BatchNormalization's means and variances are estimated
            again before every validation (`FreshStatistics`); 0: none.
    """

    epochs: int = 5
    learning_rate: float = 3e-4
    batch_size: int = 64
    patience: int = 3
    checkpoints: int = 1
    statistics: int = 0


@dataclass(frozen=True)
class TrainedNetwork:
    """What a training leaves.

    Args:
        model: With the weights of its best epoch; valid until the trainer's next training.
        record: Of the judged part: mean of the checkpoints' probabilities.
        facts: Writable as JSON: `parameters`, `multiply_accumulates`, `map` (size of the last
            feature maps), `best_epoch`, `val_loss` (of that epoch), `epochs`, `checkpoints`.
    """

    model: keras.Model
    record: Predictions
    facts: dict[str, Any]


class NetworkTrainer:
    """Trains networks on one study, with the same settings, and judges each once.

    Args:
        study: Classes, with `train` and `val` parts.
        settings: Of all trainings.
    """

    def __init__(self, study: Study, settings: TrainingSettings):
        self.study, self.settings = study, settings
        self._architecture = ""
        self._model: keras.Model | None = None
        self._step = None

    def train(self, model: keras.Model, seed: int) -> TrainedNetwork:
        """Train a new network; the same whatever was trained before.

        Args:
            model: Not trained before; its weights are where training starts.
            seed: Of the order of the images.

        Raises:
            InputError: As `fit_classifier`.
        """
        settings, study = self.settings, self.study
        model, traced = self._with_step(model)
        keeper = BestCheckpoints(settings.checkpoints)
        callbacks: list[keras.callbacks.Callback] = [keeper]
        if settings.statistics:
            seen = evenly(study.collection.train, settings.statistics)
            batches = math.ceil(len(seen) / settings.batch_size)  # of equal size
            callbacks.append(FreshStatistics(PartBatches(
                seen, study.preprocessing, math.ceil(len(seen) / batches)), self._step))
        fitted = fit_classifier(
            model, study.collection, study.preprocessing, epochs=settings.epochs,
            learning_rate=settings.learning_rate, batch_size=settings.batch_size,
            patience=settings.patience, seed=seed, callbacks=callbacks, keep_step=traced)
        part, _ = study.judged_part("test", [])
        records = []
        for weights in keeper.weights:
            model.set_weights(weights)
            records.append(study.record(model, part, settings.batch_size, "Test"))
        model.set_weights(keeper.weights[0])
        record = replace(records[0], score=np.mean([one.score for one in records], axis=0))
        side = _last_map(model)
        return TrainedNetwork(model, record, {
            "parameters": model.count_params(),
            "multiply_accumulates": multiply_accumulates(model),
            "map": "×".join(map(str, side)), "best_epoch": fitted.best_epoch,
            "val_loss": fitted["val_loss"][fitted.best_epoch],
            "epochs": len(fitted["val_loss"]), "checkpoints": keeper.epochs})

    def _with_step(self, model: keras.Model) -> tuple[keras.Model, bool]:
        """The model, or the one before with the weights of this one, and whether that is so."""
        architecture = models.architecture_json(model)
        if self._model is not None and architecture == self._architecture:
            # Variables, not weights: the state of dropout's random numbers belongs to them.
            for mine, given in zip(self._model.variables, model.variables, strict=True):
                mine.assign(given)
            return self._model, True
        self._model, self._architecture = model, architecture
        self._step = statistics_step(model)
        gc.collect()  # a traced step is a circle of references of hundreds of megabytes
        return model, False


def _last_map(model: keras.Model) -> tuple[int, int]:
    """Height and width of what the head pools; else of the last feature maps."""
    for layer in reversed(model.layers):  # squeeze-and-excitation pools, too, before the head
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            return layer.input.shape[1:3]
    return model.get_layer(feature_layer(model)).output.shape[1:3]
