"""Everything that is reported of a multilabel chest X-ray classifier, from its predictions alone.

    report = write_cxr_report(folder, test, validation, thresholds, train_positives)
    print(report.text)

Writes `metrics.csv` (every metric with interval and n), `subgroups.csv`, `temperature.json`,
`test_pred.csv` and `test_true.csv` (a column a class), and the figures `roc`, `precision_recall`,
`calibration` and `classes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cxcompress.evaluation.calibration import fit_temperature, with_temperature
from cxcompress.evaluation.curves import class_curves
from cxcompress.evaluation.cxr import METRICS, class_groups, evaluate_cxr
from cxcompress.evaluation.estimates import Estimate
from cxcompress.evaluation.subgroups import subgroup_rows
from cxcompress.reporting import cxr_figures
from cxcompress.reporting.tables import interval, number, text_table
from cxcompress.runs import to_csv, to_json, write_atomic
from cxcompress.tasks.predictions import Predictions

SHOWN = ("auroc", "average_precision", "sensitivity", "specificity", "f1")
TITLES = {"auroc": "AUROC", "average_precision": "average precision", "f1": "F1",
          "sensitivity": "sensitivity", "specificity": "specificity", "brier": "Brier score",
          "calibration_error": "ECE"}


@dataclass(frozen=True)
class CxrReport:
    """What was found.

    Args:
        estimates: Of `evaluate_cxr` on the judged part.
        temperature: Fitted on validation.
        scaled: Brier score and ECE after temperature scaling.
        subgroups: Rows of `subgroup_rows`.
        text: Tables for the terminal.
    """

    estimates: Mapping[str, Estimate]
    temperature: float
    scaled: Mapping[str, Estimate]
    subgroups: Sequence[Mapping]
    text: str


def write_cxr_report(
    folder: Path, judged: Predictions, validation: Predictions | None,
    thresholds: Sequence[float], train_positives: Sequence[int], *, part: str = "test",
    resamples: int = 1000, seed: int = 0,
) -> CxrReport:
    """Evaluate, write tables and figures, and return the text for the terminal.

    Args:
        folder: Run folder.
        judged: Predictions on the part that is reported.
        validation: On validation, for the temperature; None fits none.
        thresholds: One a class, chosen on validation.
        train_positives: Positive training images of each class, for head, medium and tail.
        part: Name of the judged part.
        resamples, seed: Of the bootstrap.
    """
    groups = class_groups(judged.classes, train_positives)
    estimates = evaluate_cxr(judged, thresholds=thresholds, groups=groups, resamples=resamples,
                             seed=seed)
    temperature = 1.0 if validation is None else fit_temperature(validation)
    scaled = with_temperature(judged, temperature)
    # Ranks do not change.
    errors = ("brier", "calibration_error")
    scaled_estimates = estimates if temperature == 1 else evaluate_cxr(
        scaled, groups=groups, metrics=errors, resamples=resamples, seed=seed)
    rows = subgroup_rows(judged)
    _write_tables(folder, judged, estimates, scaled_estimates, temperature, rows, groups, part)
    curves = class_curves(judged, estimates, thresholds,
                          *(() if temperature == 1 else (scaled, scaled_estimates)))
    cxr_figures.roc_curves(folder / "roc", curves["roc"])
    cxr_figures.precision_recall_curves(folder / "precision_recall", curves["precision_recall"])
    cxr_figures.calibration_curves(folder / "calibration", curves["calibration"])
    cxr_figures.class_intervals(folder / "classes", [
        {"class": name, "treatment": part} | asdict(estimates[f"auroc:{name}"])
        for name in judged.classes])
    text = "\n".join(_text(judged, estimates, scaled_estimates, temperature, rows, groups,
                           train_positives, part))
    write_atomic(folder / "summary.txt", text + "\n")
    return CxrReport(estimates, temperature, scaled_estimates, rows, text)


def class_rows(
    classes: Sequence[str], estimates: Mapping[str, Estimate], thresholds: Sequence[float] | None
) -> list[dict[str, str]]:
    """One row of text a class, with 95% intervals."""
    return [{"class": name,
             "positive / n": f"{estimates[f'auroc:{name}'].positives} / "
                             f"{estimates[f'auroc:{name}'].n}"}
            | ({} if thresholds is None else {"threshold": number(thresholds[column])})
            | {TITLES[metric]: interval(estimates[f"{metric}:{name}"]) for metric in SHOWN}
            for column, name in enumerate(classes)]


def mean_rows(estimates: Mapping[str, Estimate], kinds: Sequence[str]) -> list[dict[str, str]]:
    """One row of text a mean (`"macro"`, `"micro"`, a group)."""
    return [{"over": kind} | {TITLES[metric]: interval(estimates[f"{metric}_{kind}"])
                              for metric in METRICS} for kind in kinds]


def _text(judged, estimates, scaled, temperature, subgroups, groups, train_positives, part):
    undefined = [name for name in judged.classes
                 if not np.isfinite(estimates[f"auroc:{name}"].value)]
    yield f"{part}: {len(judged.image_id)} images; 95% intervals in brackets"
    yield text_table(class_rows(judged.classes, estimates, None), right=("positive / n",))
    if undefined:
        yield (f"undefined for want of positives or negatives, and in no mean: "
               f"{', '.join(undefined)}")
    yield ""
    yield text_table(mean_rows(estimates, ["macro", "micro", *groups]))
    names = {group: ", ".join(f"{name} {count}" for name, count in
                              zip(judged.classes, train_positives, strict=True)
                              if name in members) for group, members in groups.items()}
    yield from (f"{group} classes, with their positive training images: {members}"
                for group, members in names.items())
    yield ""
    yield (f"temperature {temperature:.3f} (fitted on validation): ECE, macro, "
           f"{interval(estimates['calibration_error_macro'])} -> "
           f"{interval(scaled['calibration_error_macro'])}; Brier score "
           f"{interval(estimates['brier_macro'])} -> {interval(scaled['brier_macro'])}")
    if subgroups:
        yield ""
        yield text_table([{"subgroup": f"{row['fact']} {row['group']}", "images": str(row["n"]),
                           "patients": str(row["patients"]),
                           "AUROC, macro": interval(row["auroc_macro"]),
                           "classes": str(sum(np.isfinite(row[f"auroc:{name}"].low)
                                              for name in judged.classes))}
                          for row in subgroups], right=("images", "patients", "classes"))


def _write_tables(folder, judged, estimates, scaled, temperature, subgroups, groups, part):
    rows = [{"part": part, "metric": key} | asdict(value) for key, value in estimates.items()]
    rows += [{"part": f"{part}, temperature {temperature:.4g}", "metric": key} | asdict(value)
             for key, value in scaled.items() if key.startswith(("brier", "calibration_error"))]
    write_atomic(folder / "metrics.csv", to_csv(rows))
    write_atomic(folder / "temperature.json", to_json({"temperature": temperature,
                                                       "groups": groups}))
    if subgroups:
        write_atomic(folder / "subgroups.csv", to_csv([
            {"fact": row["fact"], "group": row["group"], "metric": key} | asdict(value)
            for row in subgroups for key, value in row.items() if key.startswith("auroc")]))
    for kind, values in (("pred", judged.score), ("true", judged.truth)):
        write_atomic(folder / f"{part}_{kind}.csv", to_csv([
            {"image_id": image, "patient_id": patient}
            | dict(zip(judged.classes, map(float, row), strict=True))
            for image, patient, row in zip(judged.image_id, judged.patient_id, values,
                                           strict=True)]))
