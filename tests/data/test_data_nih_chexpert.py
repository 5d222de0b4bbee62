"""NIH ChestX-ray14, NIH-CXR-LT and CheXpert folders, as downloaded or in part."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from cxcompress.data import open_collection
from cxcompress.data.chexpert import CHEXPERT
from cxcompress.data.synthetic_cxr import CXR14
from cxcompress.errors import InputError


def table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def picture(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), grey).save(path)


def nih(root, lists=True):
    rows = []
    for patient in range(1, 11):
        for visit in range(2):
            name = f"{patient:08d}_{visit:03d}.png"
            labels = "No Finding" if patient % 2 else "Pleural_Thickening|Hernia"
            rows.append((name, labels, visit, patient, "050Y"))
            if patient != 10:
                picture(root / f"images_{patient:03d}" / "images" / name, patient)
    table(root / "Data_Entry_2017.csv",
          ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"), rows)
    if lists:
        (root / "test_list.txt").write_text("\n".join(row[0] for row in rows if row[3] <= 2))
    return root


def test_nih_with_its_test_list(tmp_path):
    collection = open_collection(nih(tmp_path))
    assert collection.task == "multilabel" and collection.classes == CXR14
    assert len(collection.train) == 14 and len(collection.test) == 4     # patient 10 has no files
    assert set(collection.test.patient_id) == {"00000001", "00000002"}
    for part in (collection.train, collection.test):
        for image, label, patient in zip(part.images, part.labels, part.patient_id, strict=True):
            assert image[0, 0] == int(patient)
            expected = {"Pleural Thickening", "Hernia"} if int(patient) % 2 == 0 else set()
            assert {CXR14[row] for row in np.flatnonzero(label)} == expected


def test_nih_without_lists_splits_by_patient(tmp_path):
    collection = open_collection(nih(tmp_path, lists=False))
    assert not set(collection.train.patient_id) & set(collection.test.patient_id)
    assert len(collection.train) + len(collection.test) == 18
    again = open_collection(tmp_path)
    np.testing.assert_array_equal(again.test.image_id, collection.test.image_id)


def test_nih_long_tailed(tmp_path):
    for number, part in enumerate(("train", "val", "test")):
        name = f"0000000{number}_000.png"
        picture(tmp_path / "images" / name, number)
        table(tmp_path / f"miccai2023_nih-cxr-lt_labels_{part}.csv",
              ("id", "No Finding", "Hernia", "Pneumomediastinum", "subj_id"),
              [(name, number == 0 and 1 or 0, 1, 0, number)])
    collection = open_collection(tmp_path)
    assert collection.classes == ("No Finding", "Hernia", "Pneumomediastinum")
    np.testing.assert_array_equal(collection.train.labels, [[1, 1, 0]])
    np.testing.assert_array_equal(collection.test.labels, [[0, 1, 0]])
    assert collection.val.patient_id.tolist() == ["00000001"]


def chexpert(root, tables=("train", "valid")):
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT)
    for part in tables:
        rows = []
        for patient in range(3):
            for view, kind in ((1, "Frontal"), (2, "Lateral")):
                inside = f"{part}/patient0000{patient}/study1/view{view}_{kind.lower()}.jpg"
                picture(root / inside, 10)
                rows.append((f"CheXpert-v1.0-small/{inside}", "Male", 60, kind, "AP",
                             "1.0", "", "-1.0", "0.0", *[""] * 10))
        table(root / f"{part}.csv", header, rows)
    return root


def test_chexpert_labels_and_parts(tmp_path):
    collection = open_collection(chexpert(tmp_path / "renamed"))
    assert collection.classes == CHEXPERT and collection.val is None
    assert len(collection.train) == len(collection.test) == 3
    np.testing.assert_array_equal(collection.train.labels[0, :5], [1, 0, np.nan, 0, 0])
    assert collection.train.patient_id.tolist() == [f"patient0000{row}" for row in range(3)]
    assert collection.train.images[0].shape == (4, 4)
    with_test = open_collection(chexpert(tmp_path / "all", ("train", "valid", "test")))
    assert len(with_test.val) == len(with_test.test) == 3


def test_faults_are_named(tmp_path):
    for root, name in ((nih(tmp_path / "nih"), "Data_Entry_2017.csv"),
                       (chexpert(tmp_path / "chexpert"), "train.csv")):
        content = (root / name).read_text()
        for broken in ("", "a,b\n1,2\n", content.replace(".png", ".gif").replace(".jpg", ".gif")):
            (root / name).write_text(broken)
            with pytest.raises(InputError, match=name):
                open_collection(root)
