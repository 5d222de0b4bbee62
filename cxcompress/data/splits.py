"""Holding out a validation part: by patient where patients are known, with every class on both
sides where that is possible.

    train, val = hold_out(collection.train, fraction=0.15, seed=0,
                          patients_known=collection.patients_known)
    train, val, test = three_parts(everything, patients_known=True)      # 70/10/20
    collection = without_leaks(collection)       # no patient in two parts
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part
from cxcompress.data.intake import Intake
from cxcompress.errors import InputError

logger = logging.getLogger(__name__)


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


def three_parts(
    part: Part, fractions: tuple[float, float] = (0.1, 0.2), seed: int = 0, *,
    patients_known: bool = False,
) -> tuple[Part, Part | None, Part | None]:
    """Train, val and test, by patient where patients are known.

    Args:
        part: The images to divide.
        fractions: Of patients, for val and test; the rest trains.
        seed: As for `hold_out`.
        patients_known: As for `hold_out`.

    Returns:
        The three parts; val and test are None where there are not patients enough.
    """
    def units(some: Part) -> int:
        return len(np.unique(some.patient_id)) if patients_known else len(some)

    val_share, test_share = fractions
    if units(part) < 2:
        return part, None, None
    rest, test = hold_out(part, test_share, seed, patients_known=patients_known)
    if units(rest) < 2:
        return rest, None, test
    train, val = hold_out(rest, val_share / (1 - test_share), seed, patients_known=patients_known)
    return train, val, test


def leaking_patients(collection: Collection) -> dict[str, NDArray]:
    """Patients of each part who are in a later one too: sorted ids by part (`train`, `val`)."""
    parts = list(collection.parts.items())
    found = {}
    for position, (name, part) in enumerate(parts[:-1]):
        later = np.concatenate([other.patient_id for _, other in parts[position + 1:]])
        found[name] = np.intersect1d(part.patient_id, later)
    return found


def without_leaks(collection: Collection, strict: bool = False) -> Collection:
    """The collection with every patient in one part: in the last of train, val, test they are in.

    Test images stay, so that published results compare. Where patients are unknown nothing can
    be checked and the collection comes back as it is; so do fields of nuclei.

    Raises:
        InputError: If a part would be left empty, or (strict) if any patient is in two parts.
    """
    if not collection.patients_known or collection.task not in ("multilabel", "multiclass"):
        return collection
    leaking = {name: ids for name, ids in leaking_patients(collection).items() if len(ids)}
    if not leaking:
        return collection
    everyone = np.unique(np.concatenate(list(leaking.values())))
    if strict:
        raise InputError(f"{collection.name}: {len(everyone)} patients are in two parts; the "
                         f"first: {everyone[0]} (--strict; without it they stay in the later part "
                         "alone)")
    kept = {}
    for name, ids in leaking.items():
        part = collection.parts[name]
        rows = np.flatnonzero(~np.isin(part.patient_id, ids))
        if not len(rows):
            raise InputError(f"{collection.name}: every patient of its {name} part is in a later "
                             "part too; divide it by patient")
        logger.info("%s: %d patients of the %s part are in a later part too; their %d images "
                    "are left out of %s", collection.name, len(ids), name, len(part) - len(rows),
                    name)
        kept[name] = part.select(rows)
    intake = replace(collection.intake or Intake(), leaking=tuple(map(str, everyone)))
    return replace(collection, intake=intake, **kept)


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
