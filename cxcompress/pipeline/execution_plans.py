"""Which plans a compressed model can run by, how fast each is here, and what it does to answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxcompress import models, runtime
from cxcompress.conversion.plans import build_plans
from cxcompress.errors import InputError
from cxcompress.evaluation import Estimate, evaluate
from cxcompress.evaluation.timing import interleaved
from cxcompress.images import image_files
from cxcompress.pipeline.inputs import Study
from cxcompress.runs import progress
from cxcompress.runtime.checking import (
    MOST_INPUTS,
    check_inputs,
    image_digest,
    output_difference,
    summary,
)
from cxcompress.storage import Container

TOLERANCE = 0.05
"""Difference of a plan's outputs (`output_difference`) up to which it may be recommended."""
KERAS = "Keras compiled call"
REPEATS = 12
CLEARLY_SLOWER = 1.25
FEWEST_BITS = ("static_int8", "int8", "float32")


@dataclass(frozen=True)
class PlanReport:
    """One plan of a compressed model.

    Args:
        plan: `"float32"`, `"int8"` or `"static_int8"`.
        seconds: Median of one call of one image, on this machine, threads as `runtime.load` takes.
        time_ratio: Against the compiled Keras call of the original, timed in turns with it.
        difference: Of its outputs from Keras' with the same compressed weights
            (`output_difference`), on the check images.
        recommended: Whether `auto` takes it.
        metrics: On the judged part, where there is one.
    """

    plan: str
    seconds: float
    time_ratio: float
    difference: float
    recommended: bool = False
    metrics: Mapping[str, Estimate] = field(default_factory=dict)


def add_plans(
    container: Container, model: keras.Model, names: Sequence[str], check: NDArray,
    study: Study | None = None, judge_on: str | None = None, resamples: int = 1000, seed: int = 0,
    check_images: str | None = None,
) -> tuple[Container, list[PlanReport], list[str]]:
    """Convert, time, compare and judge the plans of a container.

    The fastest plan whose outputs stay within `TOLERANCE` becomes the recommended one; of plans
    within a factor of `CLEARLY_SLOWER` of it, that in fewest bits.

    Args:
        container: The compressed model.
        model: The original; its weights are the same again when this returns.
        names: Plans wanted.
        check: Inputs `(n, …)` that outputs are compared on.
        study: Where activation ranges come from (training images, else validation ones).
        judge_on: Part whose metrics are taken for every plan; None: none.
        resamples, seed: Of intervals.
        check_images: Folder of pictures to compare on instead; outputs of the first
            `runtime.checking.MOST_INPUTS` are stored, the pictures are not.

    Returns:
        The container with its graphs and a card that says what was found, a report a plan, and
        notes.

    Raises:
        InputError: If the check images cannot be read, or nothing says how they become inputs.
    """
    calibration = None
    if study is not None:
        part = study.collection.train or study.collection.val
        if part is not None:
            calibration = study.preprocessing.batch(_some(part).images)
    plans = build_plans(model, container.shared, calibration, names)
    running: dict[str, runtime.RuntimeModel] = {}
    for name, graph in list(plans.graphs.items()):
        try:
            running[name] = runtime.RuntimeModel.of(container, graph, name)
        except InputError as error:  # a graph that LiteRT converts and then will not run
            del plans.graphs[name]
            plans.notes.append(f"plan {name} unavailable: {error}")
    if not running:
        return container, [], plans.notes
    rescales = models.ends.rescales_input(model)
    if check_images is None:
        checked = check_inputs(model.inputs[0].shape[1:], seed, rescales)
        source = {"seed": seed, "bytes_range": rescales}
    else:
        check = next(iter(running.values())).inputs_of(image_files([check_images]))
        checked = check[:MOST_INPUTS]
        source = {"images_sha256": image_digest(checked)}
    compiled, one = tf.function(model), tf.constant(check[:1])
    seconds = interleaved(
        {name: lambda plan=plan: plan.predict(check[:1]) for name, plan in running.items()}
        | {KERAS: lambda: np.asarray(compiled(one))}, REPEATS)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    weights = models.weights(model)
    models.set_weights(model, container.shared.weights())
    try:
        expected = np.asarray(model(check, training=False))
        answers = np.asarray(model(checked, training=False))
    finally:
        models.set_weights(model, weights)
    differences = {name: output_difference(plan.predict(check), expected)
                   for name, plan in running.items()}
    within = [name for name in running if differences[name] <= TOLERANCE] or ["float32"]
    best = _recommended({name: median[name] for name in within if name in running})
    reports = [
        PlanReport(name, median[name], median[name] / median[KERAS], differences[name],
                   name == best, _metrics(plan, study, judge_on, container, resamples, seed))
        for name, plan in progress(running.items(), "Plans", total=len(running))]
    found = {
        "tolerance": TOLERANCE,
        "plans": {report.plan: {"difference": report.difference} for report in reports},
        "check": source | {"inputs": len(checked), "outputs": summary(answers)}}
    card = dataclasses.replace(container.card, recommended_plan=best,
                               metrics=dict(container.card.metrics) | {"execution": found})
    return dataclasses.replace(container, graph=plans.graphs, card=card), reports, plans.notes


def _recommended(seconds: dict[str, float]) -> str | None:
    """The fastest plan; of those nearly as fast the one in fewest bits.

    Timings are never the same twice, and the same command should write the same bytes: they
    themselves are not in the file, and decide only where they are clearly apart.
    """
    nearly = [name for name in seconds if seconds[name] <= CLEARLY_SLOWER * min(seconds.values())]
    return min(nearly, key=FEWEST_BITS.index, default=None)


def _some(part):
    from cxcompress.conversion.litert_converter import CALIBRATION_IMAGES
    from cxcompress.pipeline.inputs import evenly

    return evenly(part, CALIBRATION_IMAGES)


def _metrics(plan, study: Study | None, judge_on, container, resamples, seed):
    if study is None or judge_on is None:
        return {}
    part, _ = study.judged_part(judge_on, [])
    thresholds = container.card.thresholds
    record = study.record_of(
        lambda some: plan.predict(study.preprocessing.batch(some.images)), part, thresholds)
    return evaluate(record, thresholds=thresholds, resamples=resamples, seed=seed)
