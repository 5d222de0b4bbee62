"""Regions of findings: where the drawing changed the body, and where radiologists drew boxes."""

import shutil

import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.data.finding_regions import open_regions
from cxcompress.data.synthetic_cxr import radiograph, radiographs
from cxcompress.errors import InputError


@pytest.fixture(scope="module")
def drawn():
    collection = open_collection("synthetic:cxr", size=64, count=300, seed=4)
    return collection, open_regions("synthetic:cxr", collection.train, collection.classes, 64, 4)


def test_every_labelled_finding_has_a_region_in_its_own_image(drawn):
    collection, regions = drawn
    train = collection.train
    assert len(regions) == int(train.labels.sum()) > 100
    for one in regions:
        assert one.image_id == train.image_id[one.row]
        assert train.labels[one.row, collection.classes.index(one.finding)] == 1
        assert 0 < one.mask.mean() < 0.6, one


def test_a_region_is_where_the_picture_changes(drawn):
    """Drawn without the finding, the picture changes in the region and hardly elsewhere."""
    _, regions = drawn
    inside, outside = [], []
    for region in [one for one in regions if one.finding in ("Mass", "Effusion")][:12]:
        one = radiograph(region.image_id, 4)
        before = one.draw(64).astype(float)
        del one.findings[region.finding]
        change = np.abs(one.draw(64) - before)
        inside.append(change[region.mask].mean())
        outside.append(change[~region.mask].mean())
    assert np.mean(inside) > 5 * np.mean(outside)


def test_the_heart_is_in_the_middle_and_an_effusion_low(drawn):
    _, regions = drawn

    def centre(name):
        found = [np.argwhere(one.mask).mean(axis=0) for one in regions if one.finding == name]
        return np.mean(found, axis=0) / 64

    assert centre("Effusion")[0] > 0.55
    assert 0.35 < centre("Cardiomegaly")[1] < 0.75


def test_a_radiograph_is_found_by_its_id():
    for one, _ in zip(radiographs(7), range(9), strict=False):
        again = radiograph(one.image_id, 7)
        np.testing.assert_array_equal(again.draw(32), one.draw(32))
    for unknown in ("phantom000000_009", "00000001_000.png"):
        with pytest.raises(InputError, match="no such radiograph"):
            radiograph(unknown, 7)


def test_boxes_of_nih_become_masks(layout, tmp_path):
    folder = tmp_path / "with boxes"
    shutil.copytree(layout("nih"), folder)
    collection = open_collection(folder)
    part = collection.train
    with (folder / "BBox_List_2017.csv").open("a") as file:
        file.write(f"{part.image_id[0]},Mass,512,256,128,256,,,\n"
                   f"{part.image_id[0]},Mass,0,0,4,4,,,\n"
                   f"{part.image_id[0]},Pleural_Thickening,100,100,50,50,,,\n")
    found = {one.finding: one for one in open_regions(folder, part, collection.classes, 128)}
    expected = np.zeros((128, 128), bool)
    expected[32:64, 64:80] = True
    expected[0, 0] = True
    np.testing.assert_array_equal(found["Mass"].mask, expected)
    assert found["Mass"].patient_id == part.patient_id[0] and len(found) == 2


def test_other_data_say_nothing_of_places(drawn, tmp_path):
    collection, _ = drawn
    with pytest.raises(InputError, match="does not say where findings are"):
        open_regions(tmp_path, collection.train, collection.classes, 64)
