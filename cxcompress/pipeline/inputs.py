"""What a compression starts from: the model, its data, and the preprocessing that joins them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress import models, tasks
from cxcompress.data import open_collection, with_validation
from cxcompress.data.collection import Collection, Part
from cxcompress.data.density_maps import density_maps
from cxcompress.errors import InputError
from cxcompress.evaluation import choose_thresholds, metrics
from cxcompress.evaluation.records import ReadyRecord
from cxcompress.images import Preprocessing
from cxcompress.models import ends
from cxcompress.runs import progress
from cxcompress.storage import ModelCard, is_container, read_card
from cxcompress.tasks import CellMatches, Predictions, Task

BATCH_SIZE = 32
FIELDS_AT_ONCE = 32
"""Fields whose density maps are held in memory together."""
THRESHOLD_FIELDS = 64
"""Validation fields on which the thresholds of density maps are chosen."""
TRIAL_IMAGES = 128
"""Training images on which `"auto"` preprocessing tries the presets."""
PRESETS = ("0-1", "-1-1", "imagenet", "xrv", "none")


def open_model(
    source: keras.Model | str | Path,
) -> tuple[keras.Model, ModelCard | None, dict[str, Any]]:
    """The model, its card (of a container, or `<stem>.card.json` beside the file) and provenance.

    Raises:
        InputError: If the file cannot be read, or the model has several inputs or outputs.
    """
    card, provenance = None, {}
    if isinstance(source, str | Path):
        path = Path(source)
        model = models.load_model(path)
        provenance = {"net": path.name, "net_bytes": path.stat().st_size,
                      "net_sha256": file_sha256(path)}
        card = read_card(path) if is_container(path) else read_card_beside(path)
    else:
        model = source
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise InputError(f"{provenance.get('net', model.name)}: has {len(model.inputs)} inputs and "
                         f"{len(model.outputs)} outputs; models of one input and one output can "
                         "be compressed")
    return model, card, provenance


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card_beside(path: Path) -> ModelCard | None:
    """The card `<stem>.card.json` beside a model file, or None.

    Raises:
        InputError: If there is one that cannot be read.
    """
    beside = path.with_name(path.stem + ".card.json")
    if not beside.exists():
        return None
    try:
        return ModelCard.from_dict(json.loads(beside.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{beside}: not a model card ({error}); mend it or move it away") from error


def input_size(model: keras.Model) -> tuple[tuple[int, int], int]:
    """Height and width, and channels, that the model takes (images, channels last).

    Raises:
        InputError: If its input is not an image of a fixed size.
    """
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4 or None in shape[1:]:
        raise InputError(f"the model takes inputs of shape {shape}; give a model whose input is "
                         "(batch, height, width, channels) with fixed numbers")
    return (shape[1], shape[2]), shape[3]


def open_data(
    data: Collection | str | Path, model: keras.Model, seed: int, count: int | None = None
) -> Collection:
    """The collection; where it is generated, `count` images at the model's input size.

    Raises:
        InputError: If it has no labels that a classifier can be judged by.
    """
    size, channels = input_size(model)
    if not isinstance(data, Collection):
        data = open_collection(data, size=size[0], channels=channels, seed=seed, count=count)
    maps = len(model.outputs[0].shape) == 4
    if data.task != "unlabelled" and maps != (data.task == "nuclei"):
        wanted = "maps" if maps else "one number a class"
        raise InputError(f"{data.name}: holds {data.task} labels, the model gives {wanted}; give "
                         f"{'fields of annotated nuclei' if maps else 'images with class labels'}"
                         ", or leave --data_path out to quantise only")
    return data


def open_with_validation(collection: Collection, seed: int, notes: list[str]) -> Collection:
    """The collection with a validation part: 15% of train where it brings none, said in `notes`."""
    if collection.val is not None or collection.train is None:
        return collection
    held = with_validation(collection, seed=seed)
    notes.append(f"{collection.name} has no val part: {len(held.val)} of "
                 f"{len(collection.train)} training images held out for validation, "
                 + ("by patient" if collection.patients_known else "patients unknown"))
    return held


def evenly(part: Part, count: int) -> Part:
    """At most `count` images, evenly spaced over the part."""
    if len(part) <= count:
        return part
    return part.select(np.linspace(0, len(part) - 1, count).round().astype(int))


@dataclass(frozen=True)
class Study:
    """A model's data as it sees them: the collection, the task and the preprocessing.

    Args:
        collection: With a `val` part wherever there is a `train` part.
        task: From the model's outputs to records.
        preprocessing: From stored image to network input.
    """

    collection: Collection
    task: Task
    preprocessing: Preprocessing

    @property
    def labelled(self) -> bool:
        """Whether any label is known."""
        return any(_has_labels(part) for part in (self.collection.train, self.collection.val,
                                                  self.collection.test) if part is not None)

    def judged_part(self, wanted: str, notes: list[str]) -> tuple[Part, str]:
        """The part that verdicts come from, and its name; says so where it is not the wanted one.

        Raises:
            InputError: If the collection has neither a test nor a validation part.
        """
        for name in dict.fromkeys((wanted, "test", "val") if wanted == "test" else ("val",)):
            part = getattr(self.collection, name)
            if part is not None and len(part):
                if name != wanted:
                    notes.append(f"{self.collection.name} has no {wanted} part: judged on {name}")
                return part, name
        raise InputError(f"{self.collection.name}: has no {wanted} part to judge the model on")

    def record(
        self, model: keras.Model, part: Part, batch_size: int, description: str,
        thresholds: Sequence[float] | None = None,
    ) -> Predictions:
        """What the model says of every image of a part, beside what is true.

        Args:
            model: To be judged.
            part: Images and labels.
            batch_size: Images a step.
            description: Of the progress bar.
            thresholds: Of the maps of nuclei; the records of classes hold probabilities.
        """
        return self.record_of(
            lambda some: predict(model, some, self.preprocessing, batch_size, description), part,
            thresholds, description)

    def record_of(
        self, outputs_of: Callable[[Part], NDArray], part: Part,
        thresholds: Sequence[float] | None = None, description: str = "Fields",
    ) -> Predictions | CellMatches:
        """`record` with outputs from anywhere.

        Args:
            outputs_of: From a part to the outputs of its images.
            part, thresholds, description: As for `record`.
        """
        if self.task.name != "nuclei":
            record = self.task.record(outputs_of(part), part.labels, part.image_id,
                                      part.patient_id)
            return replace(record, about=part.about)
        # In slices, since the maps of a large part would fill memory.
        slices = np.array_split(np.arange(len(part)), math.ceil(len(part) / FIELDS_AT_ONCE))
        records = []
        for rows in progress(slices, description, total=len(slices)):
            some = part.select(rows)
            records.append(self.task.record(
                outputs_of(some), self.scaled_cells(some), some.image_id, some.patient_id,
                thresholds))
        return CellMatches.joined(records)

    def scaled_cells(self, part: Part) -> list[NDArray]:
        """Annotated cells, int `(cells, 3)`, in pixels of the maps, as large as the input."""
        height, width = self.preprocessing.size
        scaled = []
        for cells, image in zip(part.labels, part.images, strict=True):
            factors = np.array([width / image.shape[1], height / image.shape[0], 1.0])
            scaled.append((cells * factors).astype(np.int64))
        return scaled

    def thresholds(self, model: keras.Model, batch_size: int,
                   original: Sequence[float] | None = None) -> tuple[float, ...] | None:
        """Thresholds chosen on validation; None for multiclass, or without validation images.

        For nuclei: levels of the density maps, by F1 on at most 64 validation fields.

        Args:
            model: Predicts.
            batch_size: Images a batch.
            original: For nuclei: a compressed model's original's thresholds, which stay unless
                others are clearly better (`NucleiTask.choose_thresholds`).
        """
        if self.task.name == "multiclass" or self.collection.val is None:
            return None
        if self.task.name == "nuclei":
            fields = evenly(self.collection.val, THRESHOLD_FIELDS)
            maps = predict(model, fields, self.preprocessing, batch_size, "Thresholds")
            return self.task.choose_thresholds(maps, self.scaled_cells(fields), original)
        return choose_thresholds(
            self.record(model, self.collection.val, batch_size, "Thresholds"))


def _has_labels(part: Part) -> bool:
    return not isinstance(part.labels, np.ndarray) or not np.isnan(part.labels).all()


def with_unknown_labels(
    collection: Collection, model: keras.Model, classes: Sequence[str] | None
) -> Collection:
    """Images without labels as a collection of the model's own task, every label unknown (NaN).

    Args:
        collection: Its task is `"unlabelled"`.
        model: Softmax outputs, or linear ones, exclude each other; sigmoid ones do not. Maps are
            density maps of nuclei.
        classes: Names of the outputs, where known.

    Raises:
        InputError: If there are not as many names as outputs.
    """
    outputs = model.outputs[0].shape
    classes = tuple(classes or (f"output {number}" for number in range(outputs[-1])))
    if len(classes) != outputs[-1]:
        raise InputError(f"the model has {outputs[-1]} outputs, --classes names {len(classes)}")
    if len(outputs) > 2:
        raise InputError(f"{collection.name}: holds images without labels, which serve models of "
                         "whole images; give a folder of annotated fields")
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")

    def unknown(part: Part | None) -> Part | None:
        return part and replace(part, labels=np.full((len(part), len(classes)), np.nan, np.float32))

    return replace(collection, task="multilabel" if activation == "sigmoid" else "multiclass",
                   classes=classes, train=unknown(collection.train), val=unknown(collection.val),
                   test=unknown(collection.test))


def open_study(
    model: keras.Model,
    card: ModelCard | None,
    data: Collection | str | Path,
    classes: Sequence[str] | None,
    preprocessing: str | Preprocessing,
    seed: int,
    notes: list[str],
    count: int | None = None,
) -> Study:
    """Open the data and find out how the model sees them; choices are said in `notes`.

    Raises:
        InputError: If the data cannot be read, or do not fit the model.
    """
    collection = open_with_validation(open_data(data, model, seed, count), seed, notes)
    if classes is None and card is not None and card.classes:
        classes = card.classes
    if collection.task == "unlabelled":
        collection = with_unknown_labels(collection, model, classes)
        notes.append(f"{collection.name}: {len(collection.train) + len(collection.val)} images "
                     "without labels: the original model's outputs stand for them")
    elif classes is not None:
        collection = collection.in_class_order(classes)
    task = tasks.get(collection.task, collection.classes, ends.gives_logits(model))
    chosen = choose_preprocessing(model, collection, task, preprocessing, card, notes)
    return Study(collection, task, chosen)


def predict(
    model: keras.Model, part: Part, preprocessing: Preprocessing, batch_size: int, description: str
) -> NDArray[np.float32]:
    """The model's outputs for every image of a part, with a progress bar.

    Returns:
        float32 `(n, …)`.
    """
    starts = range(0, len(part), batch_size)
    outputs = [
        np.asarray(model.predict_on_batch(
            preprocessing.batch(part.select(np.arange(start, min(start + batch_size, len(part))))
                                .images)))
        for start in progress(starts, description, total=len(starts))
    ]
    return np.concatenate(outputs).astype(np.float32)


def choose_preprocessing(
    model: keras.Model,
    collection: Collection,
    task: Task,
    wanted: str | Preprocessing,
    card: ModelCard | None,
    notes: list[str],
) -> Preprocessing:
    """From stored image to network input, as asked for or found out; says how in `notes`.

    `"auto"` takes the card's, else 0–255 where the model rescales by itself, else the preset
    with the least cross-entropy on at most 128 training (or validation) images. Test images
    are never used for it.
    """
    if isinstance(wanted, Preprocessing):
        return wanted
    size, channels = input_size(model)
    if wanted != "auto":
        return Preprocessing.preset(wanted, size, channels)
    if card is not None and card.preprocessing:
        carded = Preprocessing.from_dict(card.preprocessing)
        if (tuple(carded.size), carded.channels) != (size, channels):
            raise InputError(f"the model takes {size[0]}x{size[1]} pixels of {channels} channels, "
                             f"its card says {carded.size[0]}x{carded.size[1]} of "
                             f"{carded.channels}; give --preprocessing, or mend the card")
        return carded
    if ends.rescales_input(model):
        notes.append("preprocessing: none (0–255), since the model rescales its input itself")
        return Preprocessing.preset("none", size, channels)
    part = collection.train or collection.val
    if part is None or not _has_labels(part) or task.name == "nuclei":
        notes.append("preprocessing: 0-1 assumed, since no images with class labels tell it; "
                     "give --preprocessing if that is wrong")
        return Preprocessing.preset("0-1", size, channels)
    trial = evenly(part, TRIAL_IMAGES)
    losses = {}
    for name in PRESETS:
        preset = Preprocessing.preset(name, size, channels)
        losses[name] = cross_entropy(
            task, predict(model, trial, preset, BATCH_SIZE, f"trying {name}"), trial.labels)
    best = min(losses, key=losses.get)
    tried = ", ".join(f"{name} {loss:.3g}" for name, loss in losses.items())
    notes.append(f"preprocessing: {best}, the least cross-entropy of the presets on {len(trial)} "
                 f"{'training' if collection.train else 'validation'} images ({tried})")
    return Preprocessing.preset(best, size, channels)


def mean_loss(task: Task, outputs: NDArray, labels: NDArray | Sequence[NDArray]) -> float:
    """Mean cross-entropy in nats; for nuclei mean squared error of the density maps.

    Args:
        task: Of the outputs.
        outputs: As the model gives them.
        labels: `(n, c)`, NaN = unknown; for nuclei n arrays of cells in pixels of the maps.
    """
    if task.name != "nuclei":
        return cross_entropy(task, outputs, labels)
    return float(np.mean([
        np.square(maps - density_maps(cells, maps.shape[:2], maps.shape[2])).mean()
        for maps, cells in zip(outputs, labels, strict=True)]))


def cross_entropy(task: Task, outputs: NDArray, labels: NDArray) -> float:
    """Mean cross-entropy in nats; unknown labels are left out."""
    number = np.arange(len(outputs)).astype(str)
    record = ReadyRecord.of(task.record(outputs, labels, number, number))
    return float(metrics.values(metrics.cross_entropy(record), record)[0])
