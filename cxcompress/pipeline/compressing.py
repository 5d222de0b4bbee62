"""The road from a Keras model to a compressed container, and the proof of what it costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from cxcompress import models
from cxcompress.data.collection import Collection
from cxcompress.errors import InputError
from cxcompress.evaluation import Comparison, Estimate, compare, evaluate
from cxcompress.evaluation.calibration import calibration_bins
from cxcompress.evaluation.plausibility import plausibility_warnings
from cxcompress.images import Preprocessing
from cxcompress.models import ends
from cxcompress.pipeline import inputs as starting
from cxcompress.pipeline.channel_scales import with_scaled_channels
from cxcompress.pipeline.execution_plans import PlanReport, add_plans
from cxcompress.pipeline.layer_reports import LayerReport, layer_reports, with_index_maps_of
from cxcompress.pipeline.sensitivities import IMAGES, squared_gradients
from cxcompress.pipeline.sharing import (
    fewer_levels,
    share_model,
    with_estimated_statistics,
)
from cxcompress.pipeline.tuning import FineTuning, check_tunable, tune
from cxcompress.pipeline.unshared_weights import COMPACT_NOTE, with_compact_floats
from cxcompress.quantization import Compression
from cxcompress.quantization.quality import decibels
from cxcompress.quantization.sharing import came_pruned
from cxcompress.representation import SharedWeights
from cxcompress.runtime import PLANS
from cxcompress.storage import (
    Container,
    ContainerSizes,
    ModelCard,
    read_container,
    write_container,
)
from cxcompress.tasks import Predictions
from cxcompress.training.fine_tuning import FineTuned

CHECK_IMAGES = 32
"""Images on which the sensitivity of a layer is measured, where data are given."""
NOISE_IMAGES = 8
CALIBRATION_BINS = 5
"""Generated inputs on which it is measured otherwise."""


@dataclass(frozen=True)
class CompressionResult:
    """All that `compress` found out.

    Args:
        container: The compressed model, ready to write.
        parameters: Number of all parameters of the original, BatchNormalization included.
        layers: One `LayerReport` a kernel, in network order: what quantisation did to it (SQNR,
            sensitivity), and its index map as stored.
        original, compressed: Predictions on the judged part; None without labelled data.
        before, after: Metrics of these with n and 95% intervals.
        comparison: Differences and verdicts; None without labelled data.
        judged_on: `"test"` or `"val"`; None without data.
        synthetic: Whether model or data are generated.
        notes: Lines that a user must read: choices made, warnings.
        quantised: Predictions after quantisation, before fine-tuning; None where not fine-tuned.
        between: Metrics of these.
        tuned: What fine-tuning gave; None where not fine-tuned.
        plans: What each execution plan costs and gains; none where none were wanted or possible.
    """

    container: Container
    parameters: int
    layers: Sequence[LayerReport]
    original: Predictions | None = None
    compressed: Predictions | None = None
    before: Mapping[str, Estimate] = field(default_factory=dict)
    after: Mapping[str, Estimate] = field(default_factory=dict)
    comparison: Comparison | None = None
    judged_on: str | None = None
    synthetic: bool = False
    notes: Sequence[str] = ()
    quantised: Predictions | None = None
    between: Mapping[str, Estimate] = field(default_factory=dict)
    tuned: FineTuned | None = None
    plans: Sequence[PlanReport] = ()

    @property
    def stages(self) -> dict[str, Mapping[str, Estimate]]:
        """Metrics by stage, in order: the original, after quantisation, after fine-tuning."""
        if not self.after:
            return {}
        if self.tuned is None:
            return {"original": self.before, "after quantisation": self.after}
        return {"original": self.before, "after quantisation": self.between,
                "after fine-tuning": self.after}

    @property
    def entropy_bits(self) -> float:
        """Order-0 entropy of the index maps, bits a weight, over all shared kernels."""
        shared = [layer for layer in self.layers if layer.levels is not None]
        sizes = [math.prod(layer.shape) for layer in shared]
        return float(np.average([layer.entropy_bits for layer in shared], weights=sizes)) \
            if shared else math.nan

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantisation-noise ratio of all shared kernels together, in dB.

        Of quantisation: fine-tuning moves weights on purpose.
        """
        shared = [layer for layer in self.layers if layer.levels is not None]
        if not shared:
            return math.nan
        return decibels(sum(layer.signal for layer in shared),
                        sum(layer.noise for layer in shared))

    @property
    def largest_change(self) -> float:
        """Largest change of any probability of any judged image; NaN without probabilities."""
        if not isinstance(self.original, Predictions):
            return math.nan
        return float(np.abs(self.compressed.score - self.original.score).max())

    def save(self, path, *, coder: str = "auto", overwrite: bool = False) -> ContainerSizes:
        """Write the container and read it back; its weights must come out exactly.

        Raises:
            InputError: If the path exists without `overwrite`, or cannot be written.
            RuntimeError: If the file does not give the same weights back.
        """
        sizes = write_container(path, self.container, coder=coder, overwrite=overwrite)
        if not same_weights(read_container(path).shared, self.container.shared):
            raise RuntimeError(f"{path}: decoded weights differ from those written")
        return sizes

    def model(self) -> keras.Model:
        """The compressed model as an ordinary Keras model with float weights."""
        return models.model_from_container(self.container)


def same_weights(one: SharedWeights, other: SharedWeights) -> bool:
    """Whether two compressed models hold exactly the same indices, codebooks and floats."""
    if one.kernels.keys() != other.kernels.keys() or one.unshared.keys() != other.unshared.keys():
        return False
    return all(
        np.array_equal(kernel.indices, other.kernels[path].indices)
        and np.array_equal(one.codebooks[kernel.codebook].values,
                           other.codebooks[other.kernels[path].codebook].values)
        for path, kernel in one.kernels.items()
    ) and all(
        np.array_equal(value, other.unshared[path], equal_nan=True)
        for path, value in one.unshared.items()
    )


def compress(
    model: keras.Model | str | Path,
    data: Collection | str | Path | None = None,
    compression: str | Compression = "uCWS",
    k: int = 256,
    *,
    preprocessing: str | Preprocessing = "auto",
    classes: Sequence[str] | None = None,
    count: int | None = None,
    fine_tuning: FineTuning | None = None,
    bn_statistics: Literal["auto", "keep", "estimate"] = "auto",
    judge_on: str = "test",
    margin: float = 0.02,
    resamples: int = 1000,
    batch_size: int = starting.BATCH_SIZE,
    sensitivity: bool = True,
    seed: int = 0,
    units_folder: Path | None = None,
    plans: Sequence[str] = PLANS,
    check_images: str | None = None,
    importance: Literal["none", "fisher", "channels"] = "none",
    unshared: Literal["exact", "compact"] = "exact",
) -> CompressionResult:
    """Compress a Keras model by weight sharing and measure what that costs.

    Args:
        model: A Keras model, or a path that `models.load_model` reads. A model object keeps its
            weights.
        data: A collection, or what `open_collection` opens; None quantises only.
        compression: A name such as `"uCWS"` or `"pruECSQ"`, or a parsed `Compression`.
        k: Number of shared values, for a name; a `Compression` carries its own.
        preprocessing: A preset name, an object, or `"auto"`: the model's card, else its own
            `Rescaling` layer, else the preset with the least cross-entropy on training images.
        classes: Class names in the order of the model's outputs.
        count: Images to generate, where `data` is a `"synthetic:…"` name.
        fine_tuning: How shared values are fine-tuned; None: not at all.
        bn_statistics: Whether BatchNormalization's moving statistics are estimated again, on
            training images, after quantisation: `"auto"` where that lowers the validation loss
            by a tenth or more, `"keep"` never, `"estimate"` always.
        judge_on: `"test"`, or `"val"` to leave the test part alone.
        margin: Non-inferiority margin, in the metric's own units.
        resamples: Bootstrap resamples.
        batch_size: Images a prediction step.
        sensitivity: Whether to measure what each layer alone does to the output.
        seed: Seed of everything random.
        units_folder: Where finished layers and epochs are kept, so that an interrupted call
            resumes.
        plans: Execution plans to store, so that the file runs without TensorFlow.
        importance: `"fisher"`: quantisers weigh each weight's error by the squared change of the
            outputs that it makes on training images (`sensitivities.squared_gradients`).
            `"channels"`: besides, output channels before a BatchNormalization are scaled by it
            (`channel_scales.with_scaled_channels`).
        unshared: `"compact"`: BatchNormalization as scale and shift, and short floats, for a file
            that is only to answer (`unshared_weights.with_compact_floats`).
        check_images: Folder of pictures that plans are compared on, instead of those of `data`.

    Returns:
        A `CompressionResult`; nothing is written but `units_folder`.

    Raises:
        InputError: If model, data and flags do not fit each other.
    """
    notes: list[str] = []
    model, card, provenance = starting.open_model(model)
    if isinstance(compression, str):
        compression = Compression.parse(compression, clustercnn=k, clusterfc=k)
    if importance != "none" and data is None:
        raise InputError(f"--sensitivity {importance} needs images; give --data_path")
    if data is None:
        notes.append("no data given: not fine-tuned, not evaluated")
        study, check, labels = None, noise_inputs(model, seed), None
    else:
        study = starting.open_study(model, card, data, classes, preprocessing, seed, notes,
                                    count)
        images = starting.evenly(study.collection.val or study.collection.test, CHECK_IMAGES)
        check = study.preprocessing.batch(images.images)
        labels = None
        if study.labelled:
            labels = (study.scaled_cells(images) if study.task.name == "nuclei"
                      else images.labels)
    sample_weight = None
    if importance != "none":
        sample_weight = squared_gradients(
            model, _training_inputs(study), study.task.name, seed)
    if importance == "channels":
        model, sample_weight, scaled = with_scaled_channels(model, sample_weight)
        notes.append(f"{scaled} output channels scaled by how much they move the outputs; the "
                     "BatchNormalization after them takes the scale back")
    shared = share_model(model, compression, seed, sample_weight)
    notes += fewer_levels(shared, compression)
    layers = layer_reports(
        model, shared, check if sensitivity else check[:0], labels,
        study.task if study else None, units_folder,
    )
    estimated = False
    if study is not None and bn_statistics != "keep":
        quantised, said = with_estimated_statistics(
            model, shared, study, keep="always" if bn_statistics == "estimate" else "better",
            batch_size=batch_size, seed=seed, state_folder=units_folder)
        estimated = quantised is not shared
        shared = quantised
        notes += said
    quantised, tuned = shared, None
    if study is not None and fine_tuning is not None and fine_tuning.epochs:
        check_tunable(shared, pruned_floats=any(
            kernel.path in shared.unshared and came_pruned(shared.unshared[kernel.path])
            for kernel in models.kernels(model)))
        tuned, said = tune(model, shared, study, fine_tuning, compression, seed=seed,
                           state_folder=units_folder, sample_weight=sample_weight)
        notes += said
        shared = tuned.shared
        layers = [with_index_maps_of(layer, shared) for layer in layers]

    if unshared == "compact":
        shared = with_compact_floats(model, shared)
        notes.append(COMPACT_NOTE)

    if card is not None and "remark" in card.provenance:
        provenance = provenance | {"remark": card.provenance["remark"]}
    provenance = provenance | {"compression": compression.get_config(), "seed": seed,
                               "bn_statistics": "estimated" if estimated else "kept"}
    if unshared == "compact":
        provenance["unshared"] = unshared
    if importance != "none":
        provenance["sensitivity"] = importance
    if tuned is not None:
        provenance["fine_tuning"] = dataclasses.asdict(fine_tuning) | {
            "collection": study.collection.title,
            "collection_is_synthetic": study.collection.synthetic,
            "best_epoch": tuned.best_epoch}
    card = ModelCard(
        task=study.task.name if study else (card.task if card else ""),
        classes=study.task.classes if study else (card.classes if card else ()),
        preprocessing=study.preprocessing.to_dict() if study else (
            card.preprocessing if card else None),
        thresholds=card.thresholds if card and (
            study is None or card.classes == study.task.classes) else None,
        provenance=provenance,
        licence=card.licence if card else "",
        synthetic=bool(card and card.synthetic) or bool(
            (tuned or estimated) and study.collection.synthetic),
        from_logits=ends.gives_logits(model),
    )
    result = CompressionResult(
        container=Container(shared, models.architecture_json(model), {}, card,
                            compression.name),
        parameters=model.count_params(), layers=layers, notes=notes,
        synthetic=card.synthetic or bool(study and study.collection.synthetic), tuned=tuned,
    )
    if study is not None and study.labelled:
        result = _judged(result, model, study, quantised, judge_on, margin, resamples, batch_size,
                         seed)
    elif study is not None:
        notes.append("the images have no labels: not evaluated")
    if not plans:
        return result
    container, reports, said = add_plans(
        result.container, model, plans, check, study, judge_on if result.judged_on else None,
        resamples, seed, check_images)
    return dataclasses.replace(result, container=container, plans=reports,
                               notes=[*result.notes, *said])


def judge_container(
    container: Container,
    model: keras.Model,
    original: keras.Model,
    study: starting.Study,
    *,
    judge_on: str = "test",
    margin: float = 0.02,
    resamples: int = 1000,
    batch_size: int = starting.BATCH_SIZE,
    seed: int = 0,
    plans: Sequence[str] = PLANS,
    notes: Sequence[str] = (),
) -> CompressionResult:
    """Measure what a model that is compressed already costs, and add its execution plans.

    Args:
        container: Compressed; its card says how.
        model: The network that it holds, with the weights it had before compression.
        original: The network that it is compared with: `model`, or a larger one.
        study: Their data.
        judge_on, margin, resamples, batch_size, seed, plans: As for `compress`.
        notes: Lines that a user must read.

    Returns:
        A `CompressionResult`; layers say nothing of sensitivity.
    """
    check = study.preprocessing.batch(starting.evenly(
        study.collection.val or study.collection.test, CHECK_IMAGES).images)
    result = CompressionResult(
        container=container, parameters=original.count_params(),
        layers=layer_reports(model, container.shared, check[:0], None, study.task, None),
        notes=list(notes), synthetic=container.card.synthetic or study.collection.synthetic)
    result = _judged(result, model, study, container.shared, judge_on, margin, resamples,
                     batch_size, seed, original=original)
    container, reports, said = add_plans(
        result.container, model, plans, check, study, judge_on, resamples, seed)
    return dataclasses.replace(result, container=container, plans=reports,
                               notes=[*result.notes, *said])


def _training_inputs(study: starting.Study) -> np.ndarray:
    part = study.collection.train or study.collection.val
    if part is None:
        raise InputError(f"{study.collection.name}: has no train part for --sensitivity")
    return study.preprocessing.batch(starting.evenly(part, IMAGES).images)


def noise_inputs(model: keras.Model, seed: int) -> np.ndarray:
    """Generated inputs for a model that came without images: uniform noise, float32.

    In 0–255 where the model rescales its input itself, else in 0–1.
    """
    size, channels = starting.input_size(model)
    noise = np.random.default_rng(seed).random((NOISE_IMAGES, *size, channels), np.float32)
    return noise * 255 if ends.rescales_input(model) else noise


def _judged(
    result: CompressionResult, model: keras.Model, study: starting.Study,
    quantised: SharedWeights, judge_on: str, margin: float, resamples: int, batch_size: int,
    seed: int, original: keras.Model | None = None,
) -> CompressionResult:
    """The result with predictions, metrics and verdicts of the judged part."""
    part, name = study.judged_part(judge_on, result.notes)
    carded = result.container.card.thresholds
    if name == "val" and study.task.name == "multilabel":
        result.notes.append("judged on val, where the thresholds were chosen too: accuracies and "
                            "decisions look better than on new images; AUROC does not use them")
    elif name == "val" and result.tuned is not None:
        result.notes.append("judged on val, where fine-tuning chose its epoch: a little better "
                            "than on new images")
    weights = models.weights(model)

    def judged(description: str, shared: SharedWeights | None, thresholds=None, original=None):
        """Predictions on the part, and the thresholds that validation images give."""
        models.set_weights(model, weights if shared is None else shared.weights())
        try:
            chosen = thresholds or study.thresholds(model, batch_size, original)
            return study.record(model, part, batch_size, description, chosen), chosen
        finally:
            models.set_weights(model, weights)

    if original is None or original is model:
        before_record, thresholds = judged("Original model", None, carded)
    else:
        thresholds = carded or study.thresholds(original, batch_size)
        before_record = study.record(original, part, batch_size, "Original model", thresholds)
    compressed, new_thresholds = judged("Compressed model", result.container.shared,
                                        original=thresholds)
    between, untuned = {}, None
    if result.tuned is not None:
        untuned, _ = judged("Before fine-tuning", quantised, thresholds)
        between = evaluate(untuned, thresholds=thresholds, resamples=resamples, seed=seed)
    comparison = compare(before_record, compressed, margin=margin, thresholds=thresholds,
                         new_thresholds=new_thresholds, resamples=resamples, seed=seed)
    before, after = (evaluate(record, thresholds=thresholds, resamples=resamples, seed=seed)
                     for record in (before_record, compressed))
    card = dataclasses.replace(
        result.container.card, thresholds=new_thresholds or thresholds,
        metrics={"part": name, "collection": study.collection.title,
                 "collection_is_synthetic": study.collection.synthetic,
                 "calibration": _calibration(result, model, study, weights, batch_size),
                 "original": {key: dataclasses.asdict(value) for key, value in before.items()},
                 "compressed": {key: dataclasses.asdict(value) for key, value in after.items()}})
    warnings = ()
    if isinstance(before_record, Predictions):
        warnings = plausibility_warnings(before_record, thresholds=thresholds)
    return dataclasses.replace(
        result, container=dataclasses.replace(result.container, card=card),
        original=before_record, compressed=compressed, before=before, after=after,
        comparison=comparison, judged_on=name, quantised=untuned, between=between,
        notes=[*result.notes, *warnings],
    )


def _calibration(
    result: CompressionResult, model: keras.Model, study: starting.Study,
    weights: dict[str, np.ndarray], batch_size: int,
) -> dict[str, list[dict[str, float]]]:
    """How often each class was there on validation images of about the same probability.

    Five bins a class, three digits: a page shows them beside a probability, and they cost little.
    """
    part = study.collection.val
    if study.task.name == "nuclei" or part is None:
        return {}
    models.set_weights(model, result.container.shared.weights())
    try:
        record = study.record(model, part, batch_size, "Calibration")
    finally:
        models.set_weights(model, weights)
    found = {}
    for column, name in enumerate(record.classes):
        known = ~np.isnan(record.truth[:, column])
        truth, score = record.truth[known, column] > 0.5, record.score[known, column]
        if truth.any():
            found[name] = [{key: float(f"{value:.3g}") for key, value in one.items()}
                           for one in calibration_bins(truth, score, CALIBRATION_BINS)]
    return found
