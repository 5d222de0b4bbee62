"""Two parts as one.

    both = joined(collection.train, collection.val)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxcompress.data.collection import Part


def joined(one: Part, other: Part) -> Part:
    """Both parts as one; images that are read when asked for stay so.

    What is known of the images of one part alone is left out.
    """
    labels = (np.concatenate([one.labels, other.labels])
              if isinstance(one.labels, np.ndarray) else [*one.labels, *other.labels])
    return Part(_end_to_end(one.images, other.images), labels,
                np.concatenate([one.image_id, other.image_id]),
                np.concatenate([one.patient_id, other.patient_id]),
                {name: np.concatenate([values, other.about[name]])
                 for name, values in one.about.items() if name in other.about})


def _end_to_end(first, second):
    arrays = isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    if arrays and first.shape[1:] == second.shape[1:] and first.dtype == second.dtype:
        return np.concatenate([first, second])
    return EndToEnd(first, second)


@dataclass(frozen=True)
class EndToEnd(Sequence):
    """Two sequences as one, lazily."""

    first: object
    second: object

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, position: int):
        position = range(len(self))[position]
        split = len(self.first)
        return self.first[position] if position < split else self.second[position - split]
