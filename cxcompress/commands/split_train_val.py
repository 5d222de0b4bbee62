"""`split_train_val.py`: hold a validation part out of a folder of annotated fields."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from cxcompress.commands.command_line import OneLineParser, run
from cxcompress.errors import InputError
from cxcompress.reporting.tables import text_table
from cxcompress.runs import to_json, versions, write_atomic

EXAMPLE = ("python experiments/split_train_val.py --inputPath SHIDC-B-Ki-67 --outputPath split")
RECORD = "split.json"


def build_parser() -> OneLineParser:
    """The flags of `split_train_val.py`; the prior work's keep their names."""
    parse = OneLineParser(
        prog="split_train_val.py", description="Hold a validation part out of the training fields "
        "of a folder in SHIDC-B-Ki-67's layout, by patient.", epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parse.add_argument
    add("--inputPath", required=True, help="folder with Train and perhaps Test, or with fields")
    add("--outputPath", required=True, help="folder to create: Train, Val, and Test as it was")
    add("--by", choices=("patient", "image"), default="patient",
        help="patient: no patient on both sides; image: as PathoNet's authors split, which lets "
        "patients leak (patient)")
    add("--fraction", type=float, default=0.2, help="share of the fields to hold out (0.2)")
    add("--seed", type=int, default=4, help="of the choice (4)")
    add("--overwrite", action="store_true", help="replace a folder that this command made")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(split_train_val(arguments)), argv)


def split_train_val(arguments: argparse.Namespace) -> str:
    """Split, and return what to print.

    Raises:
        InputError: If a flag or a folder cannot be used.
    """
    from cxcompress.data.field_folders import split_fields
    from cxcompress.data.shidc import patient_of

    if not 0 < arguments.fraction < 1:
        raise InputError(f"--fraction {arguments.fraction:g}: must lie between 0 and 1, e.g. 0.2")
    target = Path(arguments.outputPath)
    source = Path(arguments.inputPath)
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise InputError(f"--outputPath {target}: lies in --inputPath; give another folder")
    split = split_fields(source, target, fraction=arguments.fraction, by=arguments.by,
                         seed=arguments.seed,
                         replace=arguments.overwrite and (target / RECORD).is_file())
    record = {"made_by": "split_train_val.py", "by": arguments.by, "seed": arguments.seed,
              "fraction": arguments.fraction, "source": source.name, "versions": versions(),
              "parts": {part: [file.name for file in files] for part, files in split.items()}}
    write_atomic(target / RECORD, to_json(record))
    rows = []
    for part, files in split.items():
        labels = [entry["label_id"] for file in files
                  for entry in json.loads(file.with_suffix(".json").read_text())]
        rows.append({"part": part, "fields": str(len(files)),
                     "patients": str(len({patient_of(file) for file in files})),
                     "positive": str(labels.count(1)), "negative": str(labels.count(2)),
                     "lymphocytes": str(labels.count(3))})
    shared = {patient_of(file) for file in split["train"]} & {
        patient_of(file) for file in split["val"]}
    notes = [] if not shared else [
        f"{len(shared)} patients are in both Train and Val: validation looks better than on new "
        "patients"]
    return "\n".join([text_table(rows, right=tuple(rows[0])[1:]), "", *notes, f"folder  {target}"])
