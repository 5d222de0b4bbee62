"""CIFAR-100 and HAM10000 in small copies of their published layouts."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from cxcompress.data import cifar100, open_collection, with_validation
from cxcompress.errors import InputError

NAMES = ["apple", "bear", "whale"]


def records(count, seed):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (count, 3 * 32 * 32), np.uint8),
            rng.integers(0, 3, count).tolist())


def write_python_layout(folder, protocol=2):
    folder.mkdir(parents=True)
    for part, (count, seed) in {"train": (12, 0), "test": (5, 1)}.items():
        data, labels = records(count, seed)
        content = {b"data": data, b"fine_labels": labels, b"coarse_labels": [0] * count,
                   b"filenames": [b"n%d.png" % n for n in range(count)], b"batch_label": b"x"}
        (folder / part).write_bytes(pickle.dumps(content, protocol))
    meta = {b"fine_label_names": [name.encode() for name in NAMES], b"coarse_label_names": [b"c"]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol))
    return folder


def write_binary_layout(folder):
    folder.mkdir(parents=True)
    for part, (count, seed) in {"train": (12, 0), "test": (5, 1)}.items():
        data, labels = records(count, seed)
        rows = np.concatenate([np.zeros((count, 1), np.uint8),
                               np.uint8(labels)[:, None], data], axis=1)
        (folder / f"{part}.bin").write_bytes(rows.tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def test_both_layouts_give_the_same_images_and_labels(tmp_path):
    python = open_collection(write_python_layout(tmp_path / "cifar-100-python"))
    binary = open_collection(write_binary_layout(tmp_path / "cifar-100-binary"))
    for collection in (python, binary):
        assert collection.task == "multiclass" and collection.classes == tuple(NAMES)
        assert collection.val is None and "Krizhevsky" in collection.credit
        assert len(with_validation(collection).val) > 0
    for part in ("train", "test"):
        one, other = getattr(python, part), getattr(binary, part)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert len(set(one.image_id)) == len(one)
    data, labels = records(12, 0)
    # Red, then green, then blue plane, row by row.
    assert python.train.images[3, 2, 5, 1] == data[3, 1024 + 2 * 32 + 5]
    assert python.train.labels.argmax(1).tolist() == labels


def test_pickles_that_would_run_something_are_refused(tmp_path):
    folder = write_python_layout(tmp_path / "cifar")

    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    (folder / "train").write_bytes(pickle.dumps({b"data": Harm(), b"fine_labels": []}))
    with pytest.raises(InputError, match=r"train: not one of .* names builtins.print"):
        open_collection(folder)


@pytest.mark.parametrize("damage, message", [
    (lambda folder: (folder / "train").write_bytes(b"\x80\x02nonsense"), "train: not one of"),
    (lambda folder: (folder / "train").write_bytes(pickle.dumps({b"data": []})),
     "train: has no fine_labels"),
    (lambda folder: (folder / "train").write_bytes(pickle.dumps(
        {b"data": np.zeros((2, 9), np.uint8), b"fine_labels": [0, 1]})), "expected"),
    (lambda folder: (folder / "train").write_bytes(pickle.dumps(
        {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [7]})), "labels 7 to 7 for 3"),
])
def test_damaged_files_are_named(tmp_path, damage, message):
    folder = write_python_layout(tmp_path / "cifar")
    damage(folder)
    with pytest.raises(InputError, match=message):
        open_collection(folder)


def test_a_truncated_binary_file_is_named(tmp_path):
    folder = write_binary_layout(tmp_path / "cifar")
    (folder / "test.bin").write_bytes(b"123")
    with pytest.raises(InputError, match="test.bin: 3 bytes, not a whole number of records"):
        open_collection(folder)


def test_the_archive_is_fetched_once_and_checked(tmp_path, monkeypatch):
    served = tmp_path / "served"
    write_python_layout(served / "cifar-100-python")
    with tarfile.open(served / cifar100.ARCHIVE, "w:gz") as file:
        file.add(served / "cifar-100-python", "cifar-100-python")
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    handler.log_message = lambda *arguments: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("CXCOMPRESS_CIFAR_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("CXCOMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    try:
        with pytest.raises(InputError, match="not the published file"):
            open_collection("cifar100")
        content = (served / cifar100.ARCHIVE).read_bytes()
        monkeypatch.setattr(cifar100, "MD5", hashlib.md5(content).hexdigest())
        assert len(open_collection("cifar100").train) == 12
    finally:
        server.shutdown()
        server.server_close()
    assert len(open_collection("cifar100").test) == 5  # from the cache
    monkeypatch.setenv("CXCOMPRESS_CACHE", str(tmp_path / "other"))
    with pytest.raises(InputError, match="cannot be fetched"):
        open_collection("cifar100")


@pytest.fixture
def ham(tmp_path):
    """40 lesions, 60 images in two folders."""
    folder = tmp_path / "HAM10000"
    rng = np.random.default_rng(0)
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for number in range(60):
        lesion = number if number < 40 else number - 40
        part = folder / f"HAM10000_images_part_{1 + number % 2}"
        part.mkdir(parents=True, exist_ok=True)
        kind = ("nv", "nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")[lesion % 8]
        lines.append(f"HAM_{lesion:07},ISIC_{number:07},{kind},histo,50.0,male,back")
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).save(
            part / f"ISIC_{number:07}.jpg")
    (folder / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_lesions_never_fall_on_both_sides(ham):
    collection = with_validation(open_collection(ham))
    assert collection.task == "multiclass" and collection.patients_known
    assert collection.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    parts = [set(part.patient_id) for part in (collection.train, collection.val, collection.test)]
    assert sum(map(len, parts)) == 40 == len(set.union(*parts))
    assert sum(map(len, (collection.train, collection.val, collection.test))) == 60
    assert 8 <= len(collection.test) <= 20
    assert collection.test.images[0].shape == (12, 16, 3)
    row = list(collection.train.image_id).index("ISIC_0000002") \
        if "ISIC_0000002" in collection.train.image_id else None
    if row is not None:
        assert collection.classes[collection.train.labels[row].argmax()] == "mel"
    again = open_collection(ham)
    np.testing.assert_array_equal(again.test.image_id, collection.test.image_id)


def test_a_tab_separated_table_is_read_too(ham):
    table = ham / "HAM10000_metadata.csv"
    (ham / "HAM10000_metadata.tab").write_text(table.read_text().replace(",", "\t"))
    expected = open_collection(ham)
    table.unlink()
    np.testing.assert_array_equal(open_collection(ham).train.labels, expected.train.labels)


@pytest.mark.parametrize("old, new, message", [
    (",nv,", ",mole,", "line 2: diagnosis 'mole'; expected one of akiec"),
    ("lesion_id,", "lesion,", "needs rows with the columns lesion_id"),
    ("ISIC_", "OTHER_", "none of its 60 pictures is in the folder"),
    ("HAM_0000003,", ",", "line 5: has no lesion_id"),
])
def test_tables_that_do_not_fit_are_named(ham, old, new, message):
    table = ham / "HAM10000_metadata.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        open_collection(ham)
