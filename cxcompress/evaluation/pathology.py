"""Ki-67 index and TIL fraction of patients: from matched cells to clinical accuracy.

    patients = PatientIndices.of(record)
    estimates = evaluate_patients(record, CutOffs.known())
    estimates["ki67_index_rmse"], estimates["ki67_index_accuracy:ikwg"]

The Ki-67 index is positive / (positive + negative tumour nuclei), pooled over a patient's fields;
beside it the mean of the fields' indices and the hottest field's. `til_fraction` is lymphocytes /
all cells, PathoNet's "TIL score", and not the stromal TIL percentage of the H&E guidelines. Below
500 tumour nuclei there are too few nuclei for an index to be relied on (Nielsen et al. 2021, JNCI
113:808-819, count at least 500); such patients are kept and flagged.

A patient without annotated tumour nuclei has no index and is left out, which `patients` of each
estimate says; where cells are annotated and none is found, the found index is 0. Intervals come
from draws of patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxcompress.evaluation import agreement
from cxcompress.evaluation.bootstrap import PatientDraws
from cxcompress.evaluation.cut_offs import CutOffs
from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.metrics import interval
from cxcompress.tasks.cell_matches import CellMatches

ENOUGH_NUCLEI = 500
SUMMARIES = ("ki67_index", "ki67_mean_of_fields", "ki67_hottest_field", "til_fraction")
"""What is computed of every patient; the first and the last have cut-offs."""


@dataclass(frozen=True)
class PatientIndices:
    """Indices of n patients, annotated and found.

    Args:
        patient_id: str `(n,)`, sorted.
        fields: int `(n,)`.
        annotated, found: By name of `SUMMARIES`, float `(n,)`; NaN = undefined.
        annotated_tumour, found_tumour: int `(n,)`: tumour nuclei.
    """

    patient_id: NDArray
    fields: NDArray[np.int64]
    annotated: Mapping[str, NDArray[np.float64]]
    found: Mapping[str, NDArray[np.float64]]
    annotated_tumour: NDArray[np.int64]
    found_tumour: NDArray[np.int64]

    @classmethod
    def of(cls, record: CellMatches) -> PatientIndices:
        """The indices of a record whose first two classes are positive and negative nuclei.

        Raises:
            ValueError: If the record has fewer than two classes.
        """
        if len(record.classes) < 2:
            raise ValueError("a Ki-67 index needs positive and negative nuclei. Received: "
                             f"{record.classes}")
        names, patient = np.unique(np.asarray(record.patient_id, str), return_inverse=True)
        sides = {}
        for side, counts in (("annotated", record.true_count), ("found", record.predicted_count)):
            sides[side] = _summaries(np.asarray(counts, np.float64), patient.reshape(-1),
                                     len(names))
        return cls(names, np.bincount(patient.reshape(-1), minlength=len(names)),
                   sides["annotated"][0], sides["found"][0], sides["annotated"][1],
                   sides["found"][1])

    def pairs(self, name: str) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
        """Found and annotated values, and which patients have an annotated one.

        A found value that is undefined is 0 where the annotated one is not.
        """
        known = ~np.isnan(self.annotated[name])
        found = np.nan_to_num(self.found[name])
        return np.where(known, found, 0), np.where(known, self.annotated[name], 0), known

    def rows(self) -> list[dict[str, Any]]:
        """One row a patient, for a table."""
        rows = []
        for position, name in enumerate(self.patient_id):
            row: dict[str, Any] = {"patient": str(name), "fields": int(self.fields[position])}
            for side in ("annotated", "found"):
                count = int(getattr(self, f"{side}_tumour")[position])
                row |= {f"{side}_tumour_nuclei": count,
                        f"{side}_too_few_nuclei": count < ENOUGH_NUCLEI}
                row |= {f"{side}_{name}": _plain(values[position])
                        for name, values in getattr(self, side).items()}
            rows.append(row)
        return rows


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _summaries(
    counts: NDArray[np.float64], patient: NDArray, patients: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    pooled = np.zeros((patients, counts.shape[1]))
    np.add.at(pooled, patient, counts)
    tumour = counts[:, :2].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_field = counts[:, 0] / tumour
        has = tumour > 0
        fields = np.bincount(patient[has], minlength=patients).astype(float)
        mean = np.bincount(patient[has], weights=of_field[has], minlength=patients) / fields
        hottest = np.full(patients, -np.inf)
        np.maximum.at(hottest, patient[has], of_field[has])
        result = {
            "ki67_index": pooled[:, 0] / pooled[:, :2].sum(axis=1),
            "ki67_mean_of_fields": mean,
            "ki67_hottest_field": np.where(fields > 0, hottest, np.nan),
        }
        if counts.shape[1] >= 3:
            result["til_fraction"] = pooled[:, 2] / pooled.sum(axis=1)
    return result, pooled[:, :2].sum(axis=1).astype(np.int64)


def evaluate_patients(
    record: CellMatches, cut_offs: Mapping[str, CutOffs], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Agreement of found with annotated indices, each with its 95% interval.

    Keys: `<index>_<metric>` with the metrics `rmse`, `bias`, `limit_low`, `limit_high` (of
    agreement) and `icc`, and for every set of cut-offs `<index>_accuracy:<name>` and
    `<index>_kappa:<name>`.

    Args:
        record: Matched cells.
        cut_offs: By name.
        resamples: Draws of patients.
        seed: Of those draws.
    """
    patients = PatientIndices.of(record)
    number = len(patients.patient_id)
    draws = PatientDraws(number, resamples, seed)
    once = np.ones((number, 1))
    estimates = {}
    for name in patients.annotated:
        found, annotated, known = patients.pairs(name)
        cells = int(patients.annotated_tumour[known].sum())
        fields = int(patients.fields[known].sum())
        for key, (statistic, proportion) in _statistics(name, cut_offs).items():
            def values(counts, statistic=statistic, found=found, annotated=annotated, known=known):
                return statistic(found[known], annotated[known], counts[known])[None]

            value = float(values(once)[0, 0]) if known.any() else float("nan")
            drawn = draws.apply(values)[0]
            low, high, method = interval(
                value, drawn, (int(known.sum()),) if proportion else (), proportion,
                int(known.sum()))
            if not proportion and low == high:
                low = high = float("nan")
                method = "interval undefined: all draws of patients give the same value"
            estimates[key] = Estimate(value, low, high, fields, cells, int(known.sum()), method)
    return estimates


def _statistics(
    name: str, cut_offs: Mapping[str, CutOffs]
) -> dict[str, tuple[Callable[..., NDArray], bool]]:
    """By key: the statistic, and whether it is a proportion of patients."""
    found: dict[str, tuple[Callable[..., NDArray], bool]] = {
        f"{name}_rmse": (agreement.root_mean_square_error, False),
        f"{name}_bias": (agreement.bias, False),
        f"{name}_limit_low": (lambda *pair: agreement.limits_of_agreement(*pair)[0], False),
        f"{name}_limit_high": (lambda *pair: agreement.limits_of_agreement(*pair)[1], False),
        f"{name}_icc": (agreement.intraclass_correlation, False),
    }
    for chosen in cut_offs.values():
        if name not in chosen.edges:
            continue
        number = len(chosen.edges[name]) + 1

        def classes(values: NDArray, chosen: CutOffs = chosen) -> NDArray[np.int64]:
            return chosen.classes(name, values)

        found[f"{name}_accuracy:{chosen.name}"] = (
            lambda one, other, counts, classes=classes: agreement.same_class(
                classes(one), classes(other), counts), True)
        found[f"{name}_kappa:{chosen.name}"] = (
            lambda one, other, counts, classes=classes, number=number: agreement.weighted_kappa(
                classes(one), classes(other), counts, number), False)
    return found


def confusion(
    record: CellMatches, cut_offs: CutOffs, index: str = "ki67_index"
) -> NDArray[np.int64]:
    """Patients by annotated (rows) and found (columns) class."""
    found, annotated, known = PatientIndices.of(record).pairs(index)
    size = len(cut_offs.edges[index]) + 1
    table = np.zeros((size, size), np.int64)
    np.add.at(table, (cut_offs.classes(index, annotated[known]),
                      cut_offs.classes(index, found[known])), 1)
    return table
