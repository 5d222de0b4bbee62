"""How often each class occurs in each part, and which classes occur together.

    rows = class_counts(collection)               # one mapping a class
    together = co_occurrence(collection.train)    # int (c, c)
    jaccard(together)                             # |a and b| / |a or b|
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxcompress.data.collection import Collection, Part


def class_counts(collection: Collection) -> list[dict]:
    """One row a class: positives, known labels and patients with a positive, of each part.

    Returns:
        Mappings with `class`, and `<part> positives`, `<part> known`, `<part> patients`.
    """
    rows = []
    for column, name in enumerate(collection.classes):
        row: dict = {"class": name}
        for part_name, part in collection.parts.items():
            labels = part.labels[:, column]
            row |= {f"{part_name} positives": int(np.nansum(labels)),
                    f"{part_name} known": int((~np.isnan(labels)).sum()),
                    f"{part_name} patients": len(np.unique(part.patient_id[labels == 1]))}
        rows.append(row)
    return rows


def positives(part: Part) -> NDArray[np.int64]:
    """Positive images of each class `(c,)`."""
    return np.nansum(part.labels, axis=0).astype(np.int64)


def co_occurrence(part: Part) -> NDArray[np.int64]:
    """Images in which both classes are present, `(c, c)`; the diagonal counts each class."""
    present = (np.nan_to_num(part.labels) == 1).astype(np.int64)
    return present.T @ present


def jaccard(together: NDArray) -> NDArray[np.float64]:
    """Images with both classes / images with either, `(c, c)`; NaN where there are none.

    Counts of a class come from the diagonal. (PruneCXR's analysis takes column sums instead,
    which co-occurring findings inflate.)
    """
    counts = np.diag(together)
    either = counts[:, None] + counts[None, :] - together
    return np.divide(together, either, out=np.full(together.shape, np.nan), where=either > 0)


def co_occurrence_rows(classes: Sequence[str], together: NDArray) -> list[dict]:
    """The table of `co_occurrence`, one mapping a class."""
    return [{"class": name} | dict(zip(classes, map(int, row), strict=True))
            for name, row in zip(classes, together, strict=True)]
