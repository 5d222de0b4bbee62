"""From stored predictions to the metrics of each series, one file in memory at a time.

    store = PredictionStore.open("results/prune_sweep/small_cxr")
    metrics = sweep_metrics(store, ["L1", "uUQ"])            # {"L1": SweepMetrics, …}
    ensemble(store, "L1@0.9", seeds)                         # mean probabilities (n, c)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.evaluation.forgettability import SweepMetrics
from cxcompress.evaluation.ranking import METRICS, treatment_metrics
from cxcompress.runs import progress
from cxcompress.search.prediction_store import PredictionStore, level_of, log_odds

logger = logging.getLogger(__name__)

ORIGINAL = "original"


def complete_seeds(
    store: PredictionStore, treatments: Sequence[str], seeds: Sequence[int] | None = None,
    missing: str = "error",
) -> tuple[int, ...]:
    """Seeds that have the original and every treatment.

    Args:
        store: The predictions.
        treatments: Names.
        seeds: Only these; None: all there are.
        missing: `"error"`, or `"drop"`: leave incomplete seeds out, with a warning.

    Raises:
        InputError: If a seed is incomplete, or none is complete.
    """
    wanted = [ORIGINAL, *treatments]
    chosen = store.seeds if seeds is None else tuple(seeds)
    unknown = [seed for seed in chosen if seed not in store.seeds]
    if unknown or not chosen:
        raise InputError(f"{store.path}: has no predictions of seed "
                         f"{unknown[0] if unknown else 'any'}; it has "
                         f"{', '.join(map(str, store.seeds)) or 'none'}")
    complete = []
    for seed in chosen:
        there = set(store.treatments(seed))
        lacking = [name for name in wanted if name not in there]
        if not lacking:
            complete.append(seed)
            continue
        said = (f"{store.path}: seed {seed} lacks {len(lacking)} of {len(wanted)} treatments, "
                f"e.g. {lacking[0]}")
        if missing == "error":
            raise InputError(f"{said}; run the same prune_sweep.py again, which adds them, or give "
                             "--missing drop to leave such seeds out")
        logger.warning("%s: left out", said)
    if not complete:
        raise InputError(f"{store.path}: no seed has all of the {len(wanted)} treatments; run "
                         "prune_sweep.py again, or give --series with fewer of them")
    return tuple(complete)


def sweep_metrics(
    store: PredictionStore, series: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None, missing: str = "error",
) -> dict[str, SweepMetrics]:
    """Metrics of each series, seed and level.

    Args:
        store: The predictions.
        series: Names; None: all there are.
        seeds: As for `complete_seeds`.
        missing: As for `complete_seeds`, each series by itself.

    Raises:
        InputError: If there is no such series, a seed is incomplete, a file cannot be used, or
            fewer than 3 classes have positive and negative images.
    """
    images = store.images
    positive, negative = (np.array([np.sum(column == value) for column in images.truth.T])
                          for value in (1, 0))
    usable = (positive > 0) & (negative > 0)
    if usable.sum() < 3:
        raise InputError(f"{store.path}: {int(usable.sum())} of {len(usable)} classes have "
                         "positive and negative images; at least 3 are needed to say which is "
                         "forgotten first")
    available = store.series()
    if not available:
        raise InputError(f"{store.path}: holds no treatment beside the original; run "
                         "prune_sweep.py with --treatments")
    for name in series or ():
        if name not in available:
            raise InputError(f"--series {name}: not in {store.path}; there are "
                             f"{', '.join(available)}")
    originals: dict[int, dict[str, NDArray]] = {}
    thresholds: dict[int, NDArray | None] = {}
    found = {}
    for name in series or available:
        treatments = available[name]
        chosen = complete_seeds(store, treatments, seeds, missing)
        values = {metric: np.full((len(chosen), 1 + len(treatments), len(images.classes)), np.nan)
                  for metric in METRICS}
        sizes = np.full((len(chosen), 1 + len(treatments)), np.nan)
        for row, seed in enumerate(progress(chosen, name, total=len(chosen))):
            if seed not in originals:
                thresholds[seed] = _thresholds(store, seed)
                originals[seed] = treatment_metrics(
                    store.read(seed, ORIGINAL), images.truth, thresholds[seed])
            for metric in METRICS:
                values[metric][row, 0] = originals[seed][metric]
            sizes[row, 0] = store.attributes(seed, ORIGINAL).get("bytes", np.nan)
            for place, treatment in enumerate(treatments, start=1):
                measured = treatment_metrics(store.read(seed, treatment), images.truth,
                                             thresholds[seed])
                for metric in METRICS:
                    values[metric][row, place] = measured[metric]
                sizes[row, place] = store.attributes(seed, treatment).get("bytes", np.nan)
        found[name] = SweepMetrics(
            name, tuple(level_of(treatment) for treatment in treatments), chosen, images.classes,
            values, np.median(sizes, axis=0))
    return found


def _thresholds(store: PredictionStore, seed: int) -> NDArray | None:
    """As log-odds; None where the class of the largest score decides."""
    if store.images.task == "multiclass":
        return None
    stored = store.array(seed, ORIGINAL, "thresholds")
    c = len(store.images.classes)
    if stored is None:
        return np.zeros(c)
    if stored.shape != (c,) or not np.isfinite(stored).all():
        raise InputError(f"{store.file(seed, ORIGINAL)}: thresholds of shape {stored.shape}, "
                         f"expected {c} finite numbers")
    return log_odds(stored).astype(np.float64)


def ensemble(
    store: PredictionStore, treatment: str, seeds: Sequence[int]
) -> NDArray[np.float64]:
    """Probabilities `(n, c)` averaged over seeds."""
    total = np.zeros(store.images.truth.shape)
    for seed in progress(seeds, treatment, total=len(seeds)):
        total += store.probabilities(seed, treatment)
    return total / len(seeds)
