"""`forgettability.py`: which findings a network forgets first, from a sweep's predictions."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.commands.command_line import parser, run
from cxcompress.errors import InputError, MissingExtra
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder

EXAMPLE = ("python experiments/forgettability.py --predictions results/prune_sweep/small_cxr "
           "--compare L1+uCWS=256 uUQ")
SIZES = 7
"""Sizes at which two series are compared, evenly spaced (log) where both have networks."""
DECLINES = (0.1, 0.2, 0.4)
ASSOCIATIONS = {"first_drop": "log frequency and first drop",
                "final_impact": "log frequency and final impact",
                "final_impact_excess": "log frequency and final impact above chance",
                "fcd_frequency": "FCD and difference of log frequencies",
                "fcd_overlap": "FCD and IoU^(1/4)"}


def build_parser() -> argparse.ArgumentParser:
    """The flags of `forgettability.py`."""
    parse = parser("forgettability.py", "What compression forgets, class by class: curves of "
                   "relative change with intervals over seeds, first drops, final impact, "
                   "dissimilarity of classes, and whether frequency and co-occurrence predict it.",
                   EXAMPLE)
    add = parse.add_argument
    add("--predictions", nargs="+", required=True, metavar="FOLDER",
        help="run folders of prune_sweep.py, one a collection")
    add("--names", nargs="+", help="a name for each of them (the collections' own)")
    add("--series", nargs="+", help="treatments to analyse, e.g. L1 uUQ (all there are)")
    add("--seeds", nargs="+", type=int, help="seeds to use (all there are)")
    add("--missing", default="error", choices=("error", "drop"),
        help="seeds that lack a treatment: refuse, or leave them out (error)")
    add("--metric", default="AP", choices=("AP", "AP_excess", "AUROC", "F1"),
        help="whose curves are compared; AP_excess is average precision less what chance gives; "
        "all are tabulated (AP)")
    add("--drop", type=float, default=0.2, help="relative loss that counts as a drop (0.2)")
    add("--groups", nargs=2, type=float, metavar=("HEAD", "TAIL"),
        help="training images above which a class is head, below which it is tail, e.g. 1000 100 "
        "(thirds of the classes)")
    add("--compare", nargs=2, metavar="SERIES", action="append", default=[],
        help="two series: do they hurt the same classes at equal bytes and at equal overall loss? "
        "May be given again")
    add("--classes", nargs="+", help="classes whose curves are drawn (six, by frequency)")
    add("--paper_compat", action="store_true",
        help="the original study's definitions: frequencies and overlap from column sums of the "
        "test images' co-occurrence, 1e-12 in the denominator of relative changes")
    add("--resamples", type=int, default=1000, help="bootstrap draws of classes (1000)")
    add("--permutations", type=int, default=9999, help="permutations (9999)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(forgettability(arguments)), argv)


def forgettability(arguments: argparse.Namespace) -> str:
    """Analyse, write the run folder and return the tables.

    Raises:
        InputError: If a flag or the predictions cannot be used.
    """
    try:
        from cxcompress.evaluation.forgettability import cooccurrence
        from cxcompress.evaluation.forgettability_analysis import AnalysisSettings, analyse
        from cxcompress.search.prediction_store import PredictionStore
        from cxcompress.search.sweep_metrics import sweep_metrics
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name, "train") from error
    _check(arguments)
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    stores = [PredictionStore.open(path) for path in arguments.predictions]
    names = arguments.names or _names(stores)
    _check_classes(arguments, stores)
    settings = AnalysisSettings(
        arguments.metric, arguments.drop, arguments.paper_compat,
        tuple(arguments.groups) if arguments.groups else None, arguments.resamples,
        arguments.permutations, arguments.seed)
    notes: list[str] = []
    path = Path(arguments.output_path) / "forgettability" / "-".join(map(_file_name, names))
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        analyses = {}
        for name, store in zip(names, stores, strict=True):
            images = store.images
            for series, metrics in sweep_metrics(
                    store, arguments.series, arguments.seeds, arguments.missing).items():
                analyses[name, series] = analyse(
                    metrics, images.train_cooccurrence, cooccurrence(images.truth), settings)
            notes += _notes(name, store, {series: one for (of, series), one in analyses.items()
                                          if of == name})
        comparisons = _comparisons(analyses, arguments.compare)
        _write(folder, analyses, comparisons, notes)
        _draw(folder.path, analyses, dict(zip(names, stores, strict=True)), comparisons,
              arguments)
        return _text(analyses, comparisons, notes, path)


def _check(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.drop < 1:
        raise InputError(f"--drop {arguments.drop:g}: a relative loss between 0 and 1, e.g. 0.2")
    if arguments.groups and not arguments.groups[0] >= arguments.groups[1] >= 0:
        raise InputError(f"--groups {arguments.groups[0]:g} {arguments.groups[1]:g}: first the "
                         "larger number, e.g. 1000 100")
    for name in ("resamples", "permutations"):
        if getattr(arguments, name) < 99:
            raise InputError(f"--{name} {getattr(arguments, name)}: give at least 99")
    if arguments.names is not None:
        if len(arguments.names) != len(arguments.predictions):
            raise InputError(f"--names: {len(arguments.names)} names for "
                             f"{len(arguments.predictions)} folders of --predictions")
        if len(set(arguments.names)) < len(arguments.names):
            raise InputError("--names: give different names")


def _check_classes(arguments: argparse.Namespace, stores) -> None:
    for store in stores:
        for name in arguments.classes or ():
            if name not in store.images.classes:
                raise InputError(f"--classes {name}: not in {store.path}; it has "
                                 f"{', '.join(store.images.classes)}")
        series = store.series()
        for name in sum(arguments.compare, []):
            if name not in (arguments.series or series):
                raise InputError(f"--compare {name}: not among the series analysed in "
                                 f"{store.path}: {', '.join(arguments.series or series)}")


def _names(stores) -> list[str]:
    names: list[str] = []
    for store in stores:
        name = base = store.images.collection or store.path.parent.name
        count = 1
        while name in names:
            count += 1
            name = f"{base} ({count})"
        names.append(name)
    return names


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", name)


def _notes(name: str, store, analyses: Mapping[str, Any]) -> list[str]:
    images, notes = store.images, []
    if images.synthetic:
        notes.append(f"{name}: images are generated; nothing here is about patients")
    said: dict[str, list[str]] = {}
    for series, analysis in analyses.items():
        seeds = len(analysis.metrics.seeds)
        confidence = analysis.overall["AP"].confidence
        if seeds == 1:
            said.setdefault("one seed, so no intervals over seeds and no tests", []).append(series)
        elif confidence < 0.95:
            said.setdefault(f"{seeds} seeds; intervals are their range, which holds the median "
                            f"with {confidence:.0%} confidence (6 seeds give 95%)",
                            []).append(series)
        if analysis.undefined:
            said.setdefault(f"left out of correlations, since {analysis.settings.metric} is "
                            "undefined without test positives or starts from 0: "
                            f"{', '.join(analysis.undefined)}", []).append(series)
    notes += [f"{name}, {' '.join(series)}: {text}" for text, series in said.items()]
    if analyses:
        notes += _not_learnt(name, next(iter(analyses.values())))
    rare = [f"{label} ({int(count)})" for label, count in zip(
        images.classes, np.nansum(images.truth, axis=0), strict=True) if 0 < count < 10]
    if rare:
        notes.append(f"{name}: fewer than 10 test positives, whose average precision is mostly "
                     f"chance: {', '.join(rare)}")
    return notes


def _not_learnt(name: str, analysis) -> list[str]:
    """What the original does not know, compression cannot make it forget."""
    from cxcompress.evaluation.seed_intervals import median_interval

    median, low, _, _ = median_interval(analysis.metrics.values["AP_excess"][:, 0])
    floor = np.where(np.isnan(low), median, low)
    classes = [label for label, value in zip(analysis.metrics.classes, floor, strict=True)
               if value <= 0]
    return [f"{name}: {len(classes)} of {len(median)} classes are not clearly learnt by the "
            "originals (interval of average precision above chance reaches 0), so there is little "
            f"to forget: {', '.join(classes)}"] if classes else []


def _comparisons(analyses: Mapping[tuple[str, str], Any],
                 pairs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Rows, each with the agreement itself under "agreement"."""
    from cxcompress.evaluation.forgettability_analysis import (
        agreement_at_bytes,
        agreement_at_decline,
    )

    rows = []
    for name in dict.fromkeys(of for of, _ in analyses):
        for first, second in pairs:
            a, b = analyses[name, first], analyses[name, second]
            sizes = [one.metrics.bytes for one in (a, b)]
            least, most = (max(map(np.min, sizes)),
                           min(np.max(part[1:]) for part in sizes))
            wanted = [("bytes", value, agreement_at_bytes(a, b, value))
                      for value in np.geomspace(least, most, SIZES)] if least < most else []
            wanted += [("overall decline", value, agreement_at_decline(a, b, value))
                       for value in DECLINES]
            rows += [{"collection": name, "first": first, "second": second, "equal": equal,
                      "at": float(value), "agreement": found}
                     for equal, value, found in wanted if found is not None]
    return rows


def _write(folder: RunFolder, analyses: Mapping[tuple[str, str], Any],
           comparisons: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    tables: dict[str, list[dict[str, Any]]] = {}
    for file, rows_of in (("results_forgettability", "class_rows"), ("curves", "curve_rows"),
                          ("overall", "overall_rows"), ("groups", "group_rows"),
                          ("pairs", "pair_rows"), ("associations", "association_rows")):
        tables[file] = [{"collection": name} | row for (name, _), analysis in analyses.items()
                        for row in getattr(analysis, rows_of)()]
        folder.write_csv(f"{file}.csv", tables[file])
    compared = [{key: value for key, value in row.items() if key != "agreement"}
                | row["agreement"].to_dict() for row in comparisons]
    if compared:
        folder.write_csv("comparisons.csv", compared)
    folder.write_json("results.json", folder.record | {
        "state": "done", "classes": tables["results_forgettability"],
        "overall": tables["overall"], "associations": tables["associations"],
        "groups": tables["groups"], "comparisons": compared, "notes": notes})


def _draw(path: Path, analyses: Mapping[tuple[str, str], Any], stores: Mapping[str, Any],
          comparisons: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> None:
    from cxcompress.reporting import forgettability_figures as figures

    several = len(stores) > 1
    labelled = {f"{name}, {series}" if several else series: analysis
                for (name, series), analysis in analyses.items()}
    for metric in dict.fromkeys((arguments.metric, "AUROC")):
        figures.overall_decline(path / f"overall_{metric}", labelled, metric)
    figures.class_correlations(path / "class_correlations", labelled)
    figures.group_curves(path / "groups", labelled)
    for label, analysis in labelled.items():
        chosen = arguments.classes and [analysis.metrics.classes.index(name)
                                        for name in arguments.classes]
        stem = _file_name(label)
        figures.forgettability_curves(path / f"curves_{stem}", analysis, label, chosen)
        figures.pair_correlations(path / f"pairs_{stem}", analysis, label)
    for name, store in stores.items():
        histograms = [(counts, store.array(seed, "original", "weight_edges"))
                      for seed in store.seeds if "original" in store.treatments(seed)
                      and (counts := store.array(seed, "original", "weight_counts")) is not None]
        if histograms:
            suffix = f"_{_file_name(name)}" if several else ""
            figures.weight_magnitudes(path / f"weight_magnitudes{suffix}", histograms)
        for first, second in arguments.compare:
            rows = [row for row in comparisons if row["equal"] == "bytes" and (
                name, first, second) == (row["collection"], row["first"], row["second"])]
            if rows:
                _draw_comparison(path, [analyses[name, first], analyses[name, second]], rows,
                                 f"_{_file_name(name)}" if several else "")


def _draw_comparison(path: Path, pair: Sequence[Any], rows: Sequence[Mapping[str, Any]],
                     suffix: str) -> None:
    from cxcompress.evaluation.forgettability import at_bytes
    from cxcompress.reporting import forgettability_figures as figures

    first, second = (analysis.metrics.series for analysis in pair)
    # Where the two together cost most, there is something to compare.
    row = min(rows, key=lambda row: row["agreement"].first_change
              + row["agreement"].second_change)
    profiles = []
    for analysis in pair:
        curves = analysis.curves[analysis.settings.metric].median
        profiles.append(at_bytes(np.concatenate([np.zeros_like(curves[:1]), curves]),
                                 analysis.metrics.bytes, row["at"]))
    group_of = [next((group for group, members in pair[0].groups.items() if c in members), "")
                for c in range(len(pair[0].metrics.classes))]
    figures.profile_agreements(
        path / f"compare_{_file_name(first)}_{_file_name(second)}{suffix}", first, second,
        {f"both networks {byte_count(row['at'])}": tuple(profiles)},
        {one["at"]: one["agreement"] for one in rows}, pair[0].metrics.classes, group_of,
        pair[0].settings.metric)


def _text(analyses: Mapping[tuple[str, str], Any], comparisons: Sequence[Mapping[str, Any]],
          notes: Sequence[str], path: Path) -> str:
    overall, correlations = [], []
    for (name, series), analysis in analyses.items():
        metric = analysis.settings.metric
        curves, change = analysis.overall[metric], analysis.overall_change[metric]
        first = analysis.overall_significant.first[0]
        overall.append({
            "collection": name, "series": series, "seeds": str(len(analysis.metrics.seeds)),
            f"{metric}, original": _with_interval(curves, 0),
            "hardest level": f"{analysis.metrics.levels[-1]:g}",
            f"{metric} there": _with_interval(curves, -1),
            "relative change": _with_interval(change, -1),
            "first significant": "none" if first is None else f"{first:g}",
            f"classes that lost over {analysis.settings.drop:.0%}":
                f"{sum(drop is not None for drop in analysis.first_drop)} of "
                f"{len(analysis.first_drop)}"})
        for row in analysis.association_rows():
            correlations.append({
                "collection": name, "series": series,
                "association": ASSOCIATIONS[row["association"]],
                "r (95%)": _interval_text(row, "pearson"), "P": number(row["pearson_p"], 4),
                "rho (95%)": _interval_text(row, "spearman"),
                "P ": number(row["spearman_p"], 4), "classes": str(row["classes"])})
    compared = []
    for row in comparisons:
        found = row["agreement"]
        at = byte_count(row["at"]) if row["equal"] == "bytes" else f"−{row['at']:.0%} overall"
        compared.append({
            "collection": row["collection"], "series": f"{row['first']} and {row['second']}",
            "both at": at,
            "median change": f"{found.first_change:+.1%}, {found.second_change:+.1%}",
            "rho (95%)": _interval_text(found.to_dict(), "spearman"),
            "P": number(found.association.spearman.p, 4),
            "other seeds": number(found.across, 2),
            "within each": f"{number(found.within_first, 2)}, {number(found.within_second, 2)}"})
    return "\n".join([*(f"note: {note}" for note in notes), "", text_table(overall), "",
                      text_table(correlations), *(["", text_table(compared)] if compared else []),
                      "", f"results  {path}"])


def _with_interval(curves, place: int) -> str:
    low, high = curves.low[place], curves.high[place]
    interval = "" if math.isnan(low) else f" ({number(low)} to {number(high)})"
    return f"{number(curves.median[place])}{interval}"


def _interval_text(row: Mapping[str, float], kind: str) -> str:
    return (f"{number(row[kind], 2)} ({number(row[f'{kind}_low'], 2)} to "
            f"{number(row[f'{kind}_high'], 2)})")
