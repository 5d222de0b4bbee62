"""Published layouts of chest X-ray collections, each opened from a small copy."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.data.chexpert import CHEXPERT
from cxcompress.data.mapped_table import column_map
from cxcompress.data.medimaging import MEDIMAGING
from cxcompress.data.mimic_cxr_lt import MIMIC_LT
from cxcompress.data.nih_boxes import read_boxes
from cxcompress.data.nih_cxr_lt import NIH_LT
from cxcompress.data.splits import leaking_patients
from cxcompress.data.synthetic_cxr import CXR14
from cxcompress.errors import InputError

LAYOUTS = ("nih", "nih_lt", "mimic_lt", "chexpert", "padchest", "medimaging", "nih_sample",
           "nih_2020")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_opens_without_a_fault_and_without_leaks(layout, name):
    collection = open_collection(layout(name), strict=True)
    assert collection.task == "multilabel" and collection.patients_known
    assert collection.intake.faults() == {} and collection.credit
    assert not any(len(ids) for ids in leaking_patients(collection).values())
    assert sum(map(len, collection.parts.values())) == collection.intake.used
    for part in collection.parts.values():
        assert part.labels.shape == (len(part), len(collection.classes))
        assert part.images[0].shape == (20, 20)
        assert all(len(values) == len(part) for values in part.about.values())
        one = part.select(np.array([0]))
        assert {key: values[0] for key, values in part.about.items()} == {
            key: values[0] for key, values in one.about.items()} or np.isnan(
                part.about["age"][0])
    again = open_collection(collection.name)
    for key, part in collection.parts.items():
        np.testing.assert_array_equal(again.parts[key].image_id, part.image_id)


@pytest.mark.parametrize("name", ["nih", "nih_2020"])
def test_nih_labels_and_facts_follow_their_row(layout, nih_rows, name):
    collection = open_collection(layout(name))
    rows = {row[0]: row for row in nih_rows}
    assert collection.classes == CXR14
    assert set(collection.test.patient_id) == {"00000003", "00000013", "00000061"}
    assert len(collection.test) == 8 and len(collection.train) + len(collection.val) == 12
    for part in collection.parts.values():
        for row, image in enumerate(part.image_id):
            _, findings, _, patient, age, sex, view = rows[image]
            expected = set(findings.replace("_", " ").split("|")) - {"No Finding"}
            assert {CXR14[column] for column in np.flatnonzero(part.labels[row])} == expected
            assert part.patient_id[row] == f"{patient:08d}"
            assert (part.about["view"][row], part.about["sex"][row]) == (view, sex)
            years = float(age.strip("Y"))
            assert part.about["age"][row] == years or years > 120


def test_nih_boxes_are_in_pixels_of_the_original(layout):
    boxes = read_boxes(layout("nih") / "BBox_List_2017.csv")
    assert [box.finding for found in boxes.values() for box in found] == [
        "Atelectasis", "Atelectasis", "Infiltration", "Cardiomegaly"]
    box = boxes["00013118_008.png"][0]
    assert (box.x, box.height) == (225.084745762712, 79.1864406779661)
    half = box.scaled(0.5)
    assert (half.width, half.y) == (box.width / 2, box.y / 2)


@pytest.mark.parametrize("line", ["a.png,Mass,1,2,3", "a.png,Mass,900,2,300,5",
                                  "a.png,Mass,x,1,1,1"])
def test_a_box_that_is_none_is_refused(tmp_path, line):
    (tmp_path / "boxes.csv").write_text(f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{line}\n")
    with pytest.raises(InputError, match="line 2"):
        read_boxes(tmp_path / "boxes.csv")


def test_long_tailed_nih_keeps_order_parts_and_facts(layout, nih_rows, table):
    root = layout("nih_lt")
    collection = open_collection(root)
    assert collection.classes == NIH_LT and list(map(len, collection.parts.values())) == [8, 4, 8]
    row = list(collection.train.image_id).index("00000003_003.png")
    present = {NIH_LT[column] for column in np.flatnonzero(collection.train.labels[row])}
    assert present == {"Hernia", "Infiltration"} and collection.train.patient_id[row] == "00000003"
    assert collection.train.about == {}
    table(root / "Data_Entry_2017.csv",
          ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender",
           "View Position"), [(*row[:2], *row[3:]) for row in nih_rows])
    with_facts = open_collection(root).train
    assert with_facts.about["view"][row] == "PA" and with_facts.about["age"][row] == 76


def test_long_tailed_mimic_takes_patients_from_paths(layout):
    root = layout("mimic_lt")
    collection = open_collection(root)
    assert collection.classes == MIMIC_LT
    assert collection.train.patient_id.tolist() == ["10000032", "10000033"]
    # The leading folder of the tables' paths need not be there.
    (root / "files" / "p10").rename(root / "p10")
    assert len(open_collection(root, strict=True).train) == 2


@pytest.mark.parametrize(("policy", "value"), [("ignore", np.nan), ("zeros", 0), ("ones", 1)])
def test_chexpert_uncertain_labels_follow_the_policy(layout, policy, value):
    collection = open_collection(layout("chexpert"), uncertain=policy)
    assert collection.classes == CHEXPERT and collection.val is None
    np.testing.assert_array_equal(collection.train.labels[0, :4], [1, 0, value, 0])
    assert collection.train.patient_id.tolist() == ["patient00001", "patient00002", "patient00003"]
    assert set(collection.train.about["view"]) == {"AP"}
    assert collection.intake.left_out == {"lateral radiographs": 6}


def test_chexpert_with_a_test_table_has_three_parts(layout):
    collection = open_collection(layout("chexpert", tables=("train", "valid", "test")))
    assert [len(part) for part in collection.parts.values()] == [3, 3, 3]


def test_padchest_by_its_known_columns(layout):
    collection = open_collection(layout("padchest"))
    assert collection.classes == ("aortic elongation", "cardiomegaly", "pleural effusion",
                                  "pneumonia")
    assert collection.train.images[0].dtype == np.uint16
    ages = np.concatenate([part.about["age"] for part in collection.parts.values()])
    assert sorted(ages) == [2014 - 1930 - patient for patient in range(11, -1, -1)]
    assert sum(part.labels[:, 1].sum() for part in collection.parts.values()) == 6


def test_a_table_with_rows_cut_short_and_endless_years_is_read(layout):
    folder = layout("padchest")
    path, = folder.glob("*.csv")
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("1930.0", "inf")
    path.write_text("\n".join([*lines, "13", ""]))
    collection = open_collection(folder)
    ages = np.concatenate([part.about["age"] for part in collection.parts.values()])
    assert np.isnan(ages).sum() == 1 and len(ages) == 12
    assert len(collection.intake.rows_without_image) == 1


def test_any_table_by_its_columns(tmp_path, picture, table):
    rows = [(f"x{number}.png", f"p{number // 2}", number % 2, "", -1, "valid" if number < 2 else
             "train") for number in range(6)]
    for number in range(6):
        picture(tmp_path / "pictures" / f"x{number}.png", number)
    table(tmp_path / "ward7.csv", ("file", "person", "Mass", "Nodule", "Edema", "set"), rows)
    mapping = "image=file,patient=person,labels=Edema|Mass|Nodule,split=set"
    collection = open_collection(tmp_path, columns=column_map(mapping), uncertain="ones")
    assert collection.classes == ("Edema", "Mass", "Nodule") and collection.test is None
    np.testing.assert_array_equal(collection.val.labels, [[1, 0, np.nan], [1, 1, np.nan]])
    # The same mapping in the folder.
    (tmp_path / "columns.json").write_text(
        '{"image": "file", "patient": "person", "labels": ["Edema", "Mass"], "split": "set"}')
    assert open_collection(tmp_path).classes == ("Edema", "Mass")


@pytest.mark.parametrize("mapping", ["image=file", "file", "image=a,labels=b,colour=c"])
def test_a_mapping_that_says_too_little_is_refused(mapping):
    with pytest.raises(InputError, match="--columns"):
        column_map(mapping)


def test_medimaging_masks_what_one_set_was_not_read_for(layout, nih_rows):
    collection = open_collection(layout("medimaging"))
    assert collection.classes == MEDIMAGING
    labels = {image: row for part in collection.parts.values()
              for image, row in zip(part.image_id, part.labels, strict=True)}
    heart = MEDIMAGING.index("Cardiomegaly")
    for number, row in enumerate(nih_rows):
        found = labels[row[0]]
        assert found[heart] == ("Cardiomegaly" in row[1])
        assert np.isnan(np.delete(found, heart)).all() == (number >= 14)
