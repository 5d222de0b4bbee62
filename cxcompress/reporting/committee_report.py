"""One page for whoever must approve a compressed model, from the folders of finished runs.

    page = committee_page([Path("results/uCWS/0-0-256-256-…"), Path("results/forgettability/…")])
    page.write(Path("report.html"))

A run of `compress.py` gives the verdict, sizes, speed, accuracy class by class and who is hurt.
Every other run (sweeps, forgettability, exemplars, timings, size beside peers) adds its figures,
its tables and its own pages. Nothing is computed that a run did not measure; predictions are only
grouped by how many patients have a finding.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxcompress.errors import InputError
from cxcompress.evaluation.subgroups import subgroup_rows
from cxcompress.reporting.compression_report import SYNTHETIC
from cxcompress.reporting.html import Page
from cxcompress.reporting.tables import number
from cxcompress.tasks import Predictions

CAPTIONS = {
    "class_correlations": "Do rare findings go first? How often a class is trained on, against "
    "where it first drops, and how much it has lost in the end.",
    "curves": "Relative change of average precision of the most and the least frequent classes, "
    "from little to much compression.",
    "groups": "Frequent, medium and rare classes: mean change at each level.",
    "overall": "Mean over all classes at each level; a ring marks the first significant drop.",
    "pairs": "Do findings that are alike go together? Each dot is a pair of classes: how unlike "
    "their curves are, against how unlike their frequencies are and how often they occur together.",
    "class_ratios": "How much more often each class occurs among images on which the networks "
    "disagree than among the others.",
    "finding_count_ratios": "The same by the number of findings of an image.",
    "candidates": "Every candidate of the search: bytes against what its worst class leaves of the "
    "margin.",
}
"""What to see in figures of other commands, by the start of their names."""
MOST_ROWS = 40
"""Of the table of another run."""
MOST_PAGE_BYTES = 20_000_000
TAIL, HEAD = 20, 100
"""Findings of fewer patients are the tail, of this many and more the head."""
_FORMATS = (".svg", ".png")


def committee_page(folders: Sequence[Path]) -> Page:
    """The page of some runs, those of `compress.py` first.

    Raises:
        InputError: If a folder holds no finished run.
    """
    runs = [(folder, _record(folder)) for folder in folders]
    compressions = [run for run in runs if "sizes" in run[1]["results"]]
    others = [run for run in runs if run not in compressions]
    names = [Path(str(record["arguments"].get("net", folder.name))).name
             for folder, record in compressions or runs]
    page = Page("Compression report: " + ", ".join(dict.fromkeys(names)),
                "What was compressed and how, what that saved, what it costs the diagnosis, and "
                "whom.")
    for folder, record in compressions:
        _compression(page, folder, record)
    for folder, record in others:
        _other(page, folder, record)
    page.heading("Environment and how to repeat this")
    for folder, record in runs:
        page.paragraph(folder.name)
        page.code(record.get("command") or _flags(record["arguments"]))
    page.table("Versions and machine.", [
        {"what": str(name), "value": str(value)} for name, value in sorted({
            **dict(runs[0][1].get("versions", {})),
            **{f"machine: {key}": value for key, value in _items(runs[0][1].get("machine"))},
        }.items())])
    return page


def _record(folder: Path) -> dict[str, Any]:
    """`run.json` of a finished run, with `results.json` under `results`."""
    try:
        record = json.loads((folder / "run.json").read_text("utf-8"))
        results = folder / "results.json"
        found = json.loads(results.read_text("utf-8")) if results.exists() else {}
        if not isinstance(record, dict) or not isinstance(found, dict):
            raise ValueError("no JSON object")
        state = record["state"]
        record.setdefault("arguments", {})
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: holds no run of cxcompress ({error}); give the folder that a "
                         "command wrote") from error
    if state != "done":
        raise InputError(f"{folder}: holds an unfinished run; repeat its command, which continues")
    return record | {"results": found}


def _items(value: Any):
    return value.items() if isinstance(value, Mapping) else [("", value)] if value else []


def _flags(arguments: Mapping[str, Any]) -> str:
    parts = []
    for name, value in arguments.items():
        if value is None or value is False or name.endswith("sha256"):
            continue
        values = value if isinstance(value, list) else [value]
        parts.append(f"--{name}" + ("" if value is True else " " + " ".join(map(str, values))))
    return " ".join(parts)


def _compression(page: Page, folder: Path, record: Mapping[str, Any]) -> None:
    results, arguments = record["results"], record["arguments"]
    comparison = results.get("comparison")
    page.heading(f"{arguments.get('compression', 'Compression')} of "
                 f"{Path(str(arguments.get('net', ''))).name}")
    if results.get("synthetic"):
        page.note(SYNTHETIC)
    page.verdict(_in_short(results, comparison))
    for note in results.get("notes", ()):
        page.note(note)
    page.table("How it was compressed.", [
        {"what": name, "value": _said(value)} for name, value in arguments.items()
        if value not in (None, False, []) and name not in ("seed",)])
    page.table("Size. A ratio is compressed / original, so below 1 is better.",
               results.get("summary", []))
    _figure(page, folder / "sizes", "The compressed file by what it holds, beside the original's "
            "float32 parameters.")
    plans = results.get("plans") or []
    page.table("Speed without TensorFlow, in turns with the compiled Keras call of the original.", [
        {"plan": plan["plan"] + ("  (auto)" if plan.get("recommended") else ""),
         "an image": f"{1e3 * plan['seconds']:.2f} ms",
         "time_ratio": number(plan["time_ratio"]),
         "largest output difference": number(plan["difference"], 5)} for plan in plans])
    if comparison:
        _diagnosis(page, folder, results, comparison)
    if results.get("fine_tuning"):
        _figure(page, folder / "fine_tuning", "Validation loss after each epoch of fine-tuning.")
    _figure(page, folder / "layers", "How exactly each layer's weights are kept, and how much the "
            "output moves when this layer alone is compressed.")


def _in_short(results: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> str:
    values = {row["what"].split(" (")[0]: row["value"] for row in results.get("summary", [])}
    said = [f"File: {values.get('compressed file', '?')}, space_ratio "
            f"{values.get('space_ratio', '?')}."]
    fastest = min(results.get("plans") or [], key=lambda plan: plan["seconds"], default=None)
    if fastest:
        said.append(f"Fastest plan {fastest['plan']}: {1e3 * fastest['seconds']:.2f} ms an image, "
                    f"time_ratio {number(fastest['time_ratio'])}.")
    if comparison:
        said.append(f"Diagnosis on {results.get('judged_on')}: {comparison.get('headline')}.")
    else:
        said.append("Diagnosis: not judged, since no labelled images were given.")
    return " ".join(said)


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _diagnosis(page: Page, folder: Path, results: Mapping, comparison: Mapping) -> None:
    before, after = results.get("before", {}), results.get("after", {})
    rows = [_change_row(change, before, after) for change in comparison.get("changes", ())]
    page.table("Every metric before and after, with 95% intervals; differences are paired, and "
               "higher is better.", rows)
    _figure(page, folder / "differences", "Change of each class's primary metric. An interval "
            "wholly right of the dashed line is non-inferior.")
    hurt = [change for change in comparison.get("changes", ()) if ":" in change["metric"]
            and change["difference"]["value"] is not None]
    if not hurt:
        return
    page.heading("Who is hurt")
    worst = sorted(hurt, key=lambda change: change["difference"]["value"])
    fell = comparison.get("fell") or []
    page.paragraph("Classes that fell beyond chance (Holm's correction over all classes): "
                   + (", ".join(map(str, fell)) if fell else "none") + ".")
    groups: dict[str, list[float]] = {}
    for change in hurt:
        count = change["difference"].get("positives") or 0
        group = "tail" if count < TAIL else "head" if count >= HEAD else "medium"
        groups.setdefault(f"{change['metric'].split(':')[0]}, {group}", []).append(
            change["difference"]["value"])
    page.table(f"Mean change by how often a class occurs in the images judged (tail: under {TAIL} "
               f"positives, head: {HEAD} and more).", [
                   {"classes": name, "number": str(len(values)),
                    "mean change": number(sum(values) / len(values), 4),
                    "largest fall": number(min(values), 4)} for name, values in groups.items()])
    page.table("The classes that fell most.", [
        _change_row(change, before, after) for change in worst[:10]])
    page.table("By sex, age and view, as far as they are known: mean AUROC over the classes that "
               "can be judged in the subgroup.", _subgroups(folder))
    page.table("Decisions that changed, at the original thresholds.", [
        {"class": audit["name"], "sensitivity": _both(audit, "sensitivity"),
         "specificity": _both(audit, "specificity"),
         "positives lost": f"{audit['changed']['lost_positives']} of {audit['positives']}",
         "positives gained": str(audit["changed"]["gained_positives"]),
         "false alarms more": f"{audit['changed']['new_false_alarms']} of {audit['negatives']}",
         "false alarms fewer": str(audit["changed"]["removed_false_alarms"])}
        for audit in comparison.get("decisions", ())])


def _subgroups(folder: Path) -> list[dict[str, str]]:
    """Both models in each subgroup, from the predictions that the run kept."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name in ("original", "compressed"):
        path = folder / f"predictions_{name}.npz"
        if not path.exists():
            return []
        record = Predictions.load(path)
        for row in subgroup_rows(record) if record.about else ():
            line = found.setdefault((row["fact"], row["group"]), {
                "subgroup": f"{row['fact']}: {row['group']}", "n": str(row["n"]),
                "patients": str(row["patients"])})
            line[name] = _interval(dataclasses.asdict(row["auroc_macro"]))
    return list(found.values())


def _both(audit: Mapping[str, Any], name: str) -> str:
    return f"{_interval(audit['original'][name])} → {_interval(audit['compressed'][name])}"


def _change_row(change: Mapping, before: Mapping, after: Mapping) -> dict[str, str]:
    metric, difference = change["metric"], change["difference"]
    return {"metric": metric, "original": _interval(before.get(metric)),
            "compressed": _interval(after.get(metric)),
            "difference": _interval(difference, 4), "verdict": change.get("verdict") or "",
            "n": str(difference.get("n", "")), "positives": str(difference.get("positives", ""))}


def _interval(estimate: Mapping | None, digits: int = 3) -> str:
    if not estimate or estimate.get("value") is None:
        return "undefined"
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return f"{estimate['value']:.{digits}f}"
    return f"{estimate['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _figure(page: Page, stem: Path, caption: str) -> bool:
    for suffix in _FORMATS:
        if stem.with_suffix(suffix).exists():
            page.figure(stem.with_suffix(suffix), caption)
            return True
    return False


def _other(page: Page, folder: Path, record: Mapping[str, Any]) -> None:
    """Figures, tables and pages of a run of any other command."""
    page.heading(f"{folder.parent.name}: {folder.name}")
    for note in record["results"].get("notes", ()) or ():
        page.note(str(note))
    for stem in sorted({path.with_suffix("") for path in folder.rglob("*")
                        if path.suffix in _FORMATS and "units" not in path.parts}):
        _figure(page, stem, _caption(stem))
    for table in sorted(folder.glob("*.csv")):
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        shown = [{key: _short(value) for key, value in row.items() if key is not None}
                 for row in rows[:MOST_ROWS]]
        more = f"; the first {MOST_ROWS} of {len(rows)} rows" if len(rows) > MOST_ROWS else ""
        page.table(f"{table.name}{more}", shown)
    for inner in sorted(folder.rglob("*.html")):
        if inner.stat().st_size <= MOST_PAGE_BYTES:
            page.page(_title(inner.with_suffix("")), inner.read_text("utf-8"))


def _title(stem: Path) -> str:
    return stem.name.replace("_", " ")


def _caption(stem: Path) -> str:
    """What to see in a figure that another command drew; its name where that is all we know."""
    for start, says in CAPTIONS.items():
        if stem.name.startswith(start):
            return f"{_title(stem)}. {says}"
    return _title(stem)


def _short(text: str | None) -> str:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return str(text or "")
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(text)
    return f"{value:,.0f}" if value.is_integer() or abs(value) >= 10_000 else f"{value:.4g}"
