"""`.npz` collections: what was saved is what is opened; whatever does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.errors import InputError


def medmnist_arrays(labels, n=4, shape=(6, 6)):
    rng = np.random.default_rng(0)
    return {f"{part}_{what}": rng.integers(0, 256, (n, *shape), np.uint8) if what == "images"
            else np.asarray(labels) for part in ("train", "val", "test")
            for what in ("images", "labels")}


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def table(n=6, **changes):
    arrays = {"images": np.arange(n * 16, dtype=np.uint8).reshape(n, 4, 4),
              "labels": np.eye(3, dtype=np.uint8)[np.arange(n) % 3],
              "split": np.array(["train", "train", "train", "val", "test", "test"]),
              "classes": np.array(["Mass", "Nodule", "Hernia"]),
              "patient_id": np.array([0, 0, 1, 3, 2, 2]), "image_index": np.array(list("abcdef"))}
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def test_medmnist_integers_become_one_hot(tmp_path):
    arrays = medmnist_arrays([[2], [0], [1], [2]])
    collection = open_collection(save(tmp_path / "mine.npz", **arrays))
    assert collection.task == "multiclass" and collection.classes == ("0", "1", "2")
    np.testing.assert_array_equal(collection.train.labels.argmax(1), [2, 0, 1, 2])
    assert (collection.train.labels.sum(1) == 1).all()
    np.testing.assert_array_equal(collection.val.images[..., 0], arrays["val_images"])
    assert not collection.patients_known and collection.train.labels.dtype == np.float32


@pytest.mark.parametrize("stem", ["pneumoniamnist", "pneumoniamnist_224"])
def test_a_known_file_name_brings_its_class_names(tmp_path, stem):
    path = save(tmp_path / f"{stem}.npz", **medmnist_arrays([[1], [0], [1], [1]]))
    assert open_collection(path).classes == ("normal", "pneumonia")


def test_a_known_name_with_too_many_labels_keeps_numbers(tmp_path):
    path = save(tmp_path / "pneumoniamnist.npz", **medmnist_arrays([[1], [0], [4], [1]]))
    assert open_collection(path).classes == ("0", "1", "2", "3", "4")


def test_many_labels_are_multilabel(tmp_path):
    labels = np.random.default_rng(1).integers(0, 2, (4, 14))
    collection = open_collection(save(tmp_path / "chestmnist.npz", **medmnist_arrays(labels)))
    assert collection.task == "multilabel" and collection.classes[13] == "hernia"
    np.testing.assert_array_equal(collection.test.labels, labels)


def test_missing_parts_are_none(tmp_path):
    arrays = medmnist_arrays([[1], [0], [1], [1]])
    only = {key: value for key, value in arrays.items() if key.startswith("test")}
    collection = open_collection(save(tmp_path / "a.npz", **only))
    assert collection.train is None and collection.val is None and len(collection.test) == 4


def test_the_table_layout(tmp_path):
    collection = open_collection(save(tmp_path / "a.npz", **table()))
    assert collection.task == "multilabel" and collection.classes == ("Mass", "Nodule", "Hernia")
    assert [len(part) for part in (collection.train, collection.val, collection.test)] == [3, 1, 2]
    assert collection.patients_known
    assert collection.test.patient_id.tolist() == ["2", "2"]
    assert collection.test.image_id.tolist() == ["e", "f"]
    assert collection.test.images.shape == (2, 4, 4, 1)


def test_the_table_layout_without_patients_and_with_unknown_labels(tmp_path):
    labels = np.array([[1, np.nan]] * 6, np.float32)
    collection = open_collection(save(tmp_path / "a.npz", **table(
        labels=labels, classes=np.array(["a", "b"]), patient_id=None)))
    assert not collection.patients_known
    assert np.isnan(collection.train.labels[:, 1]).all()


def test_integer_labels_in_the_table_layout(tmp_path):
    collection = open_collection(save(tmp_path / "a.npz", **table(
        labels=np.array([0, 1, 2, 0, 1, 2]))))
    assert collection.task == "multiclass"
    np.testing.assert_array_equal(collection.train.labels, np.eye(3))


BAD = [
    (table(split=None), "split"), (table(split=np.array(["dev"] * 6)), "'dev'"),
    (table(images=np.zeros((6, 4, 4), np.float32)), "float32"),
    (table(images=np.zeros((6, 4), np.uint8)), "shape"),
    (table(labels=np.full((6, 3), 2)), "0, 1 and NaN"),
    (table(labels=np.zeros((6, 4), int)), "one column a class"),
    (table(labels=np.zeros((5, 3), int)), "5 rows for 6 images"),
    (table(labels=np.array([0, 1, 2, 3, 0, 0])), "0 to 3"),
    (table(labels=np.array(list("abcdef"))), "one integer an image"),
    (table(patient_id=np.arange(5)), "patient_id"),
    (table(images=np.zeros((6, 4, 4), object)), "Python objects"),
    ({"pictures": np.zeros(3)}, "pictures"),
    ({"train_images": np.zeros((1, 2, 2), np.uint8)}, "no train_labels"),
]


@pytest.mark.parametrize("arrays, words", BAD, ids=[words for _, words in BAD])
def test_what_does_not_fit_is_named(tmp_path, arrays, words):
    path = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match="a.npz") as caught:
        open_collection(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path):
    path = save(tmp_path / "a.npz", **table())
    content = path.read_bytes()
    for damaged in (b"", b"hello", content[:100], content[:-30]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not an .npz file"):
            open_collection(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="one bare array"):
        open_collection(path)


def test_real_files(shared_data):
    nih = open_collection(shared_data / "nih_cxr14_64px.npz")
    assert [len(part) for part in (nih.train, nih.val, nih.test)] == [619, 82, 123]
    assert nih.patients_known and len(nih.classes) == 14
    assert not set(nih.train.patient_id) & set(nih.test.patient_id)
    pneumonia = open_collection(shared_data / "pneumoniamnist.npz")
    assert pneumonia.classes == ("normal", "pneumonia") and len(pneumonia.test) == 624


def _with_header(path, shape: str, descr: str = "'|u1'") -> None:
    """An archive whose images say that they are of another shape."""
    import io
    import struct
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in {"images": np.zeros((4, 5, 6), np.uint8), "labels": np.arange(4) % 2,
                            "split": np.array(["train", "train", "val", "test"])}.items():
            part = io.BytesIO()
            np.save(part, array)
            content = part.getvalue()
            if name == "images":
                text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
                text = text.encode().ljust(117) + b"\n"
                content = content[:8] + struct.pack("<H", len(text)) + text + content[128:]
            archive.writestr(f"{name}.npy", content)


@pytest.mark.parametrize("header", [
    ("(1099511627776,)",), ("(4, 5, 60)",), ("(-4, 5, -6)",), ("(4, 5, 6",), ("('a',)",),
    ("(4, 5, 6)", "'|V2147483647'"), ("(4, 5, 6)", "'|O'")])
def test_headers_that_name_another_size_are_refused_before_memory_is_taken(tmp_path, header):
    """Found by fuzzing: NumPy takes what a header asks for, here up to petabytes."""
    _with_header(tmp_path / "a.npz", *header)
    with pytest.raises(InputError, match="a.npz: not an .npz file that can be read"):
        open_collection(tmp_path / "a.npz")


def test_a_label_of_a_billion_makes_no_billion_classes(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8),
             labels=np.array([0, 10**9]), split=np.array(["train", "test"]))
    with pytest.raises(InputError, match="a label is 1000000000; there are at most 10000"):
        open_collection(tmp_path / "a.npz")
