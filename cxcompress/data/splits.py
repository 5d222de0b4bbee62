"""Holding out a validation part: by patient where patients are known, with every class on both
sides where that is possible.

    train, val = hold_out(collection.train, fraction=0.15, seed=0,
                          patients_known=collection.patients_known)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part
from cxcompress.errors import InputError


def hold_out(part: Part, fraction: float = 0.15, seed: int = 0, *,
             patients_known: bool = False) -> tuple[Part, Part]:
    """Split a part in two.

    Patients (images, where patients are unknown) are dealt out one by one, those with the rarest
    class first, each to the side that lacks most of that class: iterative stratification,
    Sechidis et al. (2011), of groups.

    Args:
        part: The images to split.
        fraction: The share of the second side, between 0 and 1.
        seed: Decides ties and the order among equals.
        patients_known: Keep all images of one `patient_id` on one side.

    Returns:
        The larger and the held-out part, both in the order of `part` and neither empty.

    Raises:
        InputError: If there is only one patient (or image).
        ValueError: If the fraction is out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction lies between 0 and 1. Received: {fraction}")
    names = part.patient_id if patients_known else np.arange(len(part))
    _, group = np.unique(names, return_inverse=True)
    groups = int(group.max(initial=-1)) + 1
    if groups < 2:
        unit = "patient" if patients_known else "image"
        raise InputError(f"no validation part can be held out of {groups} {unit}"
                         f"{'' if groups == 1 else 's'}; give a val part")
    held = _deal(_group_counts(part, group, groups), fraction, np.random.default_rng(seed))
    rows_held = held[group]
    return part.select(np.flatnonzero(~rows_held)), part.select(np.flatnonzero(rows_held))


def with_validation(collection: Collection, fraction: float = 0.15, seed: int = 0) -> Collection:
    """The collection itself if it has a val part, else one held out of train; test stays as is.

    Raises:
        InputError: If there is no train part or it has one patient only.
    """
    if collection.val is not None:
        return collection
    if collection.train is None:
        raise InputError(f"{collection.name}: has no train part")
    train, val = hold_out(collection.train, fraction, seed,
                          patients_known=collection.patients_known)
    return replace(collection, train=train, val=val)


def _group_counts(part: Part, group: NDArray, groups: int) -> NDArray:
    """Positives of every class, then images, per group: float `(groups, classes + 1)`."""
    images = np.ones((len(part), 1))
    if isinstance(part.labels, np.ndarray):
        images = np.hstack((np.nan_to_num(part.labels), images))
    counts = np.zeros((groups, images.shape[1]))
    np.add.at(counts, group, images)
    return counts


def _deal(counts: NDArray, fraction: float, rng: np.random.Generator) -> NDArray:
    """Which groups are held out: bool `(groups,)`."""
    groups = len(counts)
    order = rng.permutation(groups)
    totals = counts.sum(0)
    # The last column counts images, so it is what a group without any class falls back on.
    rarity = np.where(counts > 0, totals, np.inf)
    rarest = rarity.argmin(1)
    order = order[np.argsort(totals[rarest[order]], kind="stable")]
    shares = np.array((1 - fraction, fraction))
    lacking = shares[:, None] * totals
    held = np.zeros(groups, bool)
    for one in order:
        kind = rarest[one]
        need = lacking[:, kind] / shares
        if np.isclose(need[0], need[1]):
            need = lacking[:, -1] / shares
        held[one] = need[1] > need[0] * (1 + 1e-9)
        lacking[int(held[one])] -= counts[one]
    if not held.any():
        held[order[-1]] = True
    elif held.all():
        held[order[0]] = False
    return held
