"""Smaller tasks out of a multilabel collection, and larger ones with unknown labels.

    single = one_against_none(collection, "Cardiomegaly")      # Cardiomegaly or No Finding
    padded = padded_with(collection, single, "Cardiomegaly")   # its images too, 13 labels unknown
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cxcompress.data.collection import Collection, Part
from cxcompress.data.joining import joined
from cxcompress.errors import InputError

NONE = "No Finding"


def one_against_none(collection: Collection, finding: str) -> Collection:
    """A multiclass collection of two classes: no finding, or this one (with others or not).

    Images with other findings alone are left out. An image whose other labels are unknown counts
    as without a finding where this one is known to be absent.

    Raises:
        InputError: If there is no such class, or its training part lacks one of the two.
    """
    if collection.task != "multilabel" or finding not in collection.classes:
        raise InputError(f"{collection.name}: has no multilabel class {finding!r}, only "
                         f"{', '.join(collection.classes)}")
    column = collection.classes.index(finding)

    def chosen(part: Part | None) -> Part | None:
        if part is None:
            return None
        labels = part.labels
        others = np.nan_to_num(np.delete(labels, _findings(collection, column), axis=1))
        rows = np.flatnonzero((labels[:, column] == 1)
                              | ((labels[:, column] == 0) & ~others.any(axis=1)))
        some = part.select(rows)
        present = some.labels[:, column] == 1
        return replace(some, labels=np.stack([~present, present], axis=1).astype(np.float32))

    result = replace(collection, task="multiclass", classes=(NONE, finding),
                     **{name: chosen(part) for name, part in collection.parts.items()})
    if result.train is None or not result.train.labels.sum(axis=0).all():
        raise InputError(f"{collection.name}: its train part lacks images with {finding} or images "
                         "without a finding")
    return result


def _findings(collection: Collection, column: int) -> list[int]:
    """Columns that do not speak of another finding: this one, and "No Finding" itself."""
    return [column, *(number for number, name in enumerate(collection.classes) if name == NONE)]


def padded_with(collection: Collection, single: Collection, finding: str) -> Collection:
    """The collection with the training images of another one that tells of one finding alone.

    Their other labels are unknown (the *task-padding mask*). Images that the collection holds
    already, in any part, and images of its validation and test patients, are not added.

    Args:
        collection: Multilabel.
        single: Of `one_against_none`, or any multiclass collection that has the class.
        finding: The class that both share.

    Raises:
        InputError: If a collection lacks the class.
    """
    for one in (collection, single):
        if finding not in one.classes:
            raise InputError(f"{one.name}: has no class {finding!r}, only {', '.join(one.classes)}")
    here = np.concatenate([part.image_id for part in collection.parts.values()])
    held = np.concatenate([part.patient_id for name, part in collection.parts.items()
                           if name != "train"] or [np.array([], str)])
    new = np.flatnonzero(~np.isin(single.train.image_id, here)
                         & ~np.isin(single.train.patient_id, held))
    if not len(new):
        return collection
    extra = single.train.select(new)
    labels = np.full((len(new), len(collection.classes)), np.nan, np.float32)
    labels[:, collection.classes.index(finding)] = extra.labels[:, single.classes.index(finding)]
    return replace(collection, train=joined(collection.train, replace(extra, labels=labels)))
