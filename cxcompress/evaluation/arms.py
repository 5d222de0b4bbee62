"""Comparing ways of training, each tried with several seeds, on the same test images.

    chain = arm_estimates([seed0, seed1])                     # means over seeds, with intervals
    change = arm_differences([direct0, direct1], [seed0, seed1])
    change["auroc_macro"].low

The interval says how sure the *test images* make us of the seeds' mean: AUROCs by DeLong (the
placements of each patient averaged over the seeds), average precision by the bootstrap of patients.
How much another seed would change is not in it; look at the seeds' own values for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cxcompress.evaluation.auroc import (
    AurocParts,
    auroc_interval,
    auroc_parts_by_class,
    left_out,
    macro_variance_and_freedom,
    t_interval,
)
from cxcompress.evaluation.bootstrap import PatientDraws
from cxcompress.evaluation.estimates import Estimate, reservations
from cxcompress.evaluation.metrics import Statistic, average_precision, interval
from cxcompress.evaluation.records import ReadyRecord, align
from cxcompress.tasks.predictions import Predictions


def arm_estimates(
    records: Sequence[Predictions], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Mean over seeds of the AUROCs and average precisions of one way of training.

    Args:
        records: One a seed, of the same images.
        resamples, seed: Of the draws of patients.

    Returns:
        Estimates by key: `auroc_macro`, `auroc:<class>`, `average_precision_macro`,
        `average_precision:<class>`.

    Raises:
        ValueError: If there is no record or they do not match (`align`).
    """
    return _estimates(_ready(records), None, resamples, seed)


def arm_differences(
    reference: Sequence[Predictions], other: Sequence[Predictions], *, resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The same keys: `other` − `reference`, paired by image.

    Raises:
        ValueError: If there is no record or they do not match.
    """
    ready = _ready([*reference, *other])
    return _estimates(ready[len(reference):], ready[:len(reference)], resamples, seed)


def _ready(records: Sequence[Predictions]) -> list[ReadyRecord]:
    if not records:
        raise ValueError("a way of training needs at least one record. Received: none")
    return [ReadyRecord.of(align(records[0], record)[1]) for record in records]


def mean_parts(parts: Sequence[AurocParts]) -> AurocParts:
    """The mean of several AUROCs on the same images and labels, split by patient."""
    first = parts[0]
    return AurocParts(
        float(np.mean([part.value for part in parts])),
        np.mean([part.of_positives for part in parts], axis=0),
        np.mean([part.of_negatives for part in parts], axis=0),
        first.positives, first.negatives, first.positive_patients, first.negative_patients,
        first.patients)


def _estimates(records, reference, resamples: int, seed: int) -> dict[str, Estimate]:
    record, classes = records[0], records[0].classes

    def of(some: Sequence[ReadyRecord]) -> list[AurocParts]:
        by_seed = [auroc_parts_by_class(one) for one in some]
        return [mean_parts(column) for column in zip(*by_seed, strict=True)]

    parts = of(records)
    if reference is not None:
        parts = [mine - other for mine, other in zip(parts, of(reference), strict=True)]
    note = f"; mean of {len(records)} seeds" if len(records) > 1 else ""
    found = {}
    used = [part for part in parts if part.estimable]
    if used:
        found["auroc_macro"] = _estimate(
            float(np.mean([part.value for part in used])), *macro_variance_and_freedom(used),
            used, note + left_out(classes, parts), reference is not None)
    else:
        found["auroc_macro"] = _undefined(record, "no class has 2 positive and 2 negative patients")
    for name, part in zip(classes, parts, strict=True):
        key = f"auroc:{name}"
        if math.isnan(part.value):
            found[key] = _undefined(record, "no positive or no negative image")
        else:
            found[key] = _estimate(part.value, *part.variance_and_freedom(), [part], note,
                                   reference is not None)
    draws = PatientDraws(record.patients, resamples, seed)
    ours = [average_precision(one) for one in records]
    theirs = [average_precision(one) for one in reference or ()]

    def compute(counts):
        values = np.mean([one.compute(counts) for one in ours], axis=0)
        if theirs:
            values = values - np.mean([one.compute(counts) for one in theirs], axis=0)
        return values

    return found | _bootstrapped(ours[0], compute, record, draws, note)


def _estimate(
    value, variance, freedom, parts: Sequence[AurocParts], note: str, difference: bool
) -> Estimate:
    largest = max(parts, key=lambda part: part.patients)
    low = high = math.nan
    method = "interval undefined: fewer than 2 positive or 2 negative patients"
    if not math.isnan(variance):
        if difference:
            low, high = (min(1.0, max(-1.0, end)) for end in t_interval(value, variance, freedom))
            method = f"paired DeLong, t with {freedom:.1f} degrees of freedom"
        else:
            low, high, method = auroc_interval(value, variance, freedom, parts, len(parts))
        method += reservations(largest.patients)
    return Estimate(value, low, high, largest.positives + largest.negatives,
                    sum(part.positives for part in parts), largest.patients, method + note)


def _undefined(record: ReadyRecord, why: str) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, len(record.score), 0, record.patients,
                    f"undefined: {why}")


def _bootstrapped(
    statistic: Statistic, compute, record: ReadyRecord, draws: PatientDraws, note: str
) -> dict[str, Estimate]:
    plain = compute(np.ones((record.patients, 1)))[:, 0]
    drawn = draws.apply(compute)
    found = {}
    for row, name in enumerate(statistic.names):
        low, high, method = interval(float(plain[row]), drawn[row], (), False, record.patients)
        found[name] = Estimate(float(plain[row]), low, high, statistic.n[row],
                               statistic.positives[row], record.patients, method + note)
    return found
