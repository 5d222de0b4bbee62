"""Any CSV of radiographs by naming its columns; PadChest's are known.

    collection = open_mapped("PadChest")                   # recognised by its header
    collection = open_mapped("ward7", Opening(columns=column_map("image=file,labels=findings")))

The folder holds one CSV and the pictures anywhere below it. A mapping says which column is what:

- `image`: file name, or path below the folder;
- `patient`: patient id; without it patients are unknown;
- `labels`: one column of names (`a|b`, or a Python list as PadChest has it), or several multi-hot
  columns (1, 0, -1 = uncertain, blank = unknown);
- `view`, `sex`, `age` of the image; or `birth` (year) and `date` (yyyymmdd) instead of `age`;
- `split`: train, val or test; without it patients are divided 70/10/20;

and, which are no columns: `classes`, the names of the classes in order (other labels are counted as
unknown; default: all there are); `least`, how many rows a label must have to be a class without
`classes` (1).

A file `columns.json` in the folder with these keys is used where no mapping is given.

Reference: Bustos et al. (2020), PadChest.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from cxcompress.data.collection import Collection
from cxcompress.data.intake import Intake
from cxcompress.data.label_tables import (
    OLDEST,
    LabelRow,
    Opening,
    Pictures,
    finished,
    multi_hot,
    part_of,
    read_table,
    require_images,
    sex_of,
    unknown_labels,
    years,
)
from cxcompress.data.splits import three_parts
from cxcompress.errors import InputError

KEYS = ("image", "patient", "labels", "classes", "least", "view", "sex", "age", "birth", "date",
        "split")
LISTS = ("labels", "classes")

PADCHEST: Mapping[str, Any] = {
    "image": "ImageID", "patient": "PatientID", "labels": "Labels", "view": "Projection",
    "sex": "PatientSex_DICOM", "birth": "PatientBirth", "date": "StudyDate_DICOM"}
"""The columns of `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`."""

NO_LABELS = ("", "normal", "No Finding")
"""Names that say no finding is there; a class only where `classes` names it."""

MAP_FILE = "columns.json"


def column_map(text: str) -> dict[str, Any]:
    """A mapping from a JSON file's name, or from `key=column,key=column`; lists are `a|b`.

    Raises:
        InputError: If it is neither, or a key is unknown.
    """
    if text.endswith(".json"):
        try:
            found = json.loads(Path(text).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"--columns {text}: cannot be read ({error})") from error
        if not isinstance(found, dict):
            raise InputError(f"--columns {text}: give an object of {', '.join(KEYS)}")
    else:
        pairs = [pair.partition("=") for pair in text.split(",")]
        if not all(mark and key and column for key, mark, column in pairs):
            raise InputError(f"--columns {text}: write key=column,…, keys {', '.join(KEYS)}")
        found = {key.strip(): column.split("|") if key.strip() in LISTS and "|" in column
                 else column for key, _, column in pairs}
    stray = set(found) - set(KEYS)
    if stray or "image" not in found or "labels" not in found:
        wrong = f"{sorted(stray)[0]!r} is none" if stray else "image and labels must be there"
        raise InputError(f"--columns {text}: keys are {', '.join(KEYS)}; {wrong}")
    return found


def is_mapped(folder: Path) -> bool:
    """Whether a folder holds PadChest's table, or a table and `columns.json`."""
    if (folder / MAP_FILE).is_file():
        return True
    for table in folder.glob("*.csv"):
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline()
        if {"ImageID", "Labels", "PatientID"} <= set(header.strip().replace('"', "").split(",")):
            return True
    return False


def open_mapped(path: str | PathLike, opening: Opening | None = None) -> Collection:
    """Open a folder by its column mapping as a multilabel collection.

    Raises:
        InputError: If there is not exactly one CSV, a column is missing, a label cannot be read,
            or no picture is there.
    """
    folder, opening = Path(path), opening or Opening()
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        raise InputError(f"{path}: holds {len(tables)} CSV files; a mapped collection has one")
    table = tables[0]
    columns = opening.columns
    if columns is None:
        inside = folder / MAP_FILE
        columns = column_map(str(inside)) if inside.is_file() else PADCHEST
    cells = read_table(table)
    _require_columns(table, cells[0], columns)
    classes, labels, unknown = _labels(table, cells, columns, opening)
    rows = [LabelRow(
        row[columns["image"]].strip(), _cell(row, columns, "patient") or row[columns["image"]],
        found, view=_cell(row, columns, "view"), age=_age(row, columns),
        sex=sex_of(_cell(row, columns, "sex"))) for row, found in zip(cells, labels, strict=True)]
    pictures = Pictures(folder)
    collection = Collection(str(path), "multilabel", classes, None, None, None,
                            patients_known="patient" in columns,
                            credit="PadChest (Bustos et al. 2020), research use."
                            if columns is PADCHEST else "")
    if "split" in columns:
        parts, intake = {}, Intake()
        for name in ("train", "val", "test"):
            chosen = [row for row, cell in zip(rows, cells, strict=True)
                      if _split(table, cell[columns["split"]]) == name]
            if chosen:
                part, counted = part_of(table, chosen, pictures, opening)
                parts[name] = require_images(table, part, chosen, counted)
                intake += counted
    else:
        part, intake = part_of(table, rows, pictures, opening)
        parts = dict(zip(("train", "val", "test"), three_parts(
            require_images(table, part, rows, intake),
            patients_known=collection.patients_known), strict=True))
    return finished(replace(collection, **parts), replace(intake, unknown_labels=unknown),
                    pictures, (row.image for row in rows), opening)


def _require_columns(table: Path, header: Mapping, columns: Mapping) -> None:
    for key, column in columns.items():
        for name in column if isinstance(column, list) else [column]:
            if key not in ("classes", "least") and name not in header:
                raise InputError(f"{table}: has no column {name!r} ({key}); it has "
                                 f"{', '.join(list(header)[:8])}, …: name them with --columns")


def _cell(row: Mapping[str, str], columns: Mapping, key: str) -> str:
    return (row.get(columns[key]) or "").strip() if key in columns else ""


def _labels(table: Path, cells: list[dict[str, str]], columns: Mapping, opening: Opening):
    """Classes, labels of each row, and labels that are no class."""
    given = columns.get("classes")
    given = [given] if isinstance(given, str) else given
    if isinstance(columns["labels"], list):
        classes = tuple(given or columns["labels"])
        stray = [name for name in classes if name not in columns["labels"]]
        if stray:
            raise InputError(f"{table}: class {stray[0]!r} is none of the columns of labels")
        return classes, [multi_hot(table, row, classes, opening) for row in cells], {}
    listed = [_names(table, row[columns["labels"]]) for row in cells]
    counts = Counter(name for names in listed for name in set(names))
    if given:
        classes = tuple(given)
    else:
        least = int(columns.get("least", 1))
        classes = tuple(sorted(name for name, count in counts.items()
                               if count >= least and name not in NO_LABELS))
    if not classes:
        raise InputError(f"{table}: no label in {columns['labels']!r}")
    unknown = unknown_labels((name for names in listed for name in names if name not in NO_LABELS),
                             classes)
    return classes, [tuple(float(name in names) for name in classes) for names in listed], unknown


def _names(table: Path, text: str | None) -> list[str]:
    """`['a', 'b']` or `a|b` as names."""
    text = (text or "").strip()
    if not text.startswith("["):
        return [name.strip() for name in text.split("|")]
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"{table}: {text[:60]!r} is no list of labels") from error
    return [str(name).strip() for name in names]


def _age(row: Mapping[str, str], columns: Mapping) -> float:
    if "age" in columns:
        return years(_cell(row, columns, "age"))
    try:
        age = int(_cell(row, columns, "date")[:4]) - int(float(_cell(row, columns, "birth")))
    except (ValueError, OverflowError):
        return float("nan")
    return float(age) if 0 <= age <= OLDEST else float("nan")


def _split(table: Path, text: str) -> str:
    name = {"valid": "val", "validation": "val", "validate": "val"}.get(
        text.strip().lower(), text.strip().lower())
    if name not in ("train", "val", "test"):
        raise InputError(f"{table}: a split is {text!r}; allowed are train, val, test")
    return name
