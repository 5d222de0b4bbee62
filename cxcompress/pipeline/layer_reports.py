"""What sharing its weights does to each kernel alone, so that a user sees which layer hurts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.pipeline.inputs import BATCH_SIZE, mean_loss
from cxcompress.quantization.quality import decibels
from cxcompress.representation import SharedWeights, entropy_bits
from cxcompress.runs import WorkUnit, run_units
from cxcompress.tasks import Task
from cxcompress.training.fine_tuning import digest


@dataclass(frozen=True)
class LayerReport:
    """What sharing its weights does to one kernel.

    Args:
        kernel: Keras variable path.
        layer: Keras layer name.
        family: `"conv"`, `"depthwise"` or `"dense"`.
        shape: Kernel shape.
        levels: Distinct shared values that this kernel uses; None for a kernel kept float.
        entropy_bits: Order-0 entropy of its index map, bits a weight.
        signal: Sum of the squared weights.
        noise: Sum of the squared changes of the weights.
        sparsity: Share of weights that are exactly 0.
        output_change: Root mean square change of the model's output when this kernel alone is
            compressed, relative to the output's standard deviation.
        loss_change: Change of the cross-entropy then (of the squared error, for density maps);
            NaN without labelled images.
    """

    kernel: str
    layer: str
    family: str
    shape: tuple[int, ...]
    levels: int | None
    entropy_bits: float
    signal: float
    noise: float
    sparsity: float
    output_change: float
    loss_change: float

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantisation-noise ratio, 10 log10(signal / noise), in dB."""
        return decibels(self.signal, self.noise)


def layer_reports(
    model: keras.Model,
    shared: SharedWeights,
    inputs: NDArray,
    labels: NDArray | None = None,
    task: Task | None = None,
    units_folder: Path | None = None,
) -> list[LayerReport]:
    """One report a kernel, in network order.

    Args:
        model: The original; its weights are the same again when this returns.
        shared: Its compressed weights.
        inputs: float32 `(n, h, w, c)`, preprocessed; n = 0 leaves the model's output unmeasured.
        labels: `(n, classes)`, or None where unknown.
        task: How outputs become probabilities; None with unknown labels.
        units_folder: Where finished kernels are kept.
    """
    kernels = models.kernels(model)
    changes: Mapping[str, Any] = {}
    if len(inputs):
        reference = outputs_for(model, inputs)
        decoded = {kernel.path: _decoded(shared, kernel.path) for kernel in kernels}
        # Named by the values too: a folder may hold those of another number of shared values.
        names = {path: f"sensitivity/{path}/{digest(values)}" for path, values in decoded.items()}
        units = [
            WorkUnit(names[kernel.path], _change_alone,
                     {"model": model, "kernel": kernel, "values": decoded[kernel.path],
                      "inputs": inputs, "labels": labels, "task": task, "reference": reference})
            for kernel in kernels
        ]
        found = run_units(units, units_folder, "Sensitivity of each layer")
        changes = {path: found[name] for path, name in names.items()}
    return [_report(kernel, shared, changes.get(kernel.path, {})) for kernel in kernels]


def with_index_maps_of(report: LayerReport, shared: SharedWeights) -> LayerReport:
    """The report with levels, entropy and sparsity of other weights of the same kernel.

    What fine-tuning stores is not what quantisation gave; SQNR and sensitivity stay those of
    quantisation.
    """
    if report.kernel not in shared.kernels:
        return report
    stored = shared.kernels[report.kernel]
    return replace(
        report, levels=int(np.unique(stored.indices).size),
        entropy_bits=entropy_bits(stored.indices, shared.codebooks[stored.codebook].k),
        sparsity=float(np.mean(shared.kernel(report.kernel) == 0)))


def outputs_for(model: keras.Model, inputs: NDArray) -> NDArray[np.float32]:
    """The model's outputs for preprocessed inputs, `BATCH_SIZE` at a time."""
    return np.concatenate([
        np.asarray(model.predict_on_batch(inputs[start:start + BATCH_SIZE]))
        for start in range(0, len(inputs), BATCH_SIZE)
    ])


def _change_alone(
    model: keras.Model,
    kernel: models.Kernel,
    values: NDArray,
    inputs: NDArray,
    labels: NDArray | None,
    task: Task | None,
    reference: NDArray,
) -> dict[str, float]:
    original = np.asarray(kernel.variable)
    kernel.variable.assign(values)
    try:
        outputs = outputs_for(model, inputs)
    finally:
        kernel.variable.assign(original)
    spread = float(reference.std())
    change = float(np.sqrt(np.mean(np.square(outputs.astype(np.float64) - reference))))
    loss_change = float("nan")
    if labels is not None:
        loss_change = mean_loss(task, outputs, labels) - mean_loss(task, reference, labels)
    return {"output_change": change / spread if spread > 0 else float("nan"),
            "loss_change": loss_change}


def _report(
    kernel: models.Kernel, shared: SharedWeights, change: Mapping[str, float | None]
) -> LayerReport:
    original = np.asarray(kernel.variable).astype(np.float64)
    decoded = _decoded(shared, kernel.path)
    levels, bits = None, math.nan
    if kernel.path in shared.kernels:
        stored = shared.kernels[kernel.path]
        k = shared.codebooks[stored.codebook].k
        levels = int(np.unique(stored.indices).size)
        bits = entropy_bits(stored.indices, k)
    return LayerReport(
        kernel=kernel.path, layer=kernel.layer_name, family=kernel.family,
        shape=tuple(kernel.shape), levels=levels, entropy_bits=bits,
        signal=float(np.square(original).sum()),
        noise=float(np.square(decoded - original).sum()),
        sparsity=float(np.mean(decoded == 0)),
        output_change=_number(change.get("output_change")),
        loss_change=_number(change.get("loss_change")),
    )


def _decoded(shared: SharedWeights, path: str) -> NDArray[np.float32]:
    return shared.kernel(path) if path in shared.kernels else shared.unshared[path]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
