"""`localisation.py`: does a network look at the finding, and does a smaller one look elsewhere?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.commands.compress import class_names
from cxcompress.commands.data_flags import PREPROCESSINGS
from cxcompress.commands.similarity import named_nets
from cxcompress.errors import InputError
from cxcompress.reporting.tables import interval, text_table
from cxcompress.runs import RunFolder

if TYPE_CHECKING:
    from cxcompress.data.finding_regions import FindingRegion

EXAMPLE = ("python experiments/localisation.py --net model.h5 model-uCWS.h5 "
           "--data_path ChestX-ray14 --size 224")
SHOWN = 6
"""Findings in the gallery, each of another class."""
WORDS = {"pointing_game": "hottest pixel on it", "iou": "overlap (IoU)",
         "energy": "share of the map on it", "agreement": "agreement of maps (r)"}


def build_parser() -> argparse.ArgumentParser:
    """The flags of `localisation.py`."""
    parse = parser("localisation.py", "Grad-CAM of classifiers against where the findings are: "
                   "full against truncated, original against compressed. Regions are known of "
                   "generated radiographs and of NIH's images with boxes.", EXAMPLE)
    add = parse.add_argument
    add("--net", required=True, nargs="+", metavar="FILE",
        help="classifiers of the same classes: .keras, .h5, .hdf5, or compressed files; the first "
        "is what the others are compared with")
    add("--names", nargs="+", help="what to call them (their files' names)")
    add("--data_path", default="synthetic:cxr", help="synthetic:cxr, or a folder of NIH "
        "ChestX-ray14 with BBox_List_2017.csv (synthetic:cxr)")
    add("--count", type=int, help="images to generate, where --data_path is synthetic:…")
    add("--data_seed", type=int, default=0, help="seed of generated images (0)")
    add("--part", default="test", choices=("train", "val", "test"), help="images to look at (test)")
    add("--size", type=int, default=128, help="pixels a side at which maps and regions meet (128)")
    add("--layer", help="feature maps to look through (each network's last ones)")
    add("--preprocessing", default="auto", choices=PREPROCESSINGS, help="as for compress.py (auto)")
    add("--classes", help="class names in the order of the models' outputs, comma-separated")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(localisation(arguments)), argv)


def localisation(arguments: argparse.Namespace) -> str:
    """Compare, draw, write the run folder and return the table.

    Raises:
        InputError: If a flag, a model or the data cannot be used.
    """
    names = named_nets(arguments.net, arguments.names)
    if not 16 <= arguments.size <= 1024:
        raise InputError(f"--size {arguments.size}: must lie between 16 and 1024")
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.data.finding_regions import open_regions
    from cxcompress.evaluation.localisation import differences, estimates, localise, map_agreement
    from cxcompress.pipeline import inputs
    from cxcompress.reporting.localisation_figures import gallery, metric_by_model

    notes: list[str] = []
    path = Path(arguments.output_path) / "localisation" / names[0]
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        data: Any = arguments.data_path
        found: dict[str, dict[str, NDArray]] = {}
        seen: dict[str, NDArray] = {}
        scores: dict[str, NDArray] = {}
        regions: list[FindingRegion] = []
        for name, net in zip(names, arguments.net, strict=True):
            model, card, _ = inputs.open_model(net)
            study = inputs.open_study(model, card, data, class_names(arguments.classes),
                                      arguments.preprocessing, arguments.data_seed, notes,
                                      arguments.count)
            if study.task.name == "nuclei":
                raise InputError(f"--net {net}: gives density maps of nuclei; where a classifier "
                                 "looks can be asked here")
            data = study.collection  # opened once
            part = getattr(study.collection, arguments.part) or study.judged_part("test", notes)[0]
            if not regions:
                classes = study.task.classes
                regions = open_regions(arguments.data_path, part, classes, arguments.size,
                                       arguments.data_seed)
                if not regions:
                    raise InputError(f"--data_path {arguments.data_path}: no image of the "
                                     f"{arguments.part} part has a known region")
            elif study.task.classes != classes:
                raise InputError(f"--net {net}: finds {', '.join(study.task.classes)}; the first "
                                 f"one {', '.join(classes)}")
            seen[name], scores[name] = _maps(model, study, part, regions, arguments)
            found[name] = localise(seen[name], np.array([one.mask for one in regions]))
        patients = np.array([one.patient_id for one in regions])
        findings = np.array([one.finding for one in regions])
        first = names[0]
        rows, changes = [], []
        for name in names:
            values = dict(found[name])
            if name != first:
                values["agreement"] = map_agreement(seen[name], seen[first])
            for finding in ("all", *dict.fromkeys(findings)):
                here = (findings == finding) | (finding == "all")
                rows += [_row(name, finding, metric, value) for metric, value in estimates(
                    {metric: some[here] for metric, some in values.items()}, patients[here],
                    seed=arguments.seed).items()]
                if name != first:
                    changes += [_row(name, finding, metric, value) for metric, value in differences(
                        {metric: some[here] for metric, some in found[name].items()},
                        {metric: some[here] for metric, some in found[first].items()},
                        patients[here], seed=arguments.seed).items()]
        folder.write_csv("localisation.csv", rows)
        if changes:
            folder.write_csv("differences.csv", changes)
        metric_by_model(path / "localisation", [row for row in rows if row["finding"] == "all"],
                        names)
        shown = _examples(findings)
        gallery(path / "gallery", [
            {"image": np.squeeze(np.asarray(part.images[regions[row].row])),
             "mask": regions[row].mask, "finding": regions[row].finding,
             "maps": {name: seen[name][row] for name in names},
             "scores": {name: float(scores[name][row]) for name in names}} for row in shown])
        folder.write_json("results.json", folder.record | {
            "state": "done", "rows": rows, "differences": changes, "notes": notes,
            "synthetic": study.collection.synthetic, "findings": len(regions),
            "patients": len(set(patients))})
    return _text(names, rows, changes, notes, len(regions), len(set(patients)), study, path)


def _maps(model, study, part, regions: Sequence[FindingRegion], arguments: argparse.Namespace):
    """Grad-CAM of each region's class at `--size`, and the class's probability."""
    from cxcompress.evaluation.localisation import enlarged
    from cxcompress.inspection.grad_cam import grad_cam
    from cxcompress.pipeline.inputs import predict

    rows = np.array([one.row for one in regions])
    columns = np.array([study.task.classes.index(one.finding) for one in regions])
    images = np.unique(rows)
    some = part.select(images)
    place = np.searchsorted(images, rows)
    prepared = study.preprocessing.batch(some.images)
    maps = None
    for column in np.unique(columns):
        mine = np.flatnonzero(columns == column)
        coarse = grad_cam(model, prepared[place[mine]], [int(column)], arguments.layer)[..., 0]
        if maps is None:
            maps = np.zeros((len(regions), arguments.size, arguments.size), np.float32)
        maps[mine] = enlarged(coarse, arguments.size)
    outputs = predict(model, some, study.preprocessing, 64, "Probabilities")
    return maps, study.task.record(outputs, some.labels, some.image_id,
                                   some.patient_id).score[place, columns]


def _row(name: str, finding: str, metric: str, value) -> dict[str, Any]:
    return {"model": name, "finding": finding, "metric": metric, "value": value.value,
            "low": value.low, "high": value.high, "n": value.n, "patients": value.patients,
            "method": value.method}


def _examples(findings: NDArray) -> list[int]:
    """One finding of each of the classes with the most."""
    names, first, counts = np.unique(findings, return_index=True, return_counts=True)
    return [int(first[place]) for place in np.argsort(-counts, kind="stable")[:SHOWN]]


def _text(names, rows, changes, notes, count: int, patients: int, study, path: Path) -> str:
    def cell(some: Sequence[Mapping], name: str, metric: str) -> str:
        for row in some:
            if (row["model"], row["finding"], row["metric"]) == (name, "all", metric):
                return interval(SimpleNamespace(**row))
        return ""

    table = [{"model": name} | {word: cell(rows, name, metric) for metric, word in WORDS.items()
                                if metric != "agreement" or len(names) > 1} for name in names]
    lines = [*(f"note: {note}" for note in notes), "",
             f"{count} findings of {patients} patients; 95% intervals by patient", "",
             text_table(table), "",
             f"by chance: {cell(rows, names[0], 'chance')}: the findings' mean share of the image"]
    if changes:
        lines += ["", f"minus {names[0]}, paired:", "", text_table([
            {"model": name} | {word: cell(changes, name, metric) for metric, word in WORDS.items()
                               if metric != "agreement"} for name in names[1:]])]
    if study.collection.synthetic:
        lines += ["", "generated images: these numbers say how the tool works, nothing of patients"]
    return "\n".join([*lines, "", f"results  {path}"])
