"""A sweep's work: train (or open) a network a seed, treat it, store what it says of every image.

    sweep = Sweep(folder, open_study, network, SweepSettings())
    row = sweep.one(seed=0, treatment=ORIGINAL)

One work unit a (seed, treatment); the original's trains the seed's network. A treated network is
retrained only where `retrain_epochs` says so: pruned weights then stay pruned, shared ones stay
shared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.evaluation import evaluate
from cxcompress.pipeline.inputs import Study, predict
from cxcompress.pipeline.sharing import with_estimated_statistics
from cxcompress.quantization import Compression
from cxcompress.representation import Codebook, SharedKernel, SharedWeights
from cxcompress.search.prediction_store import PredictionStore, SweepImages, weight_histogram
from cxcompress.search.treatments import ORIGINAL, Treatment
from cxcompress.storage import Container, ModelCard, write_container
from cxcompress.tasks import Predictions

PREDICT_BATCH = 128
HELD_INPUTS_BYTES = 512_000_000
"""Judged images are preprocessed once where the result takes at most this."""


@dataclass(frozen=True)
class SweepSettings:
    """What all units of a sweep share.

    Args:
        bn_statistics: `"keep"`, or `"estimate"`: BatchNormalization statistics are estimated again
            on training images after each treatment.
        retrain_epochs: Epochs of training after each treatment, 0 for none.
        learning_rate: Of that training.
        batch_size: Of that training.
    """

    bn_statistics: str = "keep"
    retrain_epochs: int = 0
    learning_rate: float = 1e-3
    batch_size: int = 64


class Sweep:
    """One sweep over one collection.

    Args:
        path: The run folder.
        open_study: Gives the study; called when first needed.
        network: From a seed to its network: trained, or opened from a file. Called once a seed
            and process; what it trained it keeps in the run folder.
        settings: What happens after a treatment.
    """

    def __init__(self, path: Path, open_study: Callable[[], Study],
                 network: Callable[[int], keras.Model], settings: SweepSettings):
        self.path, self.settings = path, settings
        self._open_study = open_study
        # Units of a seed follow each other, so one network at a time is enough.
        self._network = lru_cache(maxsize=1)(network)
        self._thresholds = lru_cache(maxsize=1)(self._choose_thresholds)

    @cached_property
    def study(self) -> Study:
        """The data as all networks see them.

        Raises:
            InputError: If they are not labelled images of at least 3 classes.
        """
        study = self._open_study()
        collection = study.collection
        if collection.task not in ("multilabel", "multiclass") or not study.labelled:
            raise InputError(f"--data_path {collection.name}: holds {collection.task} images; a "
                             "sweep needs labelled classes")
        if len(collection.classes) < 3:
            raise InputError(f"--data_path {collection.name}: has {len(collection.classes)} "
                             "classes; what is forgotten first needs at least 3 to compare")
        return study

    @cached_property
    def judged(self):
        """The part that is judged: test, or val where there is no test part."""
        return self.study.judged_part("test", [])[0]

    @cached_property
    def store(self) -> PredictionStore:
        """Where predictions go."""
        collection, part = self.study.collection, self.judged
        train = collection.train if collection.train is not None else part
        labels = np.nan_to_num(np.asarray(train.labels, np.float64))
        return PredictionStore.create(self.path / "predictions", SweepImages(
            part.image_id, part.patient_id, tuple(collection.classes),
            np.asarray(part.labels, np.float32), (labels.T @ labels).round().astype(np.int64),
            collection.title, collection.synthetic, collection.credit, collection.task))

    @cached_property
    def _inputs(self) -> list[NDArray] | None:
        part, preprocessing = self.judged, self.study.preprocessing
        height, width = preprocessing.size
        if 4 * len(part) * height * width * preprocessing.channels > HELD_INPUTS_BYTES:
            return None
        return [preprocessing.batch(part.select(rows).images) for rows in np.split(
            np.arange(len(part)), range(PREDICT_BATCH, len(part), PREDICT_BATCH))]

    def record(self, model: keras.Model) -> Predictions:
        """What the model says of the judged images."""
        def outputs_of(part):
            if self._inputs is None:
                return predict(model, part, self.study.preprocessing, PREDICT_BATCH, "Predicting")
            return np.concatenate([np.asarray(model.predict_on_batch(batch))
                                   for batch in self._inputs])

        return self.study.record_of(outputs_of, self.judged)

    def _choose_thresholds(self, seed: int) -> NDArray[np.float32]:
        chosen = self.study.thresholds(self._network(seed), PREDICT_BATCH)
        return np.full(len(self.study.task.classes), 0.5 if chosen is None else chosen, np.float32)

    def one(self, seed: int, treatment: Treatment) -> dict[str, Any]:
        """Treat, predict, store; returns a row about the treated network."""
        store = self.store  # first, since it refuses unfit data before anything is trained
        model = self._network(seed)
        kernels = {kernel.path: (np.asarray(kernel.variable), kernel.family)
                   for kernel in models.kernels(model)}
        weights = models.weights(model)
        about: dict[str, Any] = {"seed": seed, "series": treatment.series,
                                 "treatment": treatment.name, "level": treatment.level}
        try:
            if treatment == ORIGINAL:
                shared = SharedWeights({}, {}, weights)
                arrays = dict(zip(("weight_counts", "weight_edges"), weight_histogram(
                    [array for array, _ in kernels.values()]), strict=True))
                arrays["thresholds"] = self._thresholds(seed)
            else:
                shared = self._treated(model, kernels, weights, treatment, seed)
                arrays = {}
            about |= _size(model, kernels, shared, treatment, self.study)
            record = self.record(model)
        finally:
            models.set_weights(model, weights)
        store.write(seed, treatment.name, record.score, series=treatment.series,
                         level=treatment.level, arrays=arrays, attributes={
                             key: about[key] for key in ("bytes", "space_ratio", "sparsity")})
        if treatment == ORIGINAL:
            thresholds = (None if record.task == "multiclass"
                          else tuple(map(float, arrays["thresholds"])))
            estimates = evaluate(record, thresholds=thresholds)
            about |= {f"{metric}_{part}": getattr(estimates[metric], part) for metric in
                      ("auroc_macro", "average_precision_macro")
                      for part in ("value", "low", "high", "n")}
        return about

    def _treated(
        self, model: keras.Model, kernels: Mapping[str, tuple[NDArray, str]],
        weights: Mapping[str, NDArray], treatment: Treatment, seed: int,
    ) -> SharedWeights:
        """Leave the treated weights in the model, and return them."""
        part = treatment.apply(kernels, seed)
        rest = {path: array for path, array in weights.items() if path not in part.kernels}
        shared = SharedWeights(part.codebooks, part.kernels, rest | dict(part.unshared))
        if self.settings.bn_statistics == "estimate":
            shared, _ = with_estimated_statistics(model, shared, self.study, keep="always",
                                                  seed=seed)
        if self.settings.retrain_epochs:
            shared = self._retrained(model, shared, treatment, kernels, seed)
        models.set_weights(model, shared.weights())
        return shared

    def _retrained(self, model: keras.Model, shared: SharedWeights, treatment: Treatment,
                   kernels: Mapping[str, tuple[NDArray, str]], seed: int) -> SharedWeights:
        from cxcompress.pipeline.tuning import FineTuning, tune
        from cxcompress.training import fit_classifier

        settings = self.settings
        if treatment.compression:
            compression = Compression.parse(
                treatment.compression, clustercnn=treatment.k, clusterfc=treatment.k)
            masks = treatment.masks(kernels, seed) or {}
            tuned, _ = tune(model, shared, self.study, FineTuning(
                epochs=settings.retrain_epochs, learning_rate=settings.learning_rate,
                lr_cumulative=settings.learning_rate, batch_size=settings.batch_size),
                compression, seed=seed, pruned={path: ~kept for path, kept in masks.items()})
            return tuned.shared
        models.set_weights(model, shared.weights())
        keras.utils.set_random_seed(seed)
        variables = models.variables_by_path(model)
        fit_classifier(
            model, self.study.collection, self.study.preprocessing,
            epochs=settings.retrain_epochs, learning_rate=settings.learning_rate,
            batch_size=settings.batch_size, seed=seed,
            callbacks=[KeepPruned([(variables[path], mask) for path, mask
                                   in treatment.masks(kernels, seed).items()])])
        return SharedWeights({}, {}, models.weights(model))


class KeepPruned(keras.callbacks.Callback):
    """Sets pruned weights back to 0 after every step.

    Args:
        masks: Keras variables, each with a bool in its shape: True where the weight stays.
    """

    def __init__(self, masks: Sequence[tuple[keras.Variable, NDArray[np.bool_]]]):
        super().__init__()
        self.masks = [(variable, mask.astype(np.float32)) for variable, mask in masks]

    def on_train_batch_end(self, batch, logs=None):
        for variable, mask in self.masks:
            variable.assign(variable * mask)


def _size(
    model: keras.Model, kernels: Mapping[str, tuple[NDArray, str]], shared: SharedWeights,
    treatment: Treatment, study: Study,
) -> dict[str, Any]:
    """Bytes of the compressed file, its ratio, and the share of the kernels' weights that are 0.

    A network that is pruned and shares nothing counts as a file that holds which weights stay
    (one bit each before entropy coding) and four bytes for each of those.
    """
    arrays = {path: shared.kernel(path) if path in shared.kernels else shared.unshared[path]
              for path in kernels}
    total = sum(array.size for array in arrays.values())
    kept = sum(int(np.count_nonzero(array)) for array in arrays.values())
    extra = 0
    if treatment.score and not treatment.compression:
        extra = 4 * kept
        shared = SharedWeights(
            {"kept": Codebook(np.array([0, 1], np.float32))},
            {path: SharedKernel((array != 0).astype(np.uint8), "kept")
             for path, array in arrays.items()},
            {path: array for path, array in shared.unshared.items() if path not in kernels})
    with tempfile.TemporaryDirectory() as folder:
        sizes = write_container(Path(folder) / "model.h5", Container(
            shared, models.architecture_json(model), {},
            ModelCard(task=study.task.name, classes=study.task.classes),
            treatment.compression))
    count = sizes.total + extra
    return {"bytes": count, "space_ratio": count / (4 * model.count_params()),
            "sparsity": 1 - kept / total}


def trained_network(
    seed: int, path: Path, name: str, size: int, channels: int, study: Study,
    **training: Any,
) -> keras.Model:
    """The network of a seed: read from the run folder, else trained and kept there.

    Args:
        seed: Of weights at the start and of the order of images.
        path: Its `.keras` file.
        name: As `models.build` takes it.
        size, channels: Of its input.
        training: Arguments of `training.fit_classifier`.
    """
    from cxcompress.training import fit_classifier

    if path.exists():
        return models.load_model(path)
    keras.utils.set_random_seed(seed)
    model = models.build(name, (size, size, channels), len(study.collection.classes),
                         activation={"multilabel": "sigmoid",
                                     "multiclass": "softmax"}[study.collection.task])
    fit_classifier(model, study.collection, study.preprocessing, seed=seed, **training)
    models.save_model(model, path)
    return model
