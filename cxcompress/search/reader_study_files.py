"""The files of a reader study: pictures without names, a sheet a reader, a key, and the answers.

    write_study(folder, pictures, key_rows, raters=6, seed=0)
    table = read_answers([Path("rater1.csv"), …], key_path, QUESTIONS)

Sheets are annotation files of the VGG Image Annotator (VIA 2: `filename, file_size,
file_attributes, region_count, region_id, region_shape_attributes, region_attributes`), which opens
them together with `via_attributes.json`. `file_attributes` is JSON: an answer a question.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.errors import InputError
from cxcompress.evaluation.reader_study import Ratings
from cxcompress.runs import to_csv, write_atomic

QUESTIONS = {"agreement": "Do you fully agree with the labels?",
             "quality": "Image quality (1 worst to 5 best)",
             "difficulty": "Difficulty of the diagnosis (1 easiest to 5 hardest)"}
LEVELS = {"agreement": "nominal", "quality": "ordinal", "difficulty": "ordinal"}
VIA_COLUMNS = ("filename", "file_size", "file_attributes", "region_count", "region_id",
               "region_shape_attributes", "region_attributes")
_YES_NO = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0, "y": 1.0, "n": 0.0, "1": 1.0,
           "0": 0.0}


def via_sheet(names: Sequence[str], sizes: Mapping[str, int], labels: Mapping[str, str]) -> str:
    """A VIA annotation file with empty answers, in the order of `names`."""
    return to_csv([
        {"filename": name, "file_size": sizes[name],
         "file_attributes": json.dumps({"labels": labels[name]} | dict.fromkeys(QUESTIONS, "")),
         "region_count": 0, "region_id": 0, "region_shape_attributes": "{}",
         "region_attributes": "{}"} for name in names])


def via_attributes() -> str:
    """The questions as VIA's attribute definitions (Attributes → Import)."""
    scale = {str(value): "" for value in range(1, 6)}
    options = {"agreement": {"yes": "", "no": ""}, "quality": scale, "difficulty": scale}
    return json.dumps({"region": {}, "file": {
        "labels": {"type": "text", "description": "labels of the image", "default_value": ""}} | {
        name: {"type": "radio", "description": text, "options": options[name],
               "default_options": {}} for name, text in QUESTIONS.items()}}, indent=2) + "\n"


def write_study(
    folder: Path, pictures: Mapping[str, bytes], labels: Mapping[str, str],
    key: Sequence[Mapping[str, Any]], raters: int, seed: int,
) -> None:
    """Write pictures, sheets and key.

    Args:
        folder: `images/`, `rater01.csv` …, `via_attributes.json` and `key.csv` go here.
        pictures: PNG bytes by file name.
        labels: By file name: the labels that readers judge.
        key: Rows with `filename`, `image_id` and `group`; for the analysis alone.
        raters: Sheets; the order of images is drawn for each.
        seed: Of those orders.
    """
    for name, data in pictures.items():
        write_atomic(folder / "images" / name, data)
    sizes = {name: len(data) for name, data in pictures.items()}
    names = np.array(sorted(pictures))
    for rater in range(1, raters + 1):
        order = np.random.default_rng((seed, 6, rater)).permutation(names)
        write_atomic(folder / f"rater{rater:02d}.csv",
                     via_sheet([str(name) for name in order], sizes, labels))
    write_atomic(folder / "via_attributes.json", via_attributes())
    write_atomic(folder / "key.csv", to_csv(list(key)))


@dataclass(frozen=True)
class Answers:
    """Answers of several readers.

    Args:
        ratings: By question.
        images: File names, in the order of `Ratings.image`.
        raters: Names, in the order of `Ratings.rater`.
        missing: By question: answers left empty.
    """

    ratings: Mapping[str, Ratings]
    images: tuple[str, ...]
    raters: tuple[str, ...]
    missing: Mapping[str, int]


def read_key(path: Path) -> dict[str, bool]:
    """By file name: whether the image is an exemplar.

    Raises:
        InputError: If the file is no key.
    """
    groups = {}
    for number, row in enumerate(_rows(path, ("filename", "group")), start=2):
        if row["group"] not in ("exemplar", "control"):
            raise InputError(f"{path}, line {number}: group is {row['group']!r}; it must be "
                             "exemplar or control")
        if row["filename"] in groups:
            raise InputError(f"{path}, line {number}: {row['filename']} comes twice")
        groups[row["filename"]] = row["group"] == "exemplar"
    if len(set(groups.values())) < 2:
        raise InputError(f"{path}: holds {len(groups)} images of one group; exemplars and "
                         "controls are needed")
    return groups


def read_answers(
    paths: Sequence[Path], key_path: Path, attributes: Mapping[str, str]
) -> Answers:
    """Read the sheets of all readers.

    Args:
        paths: A sheet a reader; its name is the reader's.
        key_path: Which image is an exemplar. Images of a sheet that the key lacks are an error;
            a reader may have seen only some.
        attributes: By question: its name in `file_attributes`.

    Raises:
        InputError: If a file, an image or an answer cannot be used; the message names it.
    """
    groups = read_key(key_path)
    images = tuple(sorted(groups))
    place = {name: row for row, name in enumerate(images)}
    raters = tuple(path.stem for path in paths)
    if len(set(raters)) < len(raters):
        raise InputError(f"--answers: two sheets are called "
                         f"{next(name for name in raters if raters.count(name) > 1)}; rename one")
    found: dict[str, list[tuple[int, int, bool, float]]] = {name: [] for name in attributes}
    missing = dict.fromkeys(attributes, 0)
    for rater, path in enumerate(paths):
        seen = set()
        for number, row in enumerate(_rows(path, ("filename", "file_attributes")), start=2):
            name = row["filename"]
            if name not in place:
                raise InputError(f"{path}, line {number}: {name} is not in {key_path}")
            if name in seen:
                raise InputError(f"{path}, line {number}: {name} comes twice; keep one row an "
                                 "image")
            seen.add(name)
            try:
                given = json.loads(row["file_attributes"])
                answers = {question: given.get(attribute, "")
                           for question, attribute in attributes.items()}
            except (ValueError, AttributeError) as error:
                raise InputError(f"{path}, line {number}: file_attributes is not a JSON object: "
                                 f"{row['file_attributes'][:60]!r}") from error
            for question, answer in answers.items():
                value = _value(question, answer, f"{path}, line {number}")
                if value is None:
                    missing[question] += 1
                else:
                    found[question].append((place[name], rater, groups[name], value))
    ratings = {}
    for question, rows in found.items():
        ours = sum(row[2] for row in rows)
        if not ours or ours == len(rows):
            raise InputError(f"{attributes[question]}: {ours} answers about exemplars and "
                             f"{len(rows) - ours} about controls in {len(paths)} sheets; both are "
                             "needed (give --questions if the attribute has another name)")
        image, rater, exemplar, value = zip(*rows, strict=True)
        ratings[question] = Ratings(np.array(image), np.array(rater), np.array(exemplar),
                                    np.array(value, float))
    return Answers(ratings, images, raters, missing)


def _value(question: str, answer: Any, where: str) -> float | None:
    """A number, or None for an empty answer."""
    if isinstance(answer, Mapping):  # VIA's check boxes: {"yes": true}
        ticked = [name for name, on in answer.items() if on]
        answer = ticked[0] if len(ticked) == 1 else "" if not ticked else ",".join(ticked)
    if isinstance(answer, bool):
        answer = "yes" if answer else "no"
    text = str(answer).strip().lower()
    if text in ("", "none", "null"):
        return None
    if question == "agreement":
        if text not in _YES_NO:
            raise InputError(f"{where}: {question} is {answer!r}; it must be yes or no")
        return _YES_NO[text]
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 1 <= value <= 5:
        raise InputError(f"{where}: {question} is {answer!r}; it must be 1 to 5")
    return value


def _rows(path: Path, wanted: Sequence[str]) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [name.strip().lstrip("#") for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file that can be read ({error})") from error
    lacking = [name for name in wanted if name not in columns]
    if lacking or not rows:
        raise InputError(f"{path}: " + (f"has no column {lacking[0]}; it has "
                         f"{', '.join(columns) or 'none'}" if lacking else "holds no row"))
    for number, row in enumerate(rows, start=2):
        if any(row[name] is None for name in wanted):
            raise InputError(f"{path}, line {number}: has fewer cells than the header")
    return rows
