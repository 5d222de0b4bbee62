"""`cxcompress predict`: what a compressed model finds in images. Needs no TensorFlow."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxcompress.commands.command_line import OneLineParser, run
from cxcompress.errors import InputError
from cxcompress.images import image_files, read_image
from cxcompress.images.reading import DICOM_SUFFIXES, image_shape
from cxcompress.reporting.cell_pictures import cell_geojson, cell_picture
from cxcompress.reporting.tables import number, text_table
from cxcompress.runs import progress, write_atomic

if TYPE_CHECKING:
    from cxcompress.runtime import RuntimeModel

DISCLAIMER = "cxcompress is a research tool, not a medical device."
LARGEST_FIELD = 2048
"""Pixels a side of what may be one field of the training; SHIDC's have 1228."""
ODD_ASPECT = 1.25


def build_parser() -> OneLineParser:
    """The flags of `cxcompress predict`."""
    parse = OneLineParser(
        prog="cxcompress predict", description="Say what a compressed model finds in images.",
        epilog="example: cxcompress predict model-uCWS.h5 chest.png --json",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parse.add_argument
    add("model", help="a compressed .h5")
    add("images", nargs="+", help="PNG, JPEG, BMP, TIFF or DICOM files, or folders of them")
    add("--plan", default="auto", help="float32, int8, static_int8 or auto: the file's own (auto)")
    add("--threads", type=int, help="threads of the interpreter (one a core, 4 at most)")
    add("--microns_per_pixel", type=float, metavar="UM", help="nuclei: scale of the pictures, 0.25 "
        "at 40x of most scanners; fields of any size are then looked at at the model's own scale. "
        "Without it a picture is taken as one field as large as those of the training")
    add("--json", action="store_true", help="JSON instead of a table")
    add("--csv", metavar="FILE", help="write one row an image")
    add("--geojson", metavar="FOLDER", help="nuclei: one GeoJSON file an image, as QuPath reads it")
    add("--annotated", metavar="FOLDER", help="nuclei: every image with its cells marked")
    add("--overwrite", action="store_true", help="replace files that exist")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(predict(arguments)), argv)


def predict(arguments: argparse.Namespace) -> str:
    """Predict and return the text to print.

    Raises:
        InputError: If the model or an image cannot be used.
    """
    from cxcompress import runtime

    paths = image_files(arguments.images)
    _check_outputs(arguments, paths)
    model = runtime.load(arguments.model, arguments.plan, arguments.threads)
    nuclei = model.card.task == "nuclei"
    if arguments.microns_per_pixel is not None and not nuclei:
        raise InputError(f"{arguments.model}: finds no nuclei; leave --microns_per_pixel out")
    if not nuclei and (arguments.geojson or arguments.annotated):
        raise InputError(f"{arguments.model}: finds {', '.join(model.classes) or 'no cells'}; "
                         "--geojson and --annotated are for models of nuclei")
    rows = []
    for path in progress(paths, "Images", total=len(paths)):
        found = model.predict_images([path], arguments.microns_per_pixel)
        if nuclei:
            rows.append(_cells_row(path, found[0], model))
            _write_cells(arguments, path, found[0], model)
        else:
            rows.append({"image": str(path), "findings": {
                name: {"probability": float(score), "present": bool(present)}
                for name, score, present in zip(model.classes, found.scores[0],
                                                found.decisions[0], strict=True)}})
    if arguments.csv:
        write_atomic(Path(arguments.csv), _csv(rows).encode())
    if arguments.json:
        return json.dumps({"model": arguments.model, "plan": model.plan,
                           "synthetic": model.card.synthetic, "notice": DISCLAIMER,
                           "images": rows}, indent=2, ensure_ascii=False)
    return _text(rows, model, arguments)


def _outputs_of_cells(arguments: argparse.Namespace, path: Path) -> list[Path]:
    found = []
    if arguments.geojson:
        found.append(Path(arguments.geojson) / f"{path.stem}.geojson")
    if arguments.annotated:
        found.append(Path(arguments.annotated) / f"{path.stem}.png")
    return found


def _check_outputs(arguments: argparse.Namespace, paths: Sequence[Path]) -> None:
    outputs = [output for path in paths for output in _outputs_of_cells(arguments, path)]
    if len(set(outputs)) < len(outputs):
        raise InputError("two images have the same name; give folders one at a time")
    if arguments.csv:
        outputs.append(Path(arguments.csv))
    for output in outputs:
        if output.exists() and not arguments.overwrite:
            raise InputError(f"{output}: exists; give --overwrite or another name")


def _cells_row(path: Path, cells: np.ndarray, model: RuntimeModel) -> dict[str, Any]:
    counts = {name: int((cells[:, 2] == label).sum())
              for label, name in enumerate(model.classes, start=1)}
    row: dict[str, Any] = {"image": str(path), "cells": counts}
    values = list(counts.values())
    if len(values) >= 2:
        tumour = values[0] + values[1]
        row["ki67_index"] = values[0] / tumour if tumour else None
        row["too_few_nuclei"] = tumour < 500
    if len(values) >= 3:
        row["til_fraction"] = values[2] / sum(values) if sum(values) else None
    return row


def _write_cells(arguments, path: Path, cells: np.ndarray, model: RuntimeModel) -> None:
    for output in _outputs_of_cells(arguments, path):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(output, cell_geojson(cells, model.classes) if output.suffix == ".geojson"
                     else cell_picture(read_image(path), cells))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {"image": row["image"]}
    for name, finding in row.get("findings", {}).items():
        flat |= {name: finding["probability"], f"{name} present": finding["present"]}
    flat |= row.get("cells", {})
    return flat | {name: row[name] for name in ("ki67_index", "til_fraction", "too_few_nuclei")
                   if name in row}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    flat = [_flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _scale_note(
    arguments: argparse.Namespace, paths: Sequence[Path], model: RuntimeModel
) -> str | None:
    """What is to be said of pictures whose scale was not given."""
    if arguments.microns_per_pixel is not None:
        return None
    trained = model.preprocessing().microns_per_pixel
    advice = "; give --microns_per_pixel"
    width = f"{trained * model.input_shape[1]:.0f} µm wide" if trained else "as large"
    for path in paths:
        if path.suffix.lower() in DICOM_SUFFIXES:
            continue
        height, wide, _ = image_shape(path)
        if max(height, wide) > ODD_ASPECT * min(height, wide):
            return f"{path}: not square, so its nuclei are distorted{advice}"
        if min(height, wide) > LARGEST_FIELD:
            return (f"{path}: {wide}x{height} pixels were taken as one field {width}, as those of "
                    f"the training; that is hardly so, and its counts mean little{advice}")
    return (f"each picture was taken as one field {width}, as those of the training"
            f"{advice} if it is not")


def _text(
    rows: Sequence[dict[str, Any]], model: RuntimeModel, arguments: argparse.Namespace
) -> str:
    table = []
    for row in rows:
        line = {"image": row["image"]}
        for name, finding in row.get("findings", {}).items():
            line[name] = number(finding["probability"]) + (" *" if finding["present"] else "")
        line |= {name: str(count) for name, count in row.get("cells", {}).items()}
        for name in ("ki67_index", "til_fraction"):
            if name in row:
                line[name] = "no cells" if row[name] is None else number(row[name])
        table.append(line)
    notes = [f"plan {model.plan}, {model.threads} threads"]
    if model.card.task != "nuclei":
        decided = ("the most probable class" if model.card.task == "multiclass"
                   else "at or above the stored threshold")
        notes.append(f"* = {decided}")
    else:
        notes.append("til_fraction: lymphocytes / all cells, not the stromal TIL percentage of "
                     "the H&E guidelines")
        if any(row.get("too_few_nuclei") for row in rows):
            notes.append("fewer than 500 tumour nuclei in an image: too few for a Ki-67 index")
        if note := _scale_note(arguments, [Path(row["image"]) for row in rows], model):
            notes.append(note)
    if model.card.synthetic:
        notes.append("this model was trained on generated data: its findings mean nothing in a "
                     "patient")
    return "\n".join([text_table(table), "", *notes, DISCLAIMER])
