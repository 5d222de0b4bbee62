"""`exemplars.py`: the images on which a compressed network disagrees with its original."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.commands.command_line import parser, run
from cxcompress.errors import InputError, MissingExtra
from cxcompress.reporting.tables import interval, text_table
from cxcompress.runs import RunFolder

EXAMPLE = ("python experiments/exemplars.py --predictions results/prune_sweep/small_cxr "
           "--treatment L1@0.9")
SHOWN_CLASSES = 3
"""Classes of the highest probability that a gallery card names, of either network."""


def build_parser() -> argparse.ArgumentParser:
    """The flags of `exemplars.py`."""
    parse = parser("exemplars.py", "Find the test images whose classes a compressed network ranks "
                   "most unlike its original (averaged over seeds), and which findings are more "
                   "common among them.", EXAMPLE)
    add = parse.add_argument
    add("--predictions", required=True, metavar="FOLDER", help="a run folder of prune_sweep.py")
    add("--treatment", default="L1@0.9", help="series@level, e.g. L1@0.9 or uUQ@4 (L1@0.9)")
    add("--percent", type=float, default=5.0, help="percent of the images to take (5)")
    add("--seeds", nargs="+", type=int, help="seeds to average (all there are)")
    add("--missing", default="error", choices=("error", "drop"),
        help="seeds that lack the treatment: refuse, or leave them out (error)")
    add("--gallery", type=int, default=60, help="images in the gallery, the least agreeing first; "
        "0 for none (60)")
    add("--data_path", help="images for the gallery (as the sweep was given)")
    add("--no_finding", nargs="*", default=["No Finding"],
        help="classes that are no findings (\"No Finding\")")
    add("--resamples", type=int, default=1000, help="bootstrap draws of patients (1000)")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(exemplars(arguments)), argv)


def exemplars(arguments: argparse.Namespace) -> str:
    """Find them, write the run folder and return the tables.

    Raises:
        InputError: If a flag or the predictions cannot be used.
    """
    try:
        from cxcompress.evaluation.exemplars import (
            finding_counts,
            lowest_agreement,
            prevalence_ratios,
            rank_agreement,
        )
        from cxcompress.reporting import forgettability_figures as figures
        from cxcompress.search.prediction_store import PredictionStore
        from cxcompress.search.sweep_metrics import complete_seeds, ensemble
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name, "train") from error
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    store = PredictionStore.open(arguments.predictions)
    images = store.images
    if len(images.classes) < 3:
        raise InputError(f"{store.path}: has {len(images.classes)} classes; ranking them needs at "
                         "least 3")
    if not 0 < arguments.percent < 100:
        raise InputError(f"--percent {arguments.percent:g}: more than 0, less than 100")
    known = {name for names in store.series().values() for name in names}
    if arguments.treatment not in known:
        raise InputError(f"--treatment {arguments.treatment}: not in {store.path}; there are "
                         f"{', '.join(sorted(known)) or 'none'}")
    seeds = complete_seeds(store, [arguments.treatment], arguments.seeds, arguments.missing)
    path = Path(arguments.output_path) / "exemplars" / arguments.treatment
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        before = ensemble(store, "original", seeds)
        after = ensemble(store, arguments.treatment, seeds)
        agreement = rank_agreement(before, after)
        try:
            found = lowest_agreement(agreement.rho, arguments.percent)
        except ValueError as error:
            raise InputError(f"--percent {arguments.percent:g}: {error}") from error
        draws = {"resamples": arguments.resamples, "seed": arguments.seed}
        by_class = prevalence_ratios(images.truth, found.chosen, images.patient_id, **draws)
        counts, columns = finding_counts(images.truth, images.classes, arguments.no_finding)
        by_count = prevalence_ratios(columns, found.chosen, images.patient_id, **draws)
        notes = _notes(store, seeds, agreement, found)
        order = np.argsort(agreement.rho, kind="stable")
        truths = [_names(images, row) for row in range(len(order))]
        folder.write_csv("exemplars.csv", [
            {"image_id": images.image_id[row], "patient_id": images.patient_id[row],
             "agreement": float(agreement.rho[row]), "exemplar": int(found.chosen[row]),
             "labels": "|".join(truths[row])} for row in order])
        rows = [{"kind": kind, "name": name, **ratio.to_dict()} for kind, names, ratios in (
            ("class", images.classes, by_class), ("findings", counts, by_count))
            for name, ratio in zip(names, ratios, strict=True)]
        folder.write_csv("prevalence_ratios.csv", rows)
        folder.write_json("results.json", folder.record | {
            "state": "done", "seeds": seeds, "images": len(order), "synthetic": images.synthetic,
            "exemplars": int(found.chosen.sum()), "cutoff": found.cutoff, "tied": found.tied,
            "prevalence_ratios": rows, "notes": notes})
        frequent = np.argsort(-np.diag(images.train_cooccurrence), kind="stable")
        figures.prevalence_ratios(path / "class_ratios", [images.classes[c] for c in frequent],
                                  [by_class[c] for c in frequent], "class, frequent to rare")
        figures.prevalence_ratios(path / "finding_count_ratios", counts, by_count,
                                  "findings in the image")
        if arguments.gallery:
            _write_gallery(path, arguments, store, order[:arguments.gallery], before, after,
                           agreement, truths, notes)
    table = [{"": row["name"], "exemplars with it": str(row["positives"]),
              "prevalence ratio (95%)": interval(ratio, 2)}
             for row, ratio in zip(rows, [*by_class, *by_count], strict=True)]
    return "\n".join([*(f"note: {note}" for note in notes), "", text_table(table), "",
                      f"{int(found.chosen.sum())} exemplars of {len(order)} images, agreement up "
                      f"to {found.cutoff:.3f} (median of all {np.median(agreement.rho):.3f})",
                      f"results  {path}"])


def _names(images, row: int) -> list[str]:
    return [images.classes[c] for c in np.flatnonzero(images.truth[row] == 1)]


def _notes(store, seeds: Sequence[int], agreement, found) -> list[str]:
    notes = []
    if store.images.synthetic:
        notes.append(f"{store.images.collection}: images are generated; nothing here is about "
                     "patients")
    notes.append("mean of one seed: its chance errors are among the exemplars" if len(seeds) == 1
                 else f"probabilities are means of {len(seeds)} seeds")
    if agreement.constant.any():
        notes.append(f"{int(agreement.constant.sum())} images have the same probability for all "
                     "classes before or after: agreement set to 1 (both) or 0 (one)")
    if found.tied:
        notes.append(f"{found.tied} more images have the cutoff's very agreement; the order of "
                     "images decided")
    return notes


def _write_gallery(path: Path, arguments: argparse.Namespace, store, order, before, after,
                   agreement, truths: Sequence[Sequence[str]], notes: list[str]) -> None:
    from cxcompress.reporting.exemplar_gallery import GalleryEntry, add_gallery
    from cxcompress.reporting.html import Page

    images = store.images
    pictures = open_pictures(store, arguments.data_path, images.image_id[order])
    entries = []
    for row in order:
        shown = {*np.argsort(-before[row])[:SHOWN_CLASSES].tolist(),
                 *np.argsort(-after[row])[:SHOWN_CLASSES].tolist(),
                 *np.flatnonzero(images.truth[row] == 1).tolist()}
        entries.append(GalleryEntry(
            pictures.get(str(images.image_id[row])), str(images.image_id[row]), truths[row],
            float(agreement.rho[row]),
            [(images.classes[c], float(before[row, c]), float(after[row, c]))
             for c in sorted(shown, key=lambda c: -before[row, c])]))
    page = Page(f"Exemplars of {arguments.treatment}",
                f"The {len(entries)} test images of {images.collection} whose classes the "
                "compressed network ranks most unlike its original. Probabilities are means over "
                "seeds; true findings are bold.")
    for note in notes:
        page.note(note)
    if not pictures:
        page.note("The images themselves were not found: give --data_path.")
    page.figure(path / "class_ratios.svg", "Findings that are more common among exemplars.")
    page.figure(path / "finding_count_ratios.svg", "How many findings exemplars have.")
    page.heading("Images, the least agreement first")
    add_gallery(page, entries)
    if images.credit:
        page.paragraph(f"Images: {images.credit}")
    page.write(path / "gallery.html")


def open_pictures(store, data_path: str | None, wanted: Sequence[str]) -> dict[str, Any]:
    """Pictures by image id, from the collection that the sweep was given; empty if not found.

    Args:
        store: Of a run folder, whose `run.json` names the collection.
        data_path: Another place of the same collection.
        wanted: Image ids.

    Raises:
        InputError: If `data_path` is given and holds none of them.
    """
    from cxcompress.data import open_collection

    given = data_path is not None
    arguments: dict[str, Any] = {}
    record = store.path.parent / "run.json"
    if record.exists():
        arguments = json.loads(record.read_text()).get("arguments", {})
    data_path = data_path or arguments.get("data_path")
    if data_path is None:
        return {}
    try:
        collection = open_collection(data_path, size=arguments.get("size"),
                                     count=arguments.get("count"),
                                     seed=arguments.get("data_seed") or 0)
    except InputError:
        if given:
            raise
        return {}
    pictures = {}
    names = {str(name) for name in wanted}
    for part in (collection.test, collection.val, collection.train):
        if part is None:
            continue
        for row in np.flatnonzero(np.isin(part.image_id, list(names - pictures.keys()))):
            pictures[str(part.image_id[row])] = part.images[int(row)]
    if given and not pictures:
        raise InputError(f"--data_path {data_path}: holds none of the images of {store.path}")
    return pictures
