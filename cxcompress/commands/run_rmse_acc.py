"""`run_rmse_acc.py`: cells, patients' indices and cut-off accuracy beside the annotation."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxcompress.commands.command_line import parser, run, start_tensorflow
from cxcompress.errors import InputError
from cxcompress.reporting.tables import byte_count, number, text_table
from cxcompress.runs import RunFolder, WorkUnit, atomic_path, to_csv, write_atomic

if TYPE_CHECKING:
    from cxcompress.data.collection import Collection
    from cxcompress.evaluation.cut_offs import CutOffs

EXAMPLE = ("python experiments/run_rmse_acc.py --net pathonet.h5 "
           "--compr_weights pathonet-uCWS.h5 --data_path SHIDC-B-Ki-67")
MATCHINGS = ("one-to-one", "paper")


def build_parser() -> argparse.ArgumentParser:
    """The flags of `run_rmse_acc.py`."""
    parse = parser("run_rmse_acc.py", "Judge networks of nuclei on annotated fields: precision, "
                   "recall and F1 of cells; RMSE, agreement and cut-off accuracy of patients' "
                   "Ki-67 index and TIL fraction, all with 95% intervals by patient.", EXAMPLE)
    parse.add_argument("--net", help="the original model, the first row of the tables")
    parse.add_argument("--compr_weights", nargs="*", default=[], metavar="FILE",
                       help="compressed files, or other models")
    add_judging_flags(parse)
    return parse


def add_judging_flags(parse: argparse.ArgumentParser) -> None:
    """Flags of how models are run and judged."""
    add = parse.add_argument
    add("--data_path", default="synthetic:ki67",
        help="fields: a folder in SHIDC-B-Ki-67's layout, synthetic:ki67 or synthetic:ki67wide "
        "(synthetic:ki67)")
    add("--count", type=int, help="fields to generate, where --data_path is synthetic:…")
    add("--data_seed", type=int, help="seed of generated fields (as --seed)")
    add("--part", choices=("test", "val"), default="test", help="part to judge on (test)")
    add("--engine", choices=("keras", "runtime"), default="keras",
        help="what runs compressed files; other files always run in Keras (keras)")
    add("--plan", default="auto", help="of --engine runtime: float32, int8, static_int8 or auto: "
        "the file's own (auto)")
    add("--threads", type=int, help="of --engine runtime (one a core, 4 at most)")
    add("--microns_per_pixel", type=float, help="scale of the stored fields; models whose card "
        "names theirs then look at fields of any size at that scale")
    add("--thresholds", nargs="+", metavar="T", help="of the density maps, one a class; or paper: "
        "60 55 40 (the card's, else the paper's)")
    add("--tune", action="store_true",
        help="choose thresholds on the validation part, for each model its own")
    add("--matching", choices=MATCHINGS, default="one-to-one",
        help="paper: print the original scripts' rule beside one-to-one pairs; files always hold "
        "both (one-to-one)")
    add("--cut_offs", nargs="+", default=["pathonet", "ikwg"], metavar="NAME",
        help="sets of clinical cut-offs (pathonet ikwg)")
    add("--cut_offs_file", metavar="FILE", help="a JSON file with more sets of cut-offs")
    add("--pictures", type=int, default=2, metavar="N",
        help="fields to draw with found (circles) and annotated (crosses) cells, and as GeoJSON, "
        "for each model (2)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(run_rmse_acc(arguments)), argv)


def run_rmse_acc(arguments: argparse.Namespace) -> str:
    """Judge, write the run folder and return the tables.

    Raises:
        InputError: If a flag, a model or the fields cannot be used.
    """
    files = [Path(file) for file in [arguments.net, *arguments.compr_weights] if file]
    if not files:
        raise InputError("give --net, --compr_weights or both")
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    if len({file.stem for file in files}) < len(files):
        raise InputError("two models have the same name; rename one")
    chosen = chosen_cut_offs(arguments)
    given_thresholds(arguments)
    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    start_tensorflow()
    from cxcompress.pipeline.inputs import file_sha256

    described["sha256"] = {file.name: file_sha256(file) for file in files}
    path = Path(arguments.output_path) / "run_rmse_acc" / files[0].stem
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        collection = functools.cache(lambda: open_fields(arguments))
        rows = judge_models(folder, files, collection, arguments, chosen)
        text = write_judgement(folder, rows, arguments, chosen)
    return f"{text}\n\nresults  {path}"


def chosen_cut_offs(arguments: argparse.Namespace) -> dict[str, CutOffs]:
    """The sets of cut-offs asked for.

    Raises:
        InputError: If there is none of a name.
    """
    from cxcompress.evaluation.cut_offs import CutOffs

    known = CutOffs.known(arguments.cut_offs_file)
    for name in arguments.cut_offs:
        if name not in known:
            raise InputError(f"--cut_offs {name}: unknown; there are {', '.join(known)}")
    return {name: known[name] for name in arguments.cut_offs}


def given_thresholds(arguments: argparse.Namespace) -> tuple[float, ...] | None:
    """Thresholds of the command line, or None.

    Raises:
        InputError: If they are no positive numbers, or to be tuned too.
    """
    from cxcompress.tasks.nuclei import DEFAULT_THRESHOLDS

    if arguments.thresholds is None:
        return None
    if arguments.tune:
        raise InputError("--tune chooses the thresholds: leave --thresholds out")
    if arguments.thresholds == ["paper"]:
        return DEFAULT_THRESHOLDS
    try:
        values = tuple(float(value) for value in arguments.thresholds)
    except ValueError as error:
        raise InputError(f"--thresholds {' '.join(arguments.thresholds)}: one number a class, or "
                         "paper") from error
    if not all(0 < value < 1e6 for value in values):
        raise InputError(f"--thresholds {' '.join(arguments.thresholds)}: must be positive")
    return values


def open_fields(arguments: argparse.Namespace) -> Collection:
    """The collection, with a validation part where thresholds are to be tuned.

    Raises:
        InputError: If it holds no annotated nuclei or lacks the part.
    """
    from cxcompress.data import open_collection, with_validation

    collection = open_collection(
        arguments.data_path, count=arguments.count,
        seed=arguments.seed if arguments.data_seed is None else arguments.data_seed)
    if collection.task != "nuclei":
        raise InputError(f"--data_path {arguments.data_path}: holds {collection.task} labels, not "
                         "annotated nuclei")
    if arguments.tune or arguments.part == "val":
        collection = with_validation(collection, seed=arguments.seed)
    if getattr(collection, arguments.part) is None:
        raise InputError(f"--data_path {arguments.data_path}: has no {arguments.part} part")
    return collection


def judge_models(
    folder: RunFolder, files: Sequence[Path], collection: Callable[[], Collection],
    arguments: argparse.Namespace, chosen: Mapping[str, CutOffs],
) -> list[dict[str, Any]]:
    """What was found by each model, a work unit each; the first is what the others are held
    against."""
    units = [WorkUnit(f"model={file.stem}", judge_model, {
        "path": file, "first": files[0], "folder": folder.path, "collection": collection,
        "arguments": arguments, "chosen": chosen}) for file in files]
    return list(folder.run_units(units, "Models").values())


def judge_model(
    path: Path, first: Path, folder: Path, collection: Callable[[], Collection],
    arguments: argparse.Namespace, chosen: Mapping[str, CutOffs],
) -> dict[str, Any]:
    """Judge one model: its record, metrics, pictures and figures."""
    from cxcompress.evaluation import compare, evaluate
    from cxcompress.evaluation.pathology import PatientIndices, confusion, evaluate_patients
    from cxcompress.pipeline.fields import JudgedModel
    from cxcompress.reporting import pathology_figures as figures
    from cxcompress.tasks import CellMatches

    fields = collection()
    part = getattr(fields, arguments.part)
    judged = JudgedModel.open(path, arguments.engine, arguments.plan, arguments.threads)
    microns = arguments.microns_per_pixel or fields.microns_per_pixel
    thresholds = given_thresholds(arguments) or judged.thresholds
    if arguments.tune:
        thresholds = judged.tuned_thresholds(fields.val, microns)
    thresholds = judged.task.thresholds(thresholds)
    found = judged.found(part, microns, thresholds)
    records = {rule: judged.task.record_of_cells(
        found.cells, found.annotated, part.image_id, part.patient_id, rule)
        for rule in MATCHINGS}
    for rule, record in records.items():
        with atomic_path(folder / "records" / f"{path.stem}-{rule}.npz") as temporary:
            record.save(temporary)
    record = records["one-to-one"]
    patients = PatientIndices.of(record)
    indices = evaluate_patients(record, chosen, seed=arguments.seed)
    write_atomic(folder / f"patients_{path.stem}.csv", to_csv(patients.rows()))
    title = f"{path.stem}, {fields.title}"
    for index in ("ki67_index", "til_fraction"):
        if index not in patients.annotated:
            continue
        figures.bland_altman(folder / "figures" / f"bland_altman_{index}_{path.stem}", patients,
                             indices, index, title)
        for name, cut_offs in chosen.items():
            if index in cut_offs.edges:
                figures.confusion(folder / "figures" / f"confusion_{index}_{name}_{path.stem}",
                                  confusion(record, cut_offs, index), cut_offs.labels(index),
                                  index, f"{path.stem}, {name}")
    _draw(folder / "cells", path.stem, part, found, judged.task.classes, arguments.pictures)
    verdict = None
    if path != first:
        original = CellMatches.load(folder / "records" / f"{first.stem}-one-to-one.npz")
        if original.classes == record.classes:
            verdict = compare(original, record, seed=arguments.seed).verdict
    return {
        "model": path.stem, "engine": judged.engine, "plan": judged.plan,
        "bytes": path.stat().st_size, "thresholds": thresholds,
        "classes": judged.task.classes, "part": arguments.part, "collection": fields.title,
        "synthetic_fields": fields.synthetic, "synthetic_model": judged.synthetic,
        "fields": len(part), "patients": len(patients.patient_id),
        "too_few_nuclei": int((patients.annotated_tumour < 500).sum()),
        "cells": {rule: {key: dataclasses.asdict(value)
                         for key, value in evaluate(one, seed=arguments.seed).items()}
                  for rule, one in records.items()},
        "indices": {key: dataclasses.asdict(value) for key, value in indices.items()},
        "verdict": verdict,
    }


def _draw(folder: Path, name: str, part, found, classes: Sequence[str], count: int) -> None:
    from cxcompress.reporting.cell_pictures import cell_geojson, cell_picture

    for row in range(min(count, len(part))):
        stem = f"{name}-{Path(str(part.image_id[row])).stem}"
        image, factor = part.images[row], (*found.factors[row], 1)
        cells = found.cells[row] * factor
        write_atomic(folder / f"{stem}.png", cell_picture(
            image, cells, part.labels[row], enlarge=max(1, 768 // max(image.shape[:2]))))
        write_atomic(folder / f"{stem}.geojson", cell_geojson(cells, classes))


def write_judgement(
    folder: RunFolder, rows: Sequence[dict[str, Any]], arguments: argparse.Namespace,
    chosen: Mapping[str, CutOffs], extra: Mapping[str, Any] | None = None,
) -> str:
    """Write tables, JSON and the figure of models; returns the text for the terminal."""
    from cxcompress.reporting import pathology_figures as figures

    folder.write_csv("results_RMSE_cutoffAccuracy_comprNets.csv",
                     [_csv_row(row, chosen) for row in rows])
    folder.write_csv("results_cells.csv", [
        {"model": row["model"], "matching": rule, "metric": key} | estimate
        for row in rows for rule, estimates in row["cells"].items()
        for key, estimate in estimates.items()])
    folder.write_csv("results_indices.csv", [
        {"model": row["model"], "metric": key} | estimate
        for row in rows for key, estimate in row["indices"].items()])
    folder.write_json("results.json", folder.record | {
        "state": "done", "models": rows, "cut_offs": chosen} | (extra or {}))
    classes = rows[0]["classes"]
    synthetic = rows[0]["synthetic_fields"]
    about = (f"{rows[0]['fields']} {'generated ' * synthetic}fields of {rows[0]['patients']} "
             f"patients ({rows[0]['part']})")
    figures.models(folder.path / "models", [
        {"model": row["model"]} | row["cells"]["one-to-one"] | row["indices"] for row in rows],
        classes, about)
    return "\n".join([*_tables(rows, arguments, chosen, classes), "", *_notes(rows, about)])


def _csv_row(row: Mapping[str, Any], chosen: Mapping[str, CutOffs]) -> dict[str, Any]:
    indices = row["indices"]

    def value(key: str) -> float | str:
        return indices[key]["value"] if key in indices else ""

    result = {"exp": row["model"], "engine": row["engine"], "plan": row["plan"],
              "bytes": row["bytes"], "rmse_ki67": value("ki67_index_rmse"),
              "rmse_TIL": value("til_fraction_rmse")}
    for name in chosen:
        result |= {f"acc_ki67_{name}": value(f"ki67_index_accuracy:{name}"),
                   f"acc_TIL_{name}": value(f"til_fraction_accuracy:{name}")}
    return result | {"patients": row["patients"], "fields": row["fields"],
                     "verdict": row["verdict"] or ""}


def _with_interval(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "undefined"
    return (f"{number(estimate['value'])} ({number(estimate['low'])} to "
            f"{number(estimate['high'])})")


def _tables(rows, arguments, chosen, classes) -> list[str]:
    rules = MATCHINGS if arguments.matching == "paper" else MATCHINGS[:1]
    cells = [{"model": row["model"], "file": byte_count(row["bytes"]),
              "by": row["plan"] or row["engine"]}
             | ({"matching": rule} if len(rules) > 1 else {})
             | {f"F1 {name}": _with_interval(row["cells"][rule][f"f1:{name}"])
                for name in classes}
             | {"F1 mean": _with_interval(row["cells"][rule]["f1_macro"]),
                "verdict": row["verdict"] or ""}
             for row in rows for rule in rules]
    patients = [{"model": row["model"]} | {
        label: _with_interval(row["indices"].get(key)) for label, key in (
            ("RMSE Ki-67", "ki67_index_rmse"), ("ICC Ki-67", "ki67_index_icc"),
            ("RMSE TIL", "til_fraction_rmse"),
            *((f"accuracy {name}", f"ki67_index_accuracy:{name}") for name in chosen),
            *((f"kappa {name}", f"ki67_index_kappa:{name}") for name in chosen),
            *((f"TIL accuracy {name}", f"til_fraction_accuracy:{name}") for name in chosen
              if "til_fraction" in chosen[name].edges))} for row in rows]
    return [text_table(cells, right=("file",)), "", text_table(patients)]


def _notes(rows: Sequence[Mapping[str, Any]], about: str) -> list[str]:
    few, patients = rows[0]["too_few_nuclei"], rows[0]["patients"]
    notes = [f"judged on {about}; 95% intervals by patient in brackets"]
    if few:
        notes.append(f"{few} of {patients} patients have fewer than 500 annotated tumour nuclei: "
                     "too few for an index to be relied on")
    notes.append("TIL: lymphocytes / all cells (PathoNet's TIL score), not the stromal TIL "
                 "percentage of the H&E guidelines")
    if rows[0]["synthetic_fields"] or any(row["synthetic_model"] for row in rows):
        notes.append("generated fields, or models trained on them: nothing follows for patients")
    return notes
