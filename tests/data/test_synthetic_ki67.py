"""Laws of the generated Ki-67 fields: same seed, same field; labels where the stain says."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from cxcompress.data.synthetic_ki67 import (
    DAB,
    HAEMATOXYLIN,
    LYMPHOCYTE,
    NEGATIVE,
    POSITIVE,
    annotation,
    generate_fields,
    write_fields,
)
from cxcompress.errors import InputError


def stains(image: np.ndarray) -> np.ndarray:
    """Haematoxylin and DAB per pixel `(h, w, 2)` by colour deconvolution against white glass."""
    white = np.percentile(image.reshape(-1, 3), 95, axis=0)
    density = -np.log10(np.maximum(image, 1) / white)
    vectors = np.stack([v / np.linalg.norm(v) for v in (HAEMATOXYLIN, DAB)])
    return density @ np.linalg.pinv(vectors)


@pytest.fixture(scope="module")
def fields():
    """One field of each of 60 patients."""
    return [
        next(generate_fields(1, 256, seed=11, first=patient, fields_per_patient=1))
        for patient in range(60)
    ]


def test_a_field_depends_on_seed_and_position_only():
    whole = list(generate_fields(9, 128, seed=4))
    for start, count in ((0, 9), (0, 3), (4, 3), (8, 1)):
        part = list(generate_fields(count, 128, seed=4, first=start))
        assert len(part) == count
        for (image, cells, patient), (image_, cells_, patient_) in zip(
            part, whole[start : start + count], strict=True
        ):
            np.testing.assert_array_equal(image, image_)
            np.testing.assert_array_equal(cells, cells_)
            assert patient == patient_


def test_fields_seeds_and_patients_differ():
    images = [image for image, _, _ in generate_fields(8, 64, seed=0)]
    images += [image for image, _, _ in generate_fields(8, 64, seed=1)]
    assert len({image.tobytes() for image in images}) == 16
    patients = [patient for _, _, patient in generate_fields(8, 64, fields_per_patient=3)]
    assert patients == ["p0000"] * 3 + ["p0001"] * 3 + ["p0002"] * 2


@settings(max_examples=25)
@given(size=st.integers(64, 300), seed=st.integers(0, 2**63), first=st.integers(0, 10**6))
def test_every_label_lies_inside(size, seed, first):
    image, cells, patient = next(generate_fields(1, size, seed, first=first))
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert cells.ndim == 2 and cells.shape[1] == 3 and cells.dtype == np.int32
    assert cells[:, :2].min(initial=0) >= 0 and cells[:, :2].max(initial=0) < size
    assert set(cells[:, 2]) <= {POSITIVE, NEGATIVE, LYMPHOCYTE}
    assert patient == f"p{first // 6:04d}"


def test_size_sets_the_resolution_and_not_the_field_of_view():
    small, cells, _ = next(generate_fields(1, 128, seed=2))
    large, large_cells, _ = next(generate_fields(1, 512, seed=2))
    np.testing.assert_array_equal(cells[:, 2], large_cells[:, 2])
    np.testing.assert_array_equal(cells[:, :2], large_cells[:, :2] // 4)
    shrunk = np.asarray(Image.fromarray(large).resize((128, 128), Image.Resampling.BOX))
    likeness = np.corrcoef(small.ravel(), shrunk.ravel())[0, 1]
    assert likeness > 0.9


def test_numbers_and_mix_of_cells_are_those_of_the_collection(fields):
    counts = np.array([len(cells) for _, cells, _ in fields])
    assert 50 < counts.mean() < 90 and counts.min() >= 5 and counts.std() > 12
    labels = np.concatenate([cells[:, 2] for _, cells, _ in fields])
    shares = np.bincount(labels, minlength=4)[1:] / len(labels)
    assert 0.21 < shares[0] < 0.41 and 0.55 < shares[1] < 0.77 and 0.01 < shares[2] < 0.08


def test_ki67_index_belongs_to_the_patient():
    index = np.array(
        [
            np.mean(cells[cells[:, 2] != LYMPHOCYTE, 2] == POSITIVE)
            for _, cells, _ in generate_fields(20 * 4, 64, seed=6, fields_per_patient=4)
        ]
    ).reshape(20, 4)
    assert index.mean(axis=1).min() < 0.15 and index.mean(axis=1).max() > 0.5
    assert index.mean(axis=1).std() > 1.5 * index.std(axis=1).mean()


def test_positive_centres_are_brown_and_lymphocytes_dark_but_not_all(fields):
    centres = {POSITIVE: [], NEGATIVE: [], LYMPHOCYTE: []}
    for image, cells, _ in fields:
        amount = ndimage.uniform_filter(stains(image), (3, 3, 0))
        for x, y, label in cells:
            centres[label].append(amount[y, x])
    blue, brown = {}, {}
    for label, amounts in centres.items():
        blue[label], brown[label] = np.array(amounts).T
    assert np.median(brown[POSITIVE]) > np.median(brown[NEGATIVE]) + 0.2
    assert np.mean(brown[POSITIVE] > 0.12) > 0.8
    # Not separable by a threshold: weak positives and blushing negatives meet.
    assert np.quantile(brown[POSITIVE], 0.03) < np.quantile(brown[NEGATIVE], 0.97)
    assert np.median(blue[LYMPHOCYTE]) > np.median(blue[NEGATIVE]) + 0.1
    assert np.quantile(blue[LYMPHOCYTE], 0.25) < np.quantile(blue[NEGATIVE], 0.95)
    # A nucleus is darker than what surrounds it, whatever its kind.
    for image, cells, _ in fields[:10]:
        grey = ndimage.uniform_filter(image.mean(axis=2), 3)
        assert grey[cells[:, 1], cells[:, 0]].mean() < np.median(grey) - 15


def test_nuclei_touch_and_never_coincide(fields):
    touching = 0
    for _, cells, _ in fields:
        apart = np.hypot(*(cells[:, None, :2] - cells[None, :, :2]).transpose(2, 0, 1))
        nearest = np.where(np.eye(len(cells), dtype=bool), np.inf, apart).min(axis=1)
        assert nearest.min() > 3
        touching += np.sum(nearest < 11)
    share = touching / sum(len(cells) for _, cells, _ in fields)
    assert 0.2 < share < 0.95


def test_fields_hold_unlabelled_distractors(fields):
    """Blue or brown bodies as dark as nuclei lie away from every label."""
    found = 0
    for image, cells, _ in fields:
        away = np.ones((256, 256), bool)
        away[cells[:, 1], cells[:, 0]] = False
        away = ndimage.distance_transform_edt(away) > 16
        away[:20] = away[-20:] = away[:, :20] = away[:, -20:] = False
        found += bool(np.any(away & (stains(image).sum(axis=2) > 0.3)))
    assert found > len(fields) / 3


def test_annotation_is_plain_json():
    cells = np.array([[3, 4, 1], [250, 0, 3]], np.int32)
    expected = [{"x": 3, "y": 4, "label_id": 1}, {"x": 250, "y": 0, "label_id": 3}]
    assert json.loads(json.dumps(annotation(cells))) == expected
    assert annotation(np.zeros((0, 3), np.int32)) == []


def test_folder_holds_the_same_fields_split_by_patient(tmp_path):
    folder = write_fields(tmp_path / "deep" / "ki67", 20, 96, seed=3, fields_per_patient=2)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert sorted(p.name for p in folder.iterdir()) == ["Test", "Train", "synthetic_ki67.json"]
    parts = {part: {p.name for p in (folder / part).glob("*.jpg")} for part in ("Train", "Test")}
    patients = {part: {name.split("_")[0] for name in names} for part, names in parts.items()}
    assert not patients["Train"] & patients["Test"]
    assert len(patients["Train"]) == 7 and len(patients["Test"]) == 3
    for index, (image, cells, patient) in enumerate(
        generate_fields(20, 96, seed=3, fields_per_patient=2)
    ):
        part = "Test" if patient in patients["Test"] else "Train"
        stem = folder / part / f"{patient}_{index % 2:02d}"
        np.testing.assert_array_equal(np.asarray(Image.open(stem.with_suffix(".jpg"))), image)
        assert json.loads(stem.with_suffix(".json").read_text()) == annotation(cells)
    about = json.loads((folder / "synthetic_ki67.json").read_text())
    assert about["count"] == 20 and about["seed"] == 3 and sum(about["cells"].values()) > 300

    fewer = write_fields(tmp_path / "fewer", 7, 96, seed=3, fields_per_patient=2)
    assert all((folder / p.relative_to(fewer)).is_file() for p in fewer.glob("T*/*"))


def test_folders_in_use_are_refused(tmp_path):
    ours, theirs, a_file = tmp_path / "ours", tmp_path / "theirs", tmp_path / "file"
    ours.mkdir()
    write_fields(ours, 8, 64)  # an empty folder is free
    with pytest.raises(InputError, match="ours: exists"):
        write_fields(ours, 8, 64)
    write_fields(ours, 14, 64, seed=1, overwrite=True)
    assert len(list(ours.glob("T*/*.jpg"))) == 14

    theirs.mkdir()
    (theirs / "slide.jpg").write_bytes(b"a real slide")
    with pytest.raises(InputError, match="not a generated folder"):
        write_fields(theirs, 8, 64, overwrite=True)
    assert (theirs / "slide.jpg").read_bytes() == b"a real slide"

    a_file.write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_fields(a_file, 8, 64)
    with pytest.raises(InputError, match="cannot be written"):
        write_fields(a_file / "inside", 8, 64)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "ours", "theirs"]


@pytest.mark.parametrize("count, first, part", [(6, 0, "Test"), (0, 0, "Test"), (6, 6, "Train")])
def test_a_part_without_patients_is_refused(tmp_path, count, first, part):
    with pytest.raises(InputError, match=f"leave {part} empty"):
        write_fields(tmp_path / "ki67", count, 64, first=first)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": -1},
        {"count": 1, "size": 63},
        {"count": 1, "size": 4096},
        {"count": 1, "seed": -1},
        {"count": 1, "first": -1},
        {"count": 1, "fields_per_patient": 0},
    ],
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match="Received"):
        next(generate_fields(**arguments))


def test_colours_are_those_of_a_real_field(shared_data, fields):
    """The real field's stain percentiles lie within those of 60 generated patients."""
    real = Image.open(shared_data / "ihc_lung.png").convert("RGB")
    real = np.asarray(real.resize((256, 256), Image.Resampling.LANCZOS))

    def percentiles(image):
        return np.percentile(stains(image).reshape(-1, 2), [25, 50, 90, 97], axis=0)

    generated = np.array([percentiles(image) for image, _, _ in fields])
    assert np.all(percentiles(real) >= generated.min(axis=0))
    assert np.all(percentiles(real) <= generated.max(axis=0))


def test_speed_is_reported(capsys):
    start = time.perf_counter()
    count = sum(1 for _ in generate_fields(20, 256, seed=8))
    with capsys.disabled():
        print(f"\nsynthetic_ki67: {count / (time.perf_counter() - start):.0f} fields/s at 256 px")
    assert count == 20


def test_wide_fields_are_more_various_and_the_standard_ones_stay():
    def looks(variation):
        images = [image for image, _, _ in generate_fields(
            30, 64, seed=3, fields_per_patient=1, variation=variation)]
        return np.array([[*np.median(image, axis=(0, 1)), image.std()] for image in images])

    standard, wide = looks("standard"), looks("wide")
    assert (wide.std(0)[:3] > 1.1 * standard.std(0)[:3]).all()
    again = [image for image, _, _ in generate_fields(2, 64, seed=3, fields_per_patient=1)]
    np.testing.assert_array_equal(np.median(again[1], axis=(0, 1)), standard[1, :3])
    with pytest.raises(ValueError, match="variation"):
        next(generate_fields(1, 64, variation="odd"))


def test_wide_fields_keep_their_labels_on_the_stain():
    image, cells, _ = next(generate_fields(1, 256, seed=5, variation="wide"))
    assert image.dtype == np.uint8 and len(cells)
    assert set(cells[:, 2]) <= {POSITIVE, NEGATIVE, LYMPHOCYTE}
