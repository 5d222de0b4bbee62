"""`collection.py`: what a user sees of a collection before training on it."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from cxcompress.commands.collection import main
from cxcompress.data.collection import Part
from cxcompress.data.label_counts import co_occurrence, jaccard


@pytest.fixture
def ward(tmp_path):
    """A mapped collection: 24 images of 12 patients, Mass and Edema often together."""
    root = tmp_path / "ward"
    (root / "pictures").mkdir(parents=True)
    lines = ["image,patient,labels,view,sex,age"]
    for number in range(24):
        name = f"x{number:02d}.png"
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(root / "pictures" / name)
        findings = ("Mass|Edema", "Mass", "Hernia", "")[number % 4]
        lines.append(f"{name},p{number // 2},{findings},PA,{'FM'[number % 2]},{40 + number}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return root


COLUMNS = "image=image,patient=patient,labels=labels,view=view,sex=sex,age=age"


def test_counts_and_pairs_are_printed_and_written(ward, tmp_path, capsys):
    argv = ["--data_path", str(ward), "--columns", COLUMNS, "--output_path", str(tmp_path / "out")]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "patients in two parts: none" in said and "Mass, Edema" in said
    folder = next((tmp_path / "out" / "collection").iterdir())
    counts = {row["class"]: row for row in csv.DictReader((folder / "class_counts.csv").open())}
    assert sum(int(counts["Mass"][f"{part} positives"]) for part in ("train", "val", "test")) == 12
    together = list(csv.DictReader((folder / "co_occurrence.csv").open()))
    assert {row["class"]: row["Edema"] for row in together} == {
        "Edema": "6", "Hernia": "0", "Mass": "6"}
    assert (folder / "co_occurrence.png").exists() and (folder / "co_occurrence.svg").exists()


def test_mismatches_are_listed_and_strict_refuses_them(ward, tmp_path, capsys):
    (ward / "pictures" / "x03.png").unlink()
    argv = ["--data_path", str(ward), "--columns", COLUMNS, "--output_path", str(tmp_path / "out")]
    assert main([*argv, "--strict"]) == 2
    assert "1 rows without an image; the first: x03.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out" / "collection").iterdir())
    assert main(argv) == 0
    folder = next((tmp_path / "out" / "collection").iterdir())
    assert "rows without an image,x03.png" in (folder / "mismatches.csv").read_text()


def test_jaccard_counts_each_class_once():
    labels = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 0, np.nan]], np.float32)
    ids = np.array(list("abcd"))
    together = co_occurrence(Part(np.zeros((4, 2, 2, 1), np.uint8), labels, ids, ids))
    np.testing.assert_array_equal(together, [[3, 2, 3], [2, 2, 2], [3, 2, 3]])
    assert jaccard(together)[0, 1] == 2 / 3      # column sums would give 2 / 12
