"""Is a model as good for women as for men, for the old, for portable radiographs?

    for row in subgroup_rows(test_predictions):
        print(row["group"], row["auroc_macro"])

Subgroups come from what is known of each image: sex, view and age in bands. Images of which a fact
is unknown are in none of its subgroups, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation.auroc import auroc_estimates
from cxcompress.evaluation.records import ReadyRecord
from cxcompress.tasks.predictions import Predictions

AGE_BANDS = ((0, 18), (18, 40), (40, 65), (65, 121))
"""From, and below, years."""


def subgroups(predictions: Predictions) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Fact, value and mask `(n,)` of every subgroup, "unknown" last of each fact."""
    for fact, values in predictions.about.items():
        if fact == "age":
            known = np.isfinite(values)
            masks = [(f"{low} to {high - 1}" if high < AGE_BANDS[-1][1] else f"{low} and over",
                      known & (values >= low) & (values < high)) for low, high in AGE_BANDS]
        else:
            known = np.asarray(values) != ""
            masks = [(str(value), values == value) for value in np.unique(values[known])]
        for value, mask in [*masks, ("unknown", ~known)]:
            if mask.any():
                yield fact, value, mask


def subgroup_rows(predictions: Predictions) -> list[dict]:
    """One row a subgroup: images, patients, and its AUROCs as `Estimate`s.

    Returns:
        Mappings with `fact`, `group`, `n`, `patients`, `auroc_macro` and `auroc:<class>`. The mean
        is over the classes that can be judged in that subgroup, which its `method` names; compare
        subgroups class by class.
    """
    rows = []
    for fact, value, mask in subgroups(predictions):
        some = predictions.select(mask)
        if not (~np.isnan(some.truth)).any():
            continue
        record = ReadyRecord.of(some)
        rows.append({"fact": fact, "group": value, "n": int(mask.sum()),
                     "patients": record.patients} | auroc_estimates(record))
    return rows
