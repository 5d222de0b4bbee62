"""Fields of nuclei, from folders in SHIDC's layout and generated."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from cxcompress.data import open_collection
from cxcompress.data.shidc import read_cells
from cxcompress.data.synthetic_ki67 import write_fields
from cxcompress.errors import InputError


def test_a_written_folder_and_the_collection_show_the_same_fields(tmp_path):
    folder = write_fields(tmp_path / "ki67", 24, size=64, seed=2)
    recorded = open_collection(folder)
    drawn = open_collection("synthetic:ki67_64", count=24, seed=2)
    assert recorded.task == drawn.task == "nuclei" and recorded.classes == drawn.classes
    assert set(recorded.test.patient_id) == set(drawn.test.patient_id)
    assert recorded.val is None and recorded.patients_known and drawn.patients_known
    assert recorded.synthetic and drawn.synthetic
    assert recorded.microns_per_pixel == drawn.microns_per_pixel > 3
    for position in range(len(recorded.test)):
        np.testing.assert_array_equal(recorded.test.images[position], drawn.test.images[position])
        np.testing.assert_array_equal(recorded.test.labels[position], drawn.test.labels[position])


def test_generated_parts_share_no_patient():
    drawn = open_collection("synthetic:ki67", size=64, count=48)
    patients = [set(part.patient_id) for part in (drawn.train, drawn.val, drawn.test)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 8
    assert sum(len(part) for part in (drawn.train, drawn.val, drawn.test)) == 48
    assert all(cells.shape[1] == 3 for cells in drawn.train.labels)
    assert drawn.train.images.shape[1:] == (64, 64, 3)


def test_faults_are_named(tmp_path):
    (tmp_path / "Train").mkdir()
    (tmp_path / "Train" / "p1_1.json").write_text("[]")
    with pytest.raises(InputError, match="has no image"):
        open_collection(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "Train" / "p1_1.png")
    assert open_collection(tmp_path).train.labels[0].shape == (0, 3)
    Image.new("RGB", (8, 8)).save(tmp_path / "Train" / "p1_2.png")
    with pytest.raises(InputError, match="p1_2.json.*annotation"):
        open_collection(tmp_path)
    for text in ("hello", "{}x", '[{"x": 1}]', "[1]", '[{"x": 1, "y": 2, "label_id": 4}]', "3"):
        (tmp_path / "Train" / "p1_2.json").write_text(text)
        with pytest.raises(InputError, match="p1_2.json"):
            open_collection(tmp_path)


@pytest.mark.parametrize("name, options", [
    ("synthetic:ki67_x", {}), ("synthetic:ki67", {"size": 8}), ("synthetic:ki67", {"count": 5})])
def test_impossible_collections_are_refused(name, options):
    with pytest.raises(InputError, match=name):
        open_collection(name, **options)


def test_real_annotation(shared_data, tmp_path):
    cells = read_cells(shared_data / "ihc_lung.json")
    assert len(cells) == len(json.loads((shared_data / "ihc_lung.json").read_text()))
    assert set(cells[:, 2]) == {1, 2} and cells[:, :2].min() >= 0 and cells[:, :2].max() < 512
