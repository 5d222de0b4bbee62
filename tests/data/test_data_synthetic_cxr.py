"""Phantoms: reproducible image by image, by patient, long-tailed, and each finding is visible."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.data.cxr_phantom import FINDINGS, Anatomy, Lesion, View, draw_radiograph
from cxcompress.data.synthetic_cxr import CXR14, CXR20, radiographs
from cxcompress.errors import InputError


@pytest.fixture(scope="module")
def collection():
    return open_collection("synthetic:cxr_28", count=200)


def parts(collection):
    return [collection.train, collection.val, collection.test]


def test_the_collection_says_what_it_is(collection):
    assert collection.synthetic and collection.patients_known and collection.task == "multilabel"
    assert collection.classes == CXR14 and "enerated" in collection.credit
    assert sum(len(part) for part in parts(collection)) == 200
    for part in parts(collection):
        assert part.images.dtype == np.uint8 and part.images.shape[1:] == (28, 28, 1)
        assert part.labels.dtype == np.float32 and set(np.unique(part.labels)) <= {0, 1}


def test_no_patient_is_in_two_parts(collection):
    patients = [set(part.patient_id) for part in parts(collection)]
    assert not patients[0] & patients[1] and not patients[0] & patients[2]
    assert not patients[1] & patients[2]


def test_an_image_does_not_depend_on_the_count(collection):
    fewer = open_collection("synthetic:cxr_28", count=40)
    for large, small in zip(parts(collection), parts(fewer), strict=True):
        rows = [large.image_id.tolist().index(name) for name in small.image_id]
        np.testing.assert_array_equal(large.images[rows], small.images)
        np.testing.assert_array_equal(large.labels[rows], small.labels)


def test_another_seed_is_another_cohort(collection):
    other = open_collection("synthetic:cxr_28", count=20, seed=1)
    assert not (other.train.images[:5] == collection.train.images[:5]).all((1, 2, 3)).any()


def test_sizes_show_the_same_radiograph():
    """A large drawing, averaged down, is the small one save noise and edges."""
    for radiograph in islice(radiographs(3), 6):
        large = radiograph.draw(256).reshape(64, 4, 64, 4).mean((1, 3))
        small = radiograph.draw(64).astype(float)
        assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.96
        assert abs(large.mean() - small.mean()) < 4


def test_twenty_classes_are_the_same_images_with_more_columns(collection):
    twenty = open_collection("synthetic:cxr20_28", count=40)
    assert twenty.classes == CXR20
    rows = [collection.train.image_id.tolist().index(name) for name in twenty.train.image_id]
    np.testing.assert_array_equal(twenty.train.images, collection.train.images[rows])
    np.testing.assert_array_equal(twenty.train.labels[:, :14], collection.train.labels[rows])
    nothing = twenty.train.labels[:, :19].sum(1) == 0
    np.testing.assert_array_equal(twenty.train.labels[:, 19] == 1, nothing)


def test_frequencies_have_a_long_tail_and_findings_go_together():
    cohort = list(islice(radiographs(0), 6000))
    labels = np.array([one.labels(CXR20) for one in cohort])
    share = dict(zip(CXR20, labels.mean(0), strict=True))
    assert max(CXR14, key=share.get) == "Infiltration" and 0.12 < share["Infiltration"] < 0.22
    assert 0.002 < share["Hernia"] < 0.012 and 0.45 < share["No Finding"] < 0.65
    assert all(labels[:, :19].sum(0) >= 12)

    def together(a, b):
        return (labels[:, CXR20.index(a)] * labels[:, CXR20.index(b)]).mean() / share[a] / share[b]

    assert together("Cardiomegaly", "Edema") > 4
    assert together("Pneumothorax", "Subcutaneous Emphysema") > 4
    per_patient = np.unique([one.patient for one in cohort], return_counts=True)[1]
    assert set(per_patient[:-1]) == {1, 2, 3, 4, 5, 6}
    counts = {part: np.mean([one.part == part for one in cohort])
              for part in ("train", "val", "test")}
    assert abs(counts["train"] - 0.7) < 0.05 and abs(counts["test"] - 0.2) < 0.05


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_changes_the_radiograph_more_when_severe(finding):
    """Mean over patients; the same patient and exposure with and without."""
    change = {0.1: [], 1.0: []}
    for one in range(8):
        anatomy = Anatomy.draw(np.random.default_rng(one))
        view = View.draw(np.random.default_rng(100 + one))
        without = draw_radiograph(anatomy, view, {}, 96).astype(int)
        for severity, changes in change.items():
            image = draw_radiograph(anatomy, view, {finding: Lesion(severity, one)}, 96)
            changes.append(np.abs(image - without).astype(float))
    assert np.mean(change[1.0]) > 1.2 * np.mean(change[0.1]) > 0
    assert np.percentile(change[1.0], 99.9) > 8


def mean_grey(finding, region, severity=1.0):
    """Mean grey with minus without the finding in a region (rows, columns as fractions)."""
    difference = []
    for one in range(6):
        anatomy, rng = Anatomy.draw(np.random.default_rng(one)), np.random.default_rng(50 + one)
        view = View.draw(rng)
        images = [draw_radiograph(anatomy, view, findings, 96).astype(float)
                  for findings in ({finding: Lesion(severity, one)}, {})]
        box = tuple(slice(int(96 * low), int(96 * high)) for low, high in region)
        difference.append((images[0] - images[1])[box].mean())
    return float(np.mean(difference))


def test_fluid_is_white_and_air_is_black():
    lower_lungs, all_lungs = ((0.55, 0.72), (0.2, 0.8)), ((0.2, 0.7), (0.2, 0.8))
    assert mean_grey("Effusion", lower_lungs) > 8
    assert mean_grey("Edema", all_lungs) > 3
    assert mean_grey("Consolidation", all_lungs) > 3
    assert mean_grey("Emphysema", lower_lungs) < -3
    assert mean_grey("Pneumoperitoneum", ((0.6, 0.8), (0.2, 0.8))) < -0.5


@pytest.mark.parametrize("name, options", [
    ("synthetic:cxr15", {}), ("synthetic:cxr_8", {}), ("synthetic:cxr", {"size": 4096}),
    ("synthetic:cxr", {"count": 3}), ("synthetic:cxr", {"channels": 2}), ("synthetic:mri", {})])
def test_impossible_collections_are_refused(name, options):
    with pytest.raises(InputError, match=name):
        open_collection(name, **options)


def test_three_channels_are_copies():
    collection = open_collection("synthetic:cxr", size=28, channels=3, count=20)
    images = collection.train.images
    assert images.shape[1:] == (28, 28, 3) and (images == images[..., :1]).all()
