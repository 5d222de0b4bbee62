"""`collection.py`: look at a collection before anything is trained or judged on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxcompress.commands.command_line import parser, run
from cxcompress.commands.data_flags import add_data_flags, data_options
from cxcompress.errors import InputError
from cxcompress.reporting.tables import text_table
from cxcompress.runs import RunFolder

EXAMPLE = "cxcompress collection --data_path ChestX-ray14 --strict"
SHOWN_TOGETHER = 10


def build_parser() -> argparse.ArgumentParser:
    """The flags of `collection.py`."""
    parse = parser("collection.py", "Open a collection, check it, and print its parts, class "
                   "counts and which classes occur together.", EXAMPLE)
    parse.add_argument("--data_path", required=True, help="as for compress.py and train.py")
    parse.add_argument("--count", type=int, help="images to generate, for synthetic:…")
    add_data_flags(parse)
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run(build_parser(), lambda arguments: print(describe(arguments)), argv)


def describe(arguments: argparse.Namespace) -> str:
    """Open and check the collection, write the run folder, return what to print.

    Raises:
        InputError: If the collection cannot be opened, has no image-level labels, or (strict)
            anything is amiss.
    """
    from cxcompress.data import open_collection
    from cxcompress.data.label_counts import co_occurrence, co_occurrence_rows

    described = {name: value for name, value in vars(arguments).items()
                 if name not in ("output_path", "overwrite")}
    folder_name = arguments.data_path.strip("/").replace("/", "_").replace(":", "_")
    path = Path(arguments.output_path) / "collection" / folder_name
    with RunFolder.open(path, described, overwrite=arguments.overwrite) as folder:
        collection = open_collection(arguments.data_path, count=arguments.count,
                                     seed=arguments.seed, **data_options(arguments))
        if collection.task not in ("multilabel", "multiclass"):
            raise InputError(f"--data_path {arguments.data_path}: holds {collection.task} labels; "
                             "class counts need one label row an image")
        parts = [part_row(name, part) for name, part in collection.parts.items()]
        counts = count_rows(collection)
        together = sum(co_occurrence(part) for part in collection.parts.values())
        folder.write_csv("class_counts.csv", counts)
        folder.write_csv("co_occurrence.csv", co_occurrence_rows(collection.classes, together))
        faults = collection.intake.faults() if collection.intake else {}
        folder.write_csv("mismatches.csv", [{"kind": kind, "name": name}
                                            for kind, names in faults.items() for name in names]
                         or [{"kind": "none", "name": ""}])
        boxes = _boxes(Path(arguments.data_path), collection)
        folder.write_json("results.json", folder.record | {
            "state": "done", "parts": parts, "classes": counts,
            "intake": collection.intake, "faults": faults, "boxes": boxes,
            "synthetic": collection.synthetic, "credit": collection.credit})
        if collection.task == "multilabel":
            _draw(path, collection.classes, together)
    lines = [f"{collection.title}: {collection.task}, {len(collection.classes)} classes"
             + (", generated images" if collection.synthetic else "")]
    lines += [f"{kind}: {len(names)}" for kind, names in faults.items()]
    if collection.task == "multilabel":
        lines.append("patients in two parts: none" if collection.patients_known
                     else "patients unknown: nothing can be said about leakage")
    lines += ["", text_table(parts, right=tuple(parts[0])[1:]), "",
              text_table([{key: str(value) for key, value in row.items()} for row in counts],
                         right=tuple(counts[0])[1:])]
    if collection.task == "multilabel":
        grid = grid_rows(collection.classes, together)
        lines += ["", "images with both classes", text_table(grid, right=tuple(grid[0])[1:]), "",
                  "most often together", text_table(pair_rows(collection.classes, together),
                                                    right=("images", "Jaccard index"))]
    if boxes:
        lines += ["", f"bounding boxes: {boxes['boxes']} on {boxes['images']} images, of which "
                  f"{boxes['present']} are here"]
    return "\n".join([*lines, "", f"tables, mismatches and figure  {path}"])


def part_row(name: str, part) -> dict[str, str]:
    """A part's images and patients, and what is known of them."""
    row = {"part": name, "images": str(len(part)),
           "patients": str(len(np.unique(part.patient_id)))}
    for fact in ("view", "sex"):
        values = part.about.get(fact)
        known = [] if values is None else values[values != ""]
        names, counts = np.unique(known, return_counts=True)
        row[fact] = ", ".join(f"{one} {count}" for one, count in
                              zip(names, counts, strict=True)) or "unknown"
    ages = part.about.get("age")
    known = np.array([]) if ages is None else ages[np.isfinite(ages)]
    row["age, median (range)"] = (f"{np.median(known):.0f} ({known.min():.0f} to "
                                  f"{known.max():.0f})" if len(known) else "unknown")
    return row


def count_rows(collection) -> list[dict[str, Any]]:
    """Positives of each class in each part; known labels where some are unknown."""
    from cxcompress.data.label_counts import class_counts

    full = {f"{name} known": len(part) for name, part in collection.parts.items()}
    rows = class_counts(collection)
    complete = {key for key, count in full.items() if all(row[key] == count for row in rows)}
    return [{key: value for key, value in row.items() if key not in complete} for row in rows]


def grid_rows(classes: Sequence[str], together) -> list[dict[str, str]]:
    """Co-occurrence, its columns numbered as its rows are; the diagonal counts each class."""
    return [{"class": f"{row + 1} {name}"}
            | {str(column + 1): str(int(count)) for column, count in enumerate(together[row])}
            for row, name in enumerate(classes)]


def pair_rows(classes: Sequence[str], together) -> list[dict[str, str]]:
    """The pairs of classes that occur together most often."""
    from cxcompress.data.label_counts import jaccard

    overlap = jaccard(together)
    pairs = [(int(together[a, b]), classes[a], classes[b], overlap[a, b])
             for a in range(len(classes)) for b in range(a)]
    pairs.sort(key=lambda pair: -pair[0])
    return [{"classes": f"{one}, {other}", "images": str(count),
             "Jaccard index": "–" if np.isnan(share) else f"{share:.3f}"}
            for count, one, other, share in pairs[:SHOWN_TOGETHER]]


def _boxes(path: Path, collection) -> dict[str, int] | None:
    from cxcompress.data.nih_boxes import TABLE_NAME, read_boxes

    if not (path / TABLE_NAME).is_file():
        return None
    boxes = read_boxes(path / TABLE_NAME)
    here = np.concatenate([part.image_id for part in collection.parts.values()])
    return {"boxes": sum(map(len, boxes.values())), "images": len(boxes),
            "present": len(set(boxes) & set(here))}


def _draw(path: Path, classes, together) -> None:
    try:
        from cxcompress.reporting.cxr_figures import co_occurrence
    except ImportError:
        return
    co_occurrence(path / "co_occurrence", classes, together)
