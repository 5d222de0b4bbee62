"""Signs that the images do not reach the model as it was trained to see them.

    for line in plausibility_warnings(predictions, inputs=images, value_range=(0, 1)):
        print("warning:", line)

A model that somebody else trained says nothing about its preprocessing or the order of its
classes, and with the wrong one it fails silently. These checks see the usual failures: inputs out
of range, the same output for every image, decisions no better than chance or exactly reversed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation.auroc import auroc_estimates
from cxcompress.evaluation.metrics import balanced_accuracy, values
from cxcompress.evaluation.records import ReadyRecord
from cxcompress.tasks.predictions import Predictions

SAME_OUTPUT = 1e-4
"""Scores of a class that differ by less than this over all images count as the same."""

PREPROCESSINGS = "try --preprocessing 0-1, -1-1, imagenet, xrv or none"


def plausibility_warnings(
    predictions: Predictions,
    *,
    thresholds: Sequence[float] | None = None,
    inputs: NDArray | None = None,
    value_range: tuple[float, float] | None = None,
) -> list[str]:
    """One-line warnings that say what to try; empty if nothing looks wrong.

    Args:
        predictions: The original model's record.
        thresholds: Multilabel: one a class; without them multilabel decisions are not judged,
            since few findings of a rare class reach 0.5 in a sound model.
        inputs: What the model was given: float `(n, height, width, channels)`, a sample will do.
        value_range: The range that the model expects, where it is known.

    Raises:
        ValueError: If the record cannot be used (`ReadyRecord.of`).
    """
    record = ReadyRecord.of(predictions, thresholds)
    warnings = [] if inputs is None else _input_warnings(np.asarray(inputs), value_range)
    if len(record.score) > 1 and np.ptp(record.score, axis=0).max() < SAME_OUTPUT:
        return [*warnings, f"the model gives the same output for all {len(record.score)} images: "
                           f"its inputs are probably scaled wrongly; {PREPROCESSINGS}"]
    auroc = auroc_estimates(record)["auroc_macro"]
    recall = float(values(balanced_accuracy(record), record)[0])
    judged = record.task == "multiclass" or thresholds is not None
    chance = 1 / len(record.classes) if record.task == "multiclass" else 0.5
    if auroc.high < 0.5:
        warnings.append(f"the model is worse than chance (mean AUROC {auroc.value:.3f}): its "
                        f"classes are probably in another order than "
                        f"{', '.join(record.classes)}; try --classes in the model's order")
    elif auroc.low <= 0.5 <= auroc.high:
        warnings.append(f"the model is no better than chance (mean AUROC {auroc.value:.3f}, 95% "
                        f"interval {auroc.low:.3f} to {auroc.high:.3f}) or {auroc.n} images are "
                        f"too few to tell; {PREPROCESSINGS}, or --classes in the model's order")
    elif judged and recall <= chance:
        warnings.append(f"decisions are no better than chance (balanced accuracy {recall:.3f}) "
                        f"though the ranking is (mean AUROC {auroc.value:.3f}): "
                        f"{PREPROCESSINGS}, or --classes in the model's order")
    return warnings


def _input_warnings(inputs: NDArray, value_range: tuple[float, float] | None) -> list[str]:
    finite = np.isfinite(inputs)
    if not finite.all():
        return [f"{int((~finite).sum())} input values are NaN or infinite; check the images"]
    low, high = float(inputs.min()), float(inputs.max())
    if low == high:
        return [f"every input value is {low:g}: the images are blank or were read wrongly"]
    spans = f"the inputs span {low:.4g} to {high:.4g}"
    if value_range is not None:
        slack = 1e-3 * (value_range[1] - value_range[0])
        if low < value_range[0] - slack or high > value_range[1] + slack:
            return [f"{spans} but the model expects {value_range[0]:g} to {value_range[1]:g}; "
                    f"{PREPROCESSINGS}"]
    if max(abs(low), abs(high)) <= 2 / 255:
        return [f"{spans}: they look scaled twice; try --preprocessing none"]
    return []
