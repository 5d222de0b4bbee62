"""Label tables: from the rows of a CSV and the pictures of a folder to a part of a collection.

    pictures = Pictures("ChestX-ray14")
    rows = [LabelRow("00000013_005.png", "00000013", (0.0, 1.0), view="AP", age=60.0, sex="M")]
    part, intake = part_of(table, rows, pictures, opening)

What every layout shares: finding the picture of a row, images named twice, rows without pictures
and pictures without rows, damaged pictures, patient, view, age and sex beside the labels.
"""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from cxcompress.data.collection import Collection, Part
from cxcompress.data.image_folder import ImageFiles
from cxcompress.data.intake import Intake
from cxcompress.errors import InputError
from cxcompress.images.checking import decodes, faults
from cxcompress.images.reading import DICOM_SUFFIXES, SUFFIXES
from cxcompress.runs import progress

logger = logging.getLogger(__name__)

OLDEST = 120
"""Ages above this are slips of the pen (ChestX-ray14 has some of 148 to 414 years): unknown."""

UNCERTAIN = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0}
"""What -1 becomes: CheXpert's U-Ignore, U-Zeros and U-Ones (Irvin et al. 2019)."""


@dataclass(frozen=True)
class Opening:
    """How a collection with label tables is opened.

    Args:
        strict: Whether any row without an image, image without a row, image named twice, unknown
            label, unreadable image or patient in two parts is an error.
        check: How pictures are checked: `"pixels"` decodes each once, `"headers"` finds foreign
            and truncated files, `"auto"` is `"pixels"` for up to 20,000 pictures.
        uncertain: What an uncertain label (-1) becomes: `"ignore"` (unknown), `"zeros"`, `"ones"`.
        columns: For tables in no published layout (`mapped_table.py`).
    """

    strict: bool = False
    check: Literal["auto", "pixels", "headers"] = "auto"
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore"
    columns: Mapping | None = None


@dataclass(frozen=True)
class LabelRow:
    """One row of a label table.

    Args:
        image: File name, or path below the folder, as the table gives it.
        patient: Patient id.
        labels: One a class: 1, 0 or NaN (unknown).
        view, sex: "" where unknown.
        age: Years, NaN where unknown.
    """

    image: str
    patient: str
    labels: tuple[float, ...]
    view: str = ""
    age: float = float("nan")
    sex: str = ""


class Pictures:
    """The picture files below a folder, found by name or by the end of their path."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Files by their path below the folder, sorted."""
        kinds = (*SUFFIXES, *DICOM_SUFFIXES)
        return {path.relative_to(self.folder).as_posix(): path
                for path in sorted(self.folder.rglob("*"))
                if path.suffix.lower() in kinds and not path.name.startswith(".")}

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for inside in self.paths:
            found.setdefault(PurePosixPath(inside).name, []).append(inside)
        return found

    def find(self, name: str) -> str | None:
        """The path below the folder of a table's image, or None.

        A bare name may lie anywhere, but once; of a path leading folders may be missing here, since
        tables begin with the name that a folder once had.

        Raises:
            InputError: If a bare name lies in several places.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if len(parts) == 1:
            places = self._by_name.get(parts[0], [])
            if len(places) > 1:
                raise InputError(f"{self.folder}: {parts[0]} is there {len(places)} times "
                                 f"({places[0]}, {places[1]}); remove all but one")
            return places[0] if places else None
        for start in range(len(parts) - 1):
            inside = "/".join(parts[start:])
            if inside in self.paths:
                return inside
        return None


def read_table(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV with a header.

    Raises:
        InputError: If the file cannot be read as such or holds no row.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))  # rows may be cut short
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not a table that can be read ({error})") from error
    if not rows:
        raise InputError(f"{table}: holds no row")
    return rows


def multi_hot(table: Path, row: Mapping[str, str], classes: Iterable[str],
              opening: Opening, blank: float = np.nan) -> tuple[float, ...]:
    """The labels of a row with a column a class: 1, 0, -1 (uncertain) or blank.

    Args:
        table: For messages.
        row: Cells by column.
        classes: Columns to read, in this order.
        opening: Its `uncertain` says what -1 becomes.
        blank: What an empty cell becomes; NaN = unknown.

    Raises:
        KeyError: If a column is missing.
        InputError: If a cell holds anything else.
    """
    labels = []
    for name in classes:
        text = (row[name] or "").strip()
        try:
            value = float(text) if text else blank
        except ValueError:
            value = np.inf
        if text and value not in (-1, 0, 1):
            raise InputError(f"{table}: {name} is {text!r} for one image; labels are 1, 0, -1 or "
                             "blank")
        labels.append(UNCERTAIN[opening.uncertain] if value == -1 else value)
    return tuple(labels)


def years(text: str | None) -> float:
    """An age in years: `"58"`, `"058Y"`, `"006M"`, `"012D"`; NaN where it is none or impossible."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([YMWD]?)\s*", text or "", re.IGNORECASE)
    if match is None:
        return float("nan")
    age = float(match[1]) / {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}[match[2].upper()]
    return age if age <= OLDEST else float("nan")


def sex_of(text: str | None) -> str:
    """`"F"`, `"M"` or, where it says neither, ""."""
    letter = (text or "").strip()[:1].upper()
    return letter if letter in ("F", "M") else ""


def part_of(
    table: Path, rows: Sequence[LabelRow], pictures: Pictures, opening: Opening,
) -> tuple[Part | None, Intake]:
    """The part that rows and pictures make, and what was left out.

    Args:
        table: For messages.
        rows: Of the table.
        pictures: Of the folder.
        opening: How.

    Returns:
        The part, images read when asked for, or None where no row has a readable picture; and the
        `Intake`, whose `images_without_row` is left to `finished`, since other tables may name
        them.

    Raises:
        InputError: If two rows name one image and disagree about its labels.
    """
    first: dict[str, LabelRow] = {}
    duplicates = []
    for row in rows:
        before = first.setdefault(row.image, row)
        if before is not row:
            duplicates.append(row.image)
            if not np.array_equal(before.labels, row.labels, equal_nan=True):
                raise InputError(f"{table}: has two rows for {row.image} with different labels; "
                                 "remove one")
    found = {name: pictures.find(name) for name in first}
    missing = tuple(name for name, inside in found.items() if inside is None)
    present = [(row, pictures.paths[inside]) for name, row in first.items()
               if (inside := found[name]) is not None]
    bad = faults([path for _, path in present], decode=decodes(opening.check, len(present)),
                 watch=lambda results: progress(results, f"Checking {table.name}", len(present)))
    usable = [pair for position, pair in enumerate(present) if position not in bad]
    intake = Intake(rows=len(rows), used=len(usable), rows_without_image=missing,
                    duplicates=tuple(dict.fromkeys(duplicates)), unreadable=tuple(bad.values()))
    if not usable:
        return None, intake
    rows_used = [row for row, _ in usable]
    about = {"view": np.array([row.view for row in rows_used]),
             "age": np.array([row.age for row in rows_used], np.float64),
             "sex": np.array([row.sex for row in rows_used])}
    known = {name: values for name, values in about.items()
             if (np.isfinite(values) if name == "age" else values != "").any()}
    return Part(ImageFiles([path for _, path in usable]),
                np.array([row.labels for row in rows_used], np.float32),
                np.array([row.image for row in rows_used]),
                np.array([row.patient for row in rows_used]), known), intake


def require_images(table: Path, part: Part | None, rows: Sequence[LabelRow],
                   intake: Intake) -> Part:
    """The part, which must not be empty.

    Raises:
        InputError: If no row has a picture that can be read.
    """
    if part is None:
        if intake.unreadable:
            raise InputError(f"{table}: none of its pictures can be read: {intake.unreadable[0]}")
        raise InputError(f"{table}: none of its {len(rows)} pictures is in the folder"
                         + (f", the first is {rows[0].image}" if rows else ""))
    return part


def finished(
    collection: Collection, intake: Intake, pictures: Pictures, named: Iterable[str],
    opening: Opening,
) -> Collection:
    """The collection with its intake complete: pictures that no row names are counted.

    Args:
        collection: Of all tables.
        intake: Of all tables, summed.
        pictures: Of the folder.
        named: Image names of all rows, those left out on purpose too.
        opening: How.

    Raises:
        InputError: With `opening.strict`, if anything is amiss.
    """
    known = {pictures.find(name) for name in set(named)}
    stray = tuple(inside for inside in pictures.paths if inside not in known)
    intake = replace(intake, files=len(pictures.paths), images_without_row=stray)
    if opening.strict:
        intake.require_none(collection.name)
    for line in intake.lines():
        logger.info("%s: %s", collection.name, line)
    return replace(collection, intake=intake)


def unknown_labels(names: Iterable[str], classes: Iterable[str]) -> dict[str, int]:
    """Labels that are no class, with how often each occurs, the most frequent first."""
    known = set(classes)
    return dict(Counter(name for name in names if name not in known).most_common())
