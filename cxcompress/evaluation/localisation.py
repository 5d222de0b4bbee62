"""Does a map of where a network looks fall on the finding?

    found = localise(maps, masks)                      # arrays (n,) by metric
    estimates(found, patients)                         # means with intervals by patient
    differences(found, other, patients)                # paired

Three questions of every finding: is the hottest pixel on it (the pointing game; Zhang et al., "Top-
down neural attention by excitation backprop", 2018); how much do the hottest pixels, as many as the
finding has, overlap it (intersection over union, so that no threshold has to be chosen); and what
share of the map lies on it (Wang et al., "Score-CAM", 2020, the energy-based pointing game).
`chance` is the finding's share of the image: what a random pixel and an even map would reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cxcompress.evaluation.bootstrap import PatientDraws, percentile_interval
from cxcompress.evaluation.estimates import Estimate, reservations

METRICS = ("pointing_game", "iou", "energy", "chance")


def enlarged(maps: NDArray, size: int) -> NDArray[np.float32]:
    """Maps `(n, h, w)` at `(n, size, size)`, bilinearly."""
    height, width = maps.shape[1:]
    return ndimage.zoom(np.asarray(maps, np.float32), (1, size / height, size / width), order=1,
                        mode="nearest", grid_mode=True)


def localise(maps: NDArray, masks: NDArray) -> dict[str, NDArray[np.float64]]:
    """How well each map falls on its finding.

    Args:
        maps: `(n, size, size)`, 0 or more, hot where the network looks.
        masks: bool `(n, size, size)`, True on the finding, not empty.

    Returns:
        By name of `METRICS`, float64 `(n,)` in [0, 1]. A map that is 0 everywhere points nowhere:
        0 of all but `chance`.
    """
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ValueError("maps and masks are (n, size, size) both. Received: "
                         f"{maps.shape} and {masks.shape}")
    n = len(maps)
    flat, inside = maps.reshape(n, -1).astype(np.float64), masks.reshape(n, -1)
    area = inside.sum(axis=1)
    if not area.all():
        raise ValueError(f"every mask covers something. Received: {int((area == 0).sum())} empty")
    some = flat.max(axis=1, initial=0) > 0
    hottest = np.take_along_axis(inside, flat.argmax(axis=1)[:, None], axis=1)[:, 0]
    # Rank 0 is the hottest pixel; a finding of a pixels is compared with ranks below a.
    ranks = np.argsort(np.argsort(-flat, axis=1, kind="stable"), axis=1, kind="stable")
    both = ((ranks < area[:, None]) & inside).sum(axis=1)
    total = np.maximum(flat.sum(axis=1), np.finfo(np.float64).tiny)
    return {"pointing_game": (hottest & some).astype(np.float64),
            "iou": np.where(some, both / (2 * area - both), 0.0),
            "energy": np.where(some, (flat * inside).sum(axis=1) / total, 0.0),
            "chance": area / inside.shape[1]}


def map_agreement(maps: NDArray, others: NDArray) -> NDArray[np.float64]:
    """Pearson's r of each map with the other model's of the same image and class, `(n,)`.

    NaN where one of them is the same everywhere. Both `(n, size, size)`.
    """
    one, other = (np.asarray(some, np.float64).reshape(len(some), -1) for some in (maps, others))
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.divide((one * other).sum(axis=1), scale, out=np.full(len(one), math.nan),
                     where=scale > 0)


def estimates(
    found: Mapping[str, NDArray], patients: NDArray, resamples: int = 1000, seed: int = 0,
) -> dict[str, Estimate]:
    """Means over findings, with 95% intervals of a bootstrap that draws patients.

    Args:
        found: By name, `(n,)`; NaN is left out.
        patients: `(n,)`, whose finding it is.
        resamples, seed: Of the draws.
    """
    names, which = np.unique(patients, return_inverse=True)
    draws = PatientDraws(len(names), resamples, seed)
    result = {}
    for name, values in found.items():
        known = ~np.isnan(values)
        sums = np.bincount(which[known], values[known], len(names))
        counts = np.bincount(which[known], minlength=len(names)).astype(np.float64)

        def mean(taken: NDArray, sums=sums, counts=counts) -> NDArray:
            with np.errstate(invalid="ignore", divide="ignore"):
                return ((sums @ taken) / (counts @ taken))[None]

        ends = percentile_interval(draws.apply(mean)[0])
        seen = int(np.count_nonzero(counts))
        result[name] = Estimate(
            float(values[known].mean()) if known.any() else math.nan, ends.low, ends.high,
            int(known.sum()), int(known.sum()), seen,
            f"bootstrap of {seen} patients, {resamples} resamples{reservations(seen)}")
    return result


def differences(
    found: Mapping[str, NDArray], reference: Mapping[str, NDArray], patients: NDArray,
    resamples: int = 1000, seed: int = 0,
) -> dict[str, Estimate]:
    """`found` − `reference`, paired by finding; `chance` is left out."""
    return estimates({name: found[name] - reference[name] for name in found if name != "chance"},
                     patients, resamples, seed)
