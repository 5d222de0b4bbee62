"""`split_train_val.py` and `preprocessing.py`, as their users call them."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from cxcompress.commands.preprocessing import main as preprocessing
from cxcompress.commands.split_train_val import main as split_train_val
from cxcompress.data import field_folders, open_collection
from cxcompress.data.density_maps import density_maps
from cxcompress.data.shidc import read_cells
from cxcompress.data.synthetic_ki67 import write_fields


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_fields(tmp_path_factory.mktemp("shidc") / "SHIDC_B_Ki-67", 42, size=96, seed=2,
                        fields_per_patient=3)


def test_a_split_by_patient_shares_none_and_holds_a_fifth(folder, tmp_path, capsys):
    target = tmp_path / "split"
    assert split_train_val(["--inputPath", str(folder), "--outputPath", str(target)]) == 0
    assert "patients" in capsys.readouterr().out
    whole, split = open_collection(folder), open_collection(target)
    assert set(split.train.patient_id).isdisjoint(split.val.patient_id)
    names = {name.split("/")[1] for part in (split.train, split.val) for name in part.image_id}
    assert names == {name.split("/")[1] for name in whole.train.image_id}
    assert 0.1 <= len(split.val) / len(whole.train) <= 0.3
    assert len(split.test) == len(whole.test) and split.synthetic
    assert json.loads((target / "split.json").read_text())["by"] == "patient"
    again = tmp_path / "again"
    assert split_train_val(["--inputPath", str(folder), "--outputPath", str(again)]) == 0
    assert sorted(os.listdir(again / "Val")) == sorted(os.listdir(target / "Val"))


def test_a_split_by_image_says_that_patients_leak(folder, tmp_path, capsys):
    target = tmp_path / "split"
    argv = ["--inputPath", str(folder), "--outputPath", str(target), "--by", "image"]
    assert split_train_val(argv) == 0
    assert "in both Train and Val" in capsys.readouterr().out
    before = {file.name for file in (target / "Val").iterdir()}
    assert split_train_val(argv) == 2
    assert "exists" in capsys.readouterr().err
    assert split_train_val([*argv, "--overwrite"]) == 0
    assert {file.name for file in (target / "Val").iterdir()} == before


def test_prepared_fields_are_the_collection_at_another_size(folder, tmp_path, capsys):
    target = tmp_path / "ready"
    argv = ["-i", str(folder), "-o", str(target), "-s", "64,64,3", "-a", "True", "-g", "7"]
    assert preprocessing(argv) == 0
    assert "fields a second" in capsys.readouterr().out
    whole, ready = open_collection(folder), open_collection(target)
    assert len(ready.train) == 6 * len(whole.train) and len(ready.test) == len(whole.test)
    assert set(ready.train.patient_id) == set(whole.train.patient_id)
    assert ready.microns_per_pixel == pytest.approx(whole.microns_per_pixel * 96 / 64)
    six = [ready.train.images[row] for row in range(6)]
    assert len({image.tobytes() for image in six}) == 6 and six[0].shape == (64, 64, 3)
    np.testing.assert_array_equal(six[1], six[0][::-1])
    for name in ("Train", "Test"):
        for file in list((target / name).glob("*.npz"))[:8]:
            with np.load(file) as arrays:
                np.testing.assert_array_equal(arrays["density"], density_maps(
                    read_cells(file.with_suffix(".json")), (64, 64), kernel=7))


def test_an_interrupted_preparation_goes_on_where_it_stopped(folder, tmp_path, monkeypatch):
    argv = ["-i", str(folder), "-o", str(tmp_path / "ready"), "-s", "64,64,1", "--maps", "none"]
    write, written = field_folders._write_field, []

    def interrupted(output, *arguments):
        written.append(output.name)
        if len(written) == 10:
            raise KeyboardInterrupt
        write(output, *arguments)

    monkeypatch.setattr(field_folders, "_write_field", interrupted)
    assert preprocessing(argv) == 130
    assert preprocessing(argv) == 0
    assert len(written) == len(set(written)) + 1 == 42 + 1
    assert open_collection(tmp_path / "ready").train.images[0].shape == (64, 64)


def cells_file(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("text, said", [
    ("", "empty"), ("[{", "not a list"), ('{"x": 1}', "not a list"),
    ('[{"x": 1, "y": 1, "label_id": 4}]', "label_id 4"),
    ('[{"x": 1, "y": 1, "label_id": 0}]', "label_id 0"),
    ('[{"x": 99, "y": 1, "label_id": 1}]', "x 99, y 1 lies outside"),
    ('[{"x": -1, "y": 1, "label_id": 1}]', "outside"),
    ('[{"x": Infinity, "y": 1, "label_id": 1}]', "not a list"),
    ("[" * 100_000, "not a list")])
def test_faulty_annotations_are_one_line_that_names_them(tmp_path, capsys, text, said):
    source = tmp_path / "in"
    (source / "Train").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (32, 32)).save(source / "Train" / f"p{number}_1.png")
        cells_file(source / "Train" / f"p{number}_1.json", "[]")
    bad = cells_file(source / "Train" / "p1_1.json", text)
    for command, flags in ((split_train_val, ("--inputPath", "--outputPath")),
                           (preprocessing, ("-i", "-o"))):
        assert command([flags[0], str(source), flags[1], str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert str(bad) in error and said in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_layouts_that_are_none_are_named(tmp_path, capsys):
    def refused(command, *argv):
        assert command([str(part) for part in argv]) == 2
        return capsys.readouterr().err

    source = tmp_path / "in"
    out = ("--outputPath", tmp_path / "out")
    assert "no such folder" in refused(split_train_val, "--inputPath", source, *out)
    (source / "Train").mkdir(parents=True)
    assert "SHIDC-B-Ki-67's layout" in refused(split_train_val, "--inputPath", source, *out)
    Image.new("RGB", (32, 32)).save(source / "Train" / "p1_1.jpg")
    assert "no annotations" in refused(split_train_val, "--inputPath", source, *out)
    cells_file(source / "Train" / "p1_1.json", "[]")
    assert "no validation part" in refused(split_train_val, "--inputPath", source, *out)
    cells_file(source / "Train" / "p1_2.json", "[]")
    assert "has no image" in refused(split_train_val, "--inputPath", source, *out)
    Image.new("RGB", (32, 32)).save(source / "Train" / "p1_2.jpg")
    assert "lies in --inputPath" in refused(
        split_train_val, "--inputPath", source, "--outputPath", source / "split")
    ready = (preprocessing, "-i", source, "-o", tmp_path / "out")
    assert "not of the form" in refused(*ready, "-s", "9")
    assert "square" in refused(*ready, "-s", "32,64,3", "-a", "True")
    assert "--kernel" in refused(*ready, "-g", "0")
    Image.new("RGB", (32, 32)).save(source / "Train" / "p1_2.png")
    assert "same name" in refused(split_train_val, "--inputPath", source, *out)


def test_sixteen_bits_transparency_and_grey_become_one_form(tmp_path):
    source = tmp_path / "in" / "Test"
    source.mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 65536, (40, 40), np.uint16)).save(source / "p1_1.png")
    Image.fromarray(rng.integers(0, 256, (40, 40, 4), np.uint8), "RGBA").save(source / "p1_2.png")
    Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8), "L").save(source / "p2_1.png")
    for name in ("p1_1", "p1_2", "p2_1"):
        cells_file(source / f"{name}.json", '[{"x": 40, "y": 0, "label_id": 3}]')
    assert preprocessing(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"),
                          "-s", "32,32,3"]) == 0
    ready = open_collection(tmp_path / "out").test
    for image, cells in zip(ready.images, ready.labels, strict=True):
        assert image.shape == (32, 32, 3) and image.dtype == np.uint8
        assert cells.tolist() == [[31, 0, 3]]
