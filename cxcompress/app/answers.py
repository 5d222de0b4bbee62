"""From what a model found to rows that are shown and files that are taken home.

    finding_rows(answer, card)      # classifiers: sorted, with threshold and calibration
    cell_facts(answer, card, cut_offs)
    to_csv(rows), to_json(rows, about)
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxcompress.app.model_process import Answer
from cxcompress.evaluation.cut_offs import CutOffs

ENOUGH_NUCLEI = 500
NOTICE = "cxcompress is a research tool, not a medical device."


def finding_rows(answer: Answer, card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a class, the most probable first.

    Args:
        answer: Of a classifier.
        card: `ModelCard.to_dict()`.

    Returns:
        `class`, `probability`, `threshold` (None where the most probable class counts),
        `present`, `calibration` (text, empty where the card holds none).
    """
    thresholds = card["thresholds"] if card["task"] == "multilabel" else None
    calibration = card["metrics"].get("calibration") or {}
    rows = [{"class": name, "probability": float(score),
             "threshold": float(thresholds[column]) if thresholds else None,
             "present": bool(present),
             "calibration": calibration_text(calibration.get(name, ()), float(score))}
            for column, (name, score, present) in enumerate(zip(
                card["classes"], answer.findings["scores"], answer.findings["decisions"],
                strict=True))]
    return sorted(rows, key=lambda row: -row["probability"])


def calibration_text(bins: Sequence[Mapping[str, float]], score: float) -> str:
    """What was true of validation images with about this probability.

    Args:
        bins: As `evaluation.calibration.calibration_bins` gives them.
        score: The probability.
    """
    try:
        near = min(bins, key=lambda one: abs(one["predicted"] - score))
        return (f"{near['observed']:.0%} ({near['low']:.0%} to {near['high']:.0%}), "
                f"n = {int(near['count'])} near {near['predicted']:.2f}")
    except (ValueError, KeyError, TypeError):
        return ""


def cell_facts(
    answer: Answer, card: Mapping[str, Any], cut_offs: CutOffs
) -> dict[str, Any]:
    """Counts and indices of one field.

    Args:
        answer: Of a model of nuclei.
        card: `ModelCard.to_dict()`.
        cut_offs: That name the band of the Ki-67 index.

    Returns:
        `counts` by class, `ki67_index`, `ki67_band`, `too_few_nuclei`, `til_fraction`; None where
        the classes do not give them or there is nothing to divide by.
    """
    labels = answer.findings["cells"][:, 2]
    counts = {name: int(np.count_nonzero(labels == number))
              for number, name in enumerate(card["classes"], start=1)}
    values = list(counts.values())
    facts: dict[str, Any] = {"counts": counts, "ki67_index": None, "ki67_band": None,
                             "too_few_nuclei": None, "til_fraction": None}
    if len(values) >= 2:
        tumour = values[0] + values[1]
        facts["too_few_nuclei"] = tumour < ENOUGH_NUCLEI
        if tumour:
            facts["ki67_index"] = values[0] / tumour
            band = int(cut_offs.classes("ki67_index", [facts["ki67_index"]])[0])
            facts["ki67_band"] = cut_offs.labels("ki67_index")[band]
    if len(values) >= 3 and sum(values):
        facts["til_fraction"] = values[2] / sum(values)
    return facts


def export_row(
    name: str, answer: Answer, card: Mapping[str, Any], cut_offs: CutOffs
) -> dict[str, Any]:
    """All that is found in one picture, as one flat row."""
    row: dict[str, Any] = {"image": name}
    if card["task"] == "nuclei":
        facts = cell_facts(answer, card, cut_offs)
        return row | facts.pop("counts") | facts | {"cut_offs": cut_offs.name}
    found = {each["class"]: each for each in finding_rows(answer, card)}
    for each in (found[label] for label in card["classes"]):
        row |= {each["class"]: each["probability"], f"{each['class']} present": each["present"]}
    return row


def to_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as CSV; text that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"'{value}" if str(value)[:1] in "=+-@" and isinstance(value, str)
                      else value for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def to_json(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> bytes:
    """Rows with the model, the plan and the notice."""
    return json.dumps({
        "model": about["file"], "compression": about["compression"], "plan": about["plan"],
        "synthetic": about["card"]["synthetic"], "notice": NOTICE, "images": list(rows),
    }, indent=2, ensure_ascii=False).encode()
