"""What NIH-CXR-LT and MIMIC-CXR-LT share: three multi-hot tables, one a part.

Read through `nih_cxr_lt.py` and `mimic_cxr_lt.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cxcompress.data.collection import Collection
from cxcompress.data.intake import Intake
from cxcompress.data.label_tables import (
    LabelRow,
    Opening,
    Pictures,
    finished,
    multi_hot,
    part_of,
    read_table,
    require_images,
    unknown_labels,
)
from cxcompress.errors import InputError

PARTS = ("train", "val", "test")


def tables(folder: Path, kind: str) -> dict[str, Path]:
    """The tables of a kind (`"nih"`, `"mimic"`) by part; in the folder or one below."""
    name = re.compile(rf"(?:.*{kind}.*)?labels_(train|val|test)\.csv", re.IGNORECASE)
    found = {}
    for file in sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")]):
        match = name.fullmatch(file.name)
        if match and kind in f"{file.parent.name}/{file.name}".lower():
            found.setdefault(match[1].lower(), file)
    return found


def open_long_tailed(
    path: Path, kind: str, names: Iterable[str], identity: Iterable[str],
    row_of: Callable[[Mapping[str, str]], LabelRow], credit: str, opening: Opening,
) -> Collection:
    """Open the three tables.

    Args:
        path: Folder.
        kind: `"nih"` or `"mimic"`.
        names: All classes, in the order that the collection gets.
        identity: Columns that are no class.
        row_of: From a row of cells to image, patient and what is known of it; labels are added.
        credit: Of the collection.
        opening: How.

    Raises:
        InputError: If a table cannot be read or none of its pictures is there.
    """
    found = tables(path, kind)
    pictures = Pictures(path)
    parts, intake, named = {}, Intake(), []
    classes: tuple[str, ...] | None = None
    for part in (part for part in PARTS if part in found):
        table = found[part]
        cells = read_table(table)
        columns = [name for name in cells[0] if name]
        here = tuple(name for name in names if name in columns)
        if not here:
            raise InputError(f"{table}: has none of the classes of {kind.upper()}-CXR-LT, only "
                             f"{', '.join(columns[:4])}, …")
        if classes not in (None, here):
            raise InputError(f"{table}: has other classes than {found[next(iter(parts))]}")
        classes = here
        try:
            rows = [replace(row_of(row), labels=multi_hot(table, row, classes, opening))
                    for row in cells]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{table}: not {kind.upper()}-CXR-LT's columns ({error!r})") from error
        known = (*classes, *identity)
        stray = unknown_labels(columns, known)
        opened, counted = part_of(table, rows, pictures, opening)
        parts[part] = require_images(table, opened, rows, counted)
        intake += replace(counted, unknown_labels={
            f"column {name}": len(cells) for name in stray})
        named += [row.image for row in rows]
    collection = Collection(str(path), "multilabel", classes or (),
                            *(parts.get(part) for part in PARTS), patients_known=True,
                            credit=credit)
    return finished(collection, intake, pictures, named, opening)
