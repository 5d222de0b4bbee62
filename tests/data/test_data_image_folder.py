"""Image folders: labels follow the folders, images come from their own files, faults are named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from cxcompress.data import open_collection, with_validation
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing


def write(path, grey, mode="L", size=(5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).convert(mode).save(path)


def build(root, parts=("train", "test"), classes=("covid", "normal"), n=3, name="x{row}.png"):
    for part in parts:
        for label, kind in enumerate(classes):
            for row in range(n):
                write(root / part / kind / name.format(row=row), 100 * label + row)
    return root


def test_labels_follow_the_folders(tmp_path):
    collection = open_collection(build(tmp_path))
    assert collection.task == "multiclass" and collection.classes == ("covid", "normal")
    assert collection.val is None and len(collection.train) == 6
    for image, label in zip(collection.train.images, collection.train.labels, strict=True):
        assert image[0, 0] // 100 == label.argmax()
    assert collection.train.image_id[0] == "train/covid/x0.png"
    assert not collection.patients_known
    np.testing.assert_array_equal(collection.train.patient_id, collection.train.image_id)


def test_the_order_of_classes_can_be_given(tmp_path):
    collection = open_collection(build(tmp_path)).in_class_order(("normal", "covid"))
    for image, label in zip(collection.train.images, collection.train.labels, strict=True):
        assert image[0, 0] // 100 == 1 - label.argmax()
    with pytest.raises(InputError, match="has the classes covid,normal, not normal,flu"):
        open_collection(tmp_path).in_class_order(("normal", "flu"))


def test_part_names_in_other_spellings(tmp_path):
    collection = open_collection(build(tmp_path, parts=("Train", "validation", "TEST")))
    assert len(collection.train) == len(collection.val) == len(collection.test) == 6


def test_mixed_sizes_and_modes_are_said_and_evened_out(tmp_path, caplog):
    build(tmp_path)
    write(tmp_path / "train" / "covid" / "odd.jpg", 7, "RGB", (9, 9))
    (tmp_path / "train" / "covid" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".cache").mkdir()
    with caplog.at_level(logging.INFO):
        collection = open_collection(tmp_path)
    assert "13 images of 2 sizes and 2 colour modes" in caplog.text
    assert Preprocessing.preset("0-1", 8, 3).batch(collection.train.images).shape == (7, 8, 8, 3)


def test_nih_file_names_bring_patients(tmp_path):
    build(tmp_path, parts=("train",), name="0000001{row}_005.png")
    write(tmp_path / "train" / "covid" / "00000010_006.png", 5)
    collection = open_collection(tmp_path)
    assert collection.patients_known
    assert set(collection.train.patient_id) == {"00000010", "00000011", "00000012"}
    split = with_validation(collection)
    assert not set(split.train.patient_id) & set(split.val.patient_id)


def test_one_other_name_makes_patients_unknown(tmp_path):
    build(tmp_path, name="0000001{row}_005.png")
    write(tmp_path / "train" / "covid" / "another.png", 5)
    assert not open_collection(tmp_path).patients_known


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        open_collection(path)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_faults_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "neither a train nor a test folder")
    refused(tmp_path / "missing", "no such file or folder")
    refused(build(tmp_path / "one", classes=("normal",)), "1 class folder", "normal")
    build(tmp_path / "uneven")
    write(tmp_path / "uneven" / "test" / "flu" / "a.png", 1)
    refused(tmp_path / "uneven", "'flu'", "train", "test")
    build(tmp_path / "hollow")
    for file in (tmp_path / "hollow" / "test" / "normal").iterdir():
        file.unlink()
    refused(tmp_path / "hollow", "normal", "no image")


def damaged(root):
    """A foreign file, and one that is cut behind its header."""
    build(root)
    (root / "train" / "covid" / "bad.png").write_bytes(b"none")
    path = root / "train" / "covid" / "x0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    return root


@pytest.mark.parametrize("check", ["pixels", "headers", "auto"])
def test_damaged_images_are_skipped_and_counted(tmp_path, check, caplog):
    collection = open_collection(damaged(tmp_path), check=check)
    assert len(collection.train) == 5 and len(collection.test) == 6
    assert "train/covid/x0.png" not in collection.train.image_id
    assert (collection.intake.files, collection.intake.used) == (13, 11)
    assert "2 of 13 images cannot be read and are skipped; the first: " in caplog.text
    assert "bad.png" in caplog.text and "not an image" in caplog.text
    for image, label in zip(collection.train.images, collection.train.labels, strict=True):
        assert image[0, 0] // 100 == label.argmax()


def test_strict_refuses_damaged_images(tmp_path):
    with pytest.raises(InputError, match=r"2 unreadable images; the first: .*bad\.png"):
        open_collection(damaged(tmp_path), strict=True)


def test_a_class_without_a_readable_image_is_refused(tmp_path):
    build(tmp_path)
    for file in (tmp_path / "test" / "normal").iterdir():
        file.write_bytes(b"none")
    refused(tmp_path, "test/normal: none of its images can be read", "x0.png")
    build(tmp_path / "flat", parts=("one",), n=2)
    refused_folder = tmp_path / "flat" / "one" / "covid"
    for file in refused_folder.iterdir():
        file.write_bytes(b"none")
    refused(refused_folder, "none of its images can be read")


def test_real_folder(shared_data):
    collection = open_collection(shared_data / "covid_cxr_200px")
    assert collection.classes == ("covid", "normal")
    assert (len(collection.train), len(collection.test)) == (178, 46)
    batch = Preprocessing.preset("0-1", 200, 3).batch(collection.test.images)
    assert batch.shape == (46, 200, 200, 3) and 0.2 < batch.mean() < 0.8
