"""Ways of training side by side: each one's means over seeds, and differences from the first.

    text = write_arms_report(folder, {"direct": [record, …], "chain": [record, …]})

Writes `arms.csv` (every number with its interval) and the figure `arms`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from cxcompress.evaluation.arms import arm_differences, arm_estimates
from cxcompress.evaluation.estimates import Estimate
from cxcompress.reporting import cxr_figures
from cxcompress.reporting.tables import interval, number, text_table
from cxcompress.runs import to_csv, write_atomic
from cxcompress.tasks.predictions import Predictions

MEANS = ("auroc_macro", "average_precision_macro")


def write_arms_report(
    folder: Path, arms: Mapping[str, Sequence[Predictions]], *, resamples: int = 1000,
    seed: int = 0,
) -> str:
    """Compare, write tables and figure, and return the text for the terminal.

    Args:
        folder: For the files.
        arms: Records on the same test images by way of training, one a seed; the first way is what
            the others are compared with.
        resamples, seed: Of the bootstrap.
    """
    reference = next(iter(arms))
    found = {name: arm_estimates(records, resamples=resamples, seed=seed)
             for name, records in arms.items()}
    changes = {name: arm_differences(arms[reference], records, resamples=resamples, seed=seed)
               for name, records in arms.items() if name != reference}
    rows = [{"arm": name, "kind": kind, "metric": key} | asdict(estimate)
            for kind, table in (("value", found), (f"difference from {reference}", changes))
            for name, estimates in table.items() for key, estimate in estimates.items()]
    for name, records in arms.items():
        rows += [{"arm": name, "kind": f"seed {place}", "metric": key} | asdict(estimate)
                 for place, record in enumerate(records)
                 for key, estimate in arm_estimates([record], resamples=2, seed=seed).items()
                 if key == "auroc_macro"]
    write_atomic(folder / "arms.csv", to_csv(rows))
    classes = next(iter(arms.values()))[0].classes
    cxr_figures.class_intervals(folder / "arms", [
        {"class": label, "treatment": name} | asdict(found[name][key])
        for label, key in (("mean of classes", "auroc_macro"),
                           *((one, f"auroc:{one}") for one in classes)) for name in arms])
    return "\n".join(_text(arms, found, changes, classes, rows, reference))


def _text(arms, found, changes, classes, rows, reference):
    first = next(iter(arms.values()))[0]
    yield f"{len(first.image_id)} images; 95% intervals in brackets"
    table = []
    for name, records in arms.items():
        row = {"way of training": name, "seeds": str(len(records))}
        for key in MEANS:
            row[key] = interval(found[name][key])
            row[f"{key} - {reference}"] = (
                "" if name == reference else interval(changes[name][key], sign=True))
        row["AUROC of each seed"] = ", ".join(
            number(entry["value"]) for entry in rows
            if entry["arm"] == name and entry["kind"].startswith("seed "))
        table.append(row)
    yield text_table(table, right=("seeds",))
    yield ""
    yield text_table([
        {"class": one, "positive / n": _counts(found[reference][f"auroc:{one}"], first, column)}
        | {f"AUROC, {name}": interval(found[name][f"auroc:{one}"]) for name in arms}
        | {f"{name} - {reference}": interval(changes[name][f"auroc:{one}"], sign=True)
           for name in changes}
        for column, one in enumerate(classes)], right=("positive / n",))


def _counts(estimate: Estimate, record: Predictions, column: int) -> str:
    positive = int((record.truth[:, column] == 1).sum())
    return f"{positive} / {int((record.truth[:, column] >= 0).sum())}"
