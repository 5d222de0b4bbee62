"""Whatever is not a sound container gives one `InputError` line, and takes no memory first."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from cxcompress.errors import InputError
from cxcompress.storage import (
    Container,
    is_container,
    read_card,
    read_container,
    read_sizes,
    write_container,
)
from cxcompress.storage.small_hdf5 import write_array, write_json
from cxcompress.storage.user_block import sealed


@pytest.fixture
def path(tmp_path, container: Container):
    write_container(tmp_path / "model.h5", container)
    return tmp_path / "model.h5"


def refused(path, content: bytes | None = None, match: str | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        read_container(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_every_byte_of_the_user_block_counts(path):
    content = path.read_bytes()
    for position in range(512):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        refused(path, bytes(changed))


def test_any_flipped_bit_is_noticed(path):
    content = path.read_bytes()
    for bit in np.random.default_rng(0).choice(8 * len(content), 300, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        refused(path, bytes(changed))


def test_any_truncation_and_any_addition_is_noticed(path):
    content = path.read_bytes()
    for length in {*range(60), *range(500, 530),
                   *map(int, np.linspace(530, len(content) - 1, 200))}:
        refused(path, content[:length])
    refused(path, content + b"\0")


@pytest.mark.parametrize(("content", "match"), [
    (b"", "empty file"),
    (b"hello\n" * 100, r"not a cxcompress container \(starts with b'hello"),
    (b"PK\x03\x04" + bytes(99), "zip, perhaps a .keras"),
    (pickle.dumps([np.zeros(3)]), "never unpickled here; export it to Keras HDF5"),
])
def test_other_files_are_recognised(path, content, match):
    refused(path, content, match)
    assert not is_container(path)


def test_a_keras_model_is_sent_to_keras(path):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
    refused(path, match="keras.models.load_model")
    assert not is_container(path)


def test_missing_files_and_folders(tmp_path):
    refused(tmp_path / "none.h5", match="no such file")
    refused(tmp_path, match="cannot be read")
    assert not is_container(tmp_path / "none.h5") and not is_container(tmp_path)


def test_a_newer_format_asks_for_an_upgrade(path):
    content = bytearray(path.read_bytes())
    content[8] = 4
    refused(path, bytes(content),
            r"written by a newer cxcompress \(format 4, this reader knows 3\): upgrade")


def test_numbers_of_fewer_bits_than_their_type_are_refused(path):
    """HDF5 would leave the others out; read directly they would be there."""
    with h5py.File(path, "r+") as file:
        text = file["index"][()]
        del file["index"]
        kind = h5py.h5t.NATIVE_UINT8.copy()
        kind.set_precision(2)
        space = h5py.h5s.create_simple(text.shape)
        dataset = h5py.h5d.create(file.id, b"index", kind, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, text)
    refused(path, sealed(path.read_bytes()), "index is a vector of uint8")


def test_a_version_that_the_content_does_not_state_is_refused(path):
    content = bytearray(path.read_bytes())
    content[8] = 1
    refused(path, bytes(content), "two statements of the format's version differ")


# Crafted files: the checksum is right, the content is not.

def crafted(path, change) -> bytes:
    image = io.BytesIO(path.read_bytes())
    with h5py.File(image, "r+") as file:
        change(file)
    return sealed(image.getvalue())


def replace_json(name, edit):
    def change(file):
        content = json.loads(file[name][()].tobytes())
        edited = edit(content)
        del file[name]
        write_json(file, name, content if edited is None else edited)
    return change


def replace(name, vector, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, data=vector, **options)
    return change


def set_shape(kernel, shape):
    return replace_json("index", lambda index: index["kernels"][kernel].update(shape=shape))


def external_link(file):
    del file["card"]
    file["card"] = h5py.ExternalLink("/etc/passwd", "/card")


def soft_link(file):
    del file["card"]
    file["card"] = h5py.SoftLink("/index")


def external_storage(file):
    del file["architecture"]
    file.create_dataset("architecture", (10,), "u1", external=[("/etc/passwd", 0, 10)])


def bomb(file):
    """A chunk that inflates to hundreds of times what its dataset declares."""
    del file["architecture"]
    size = 10**5
    dataset = file.create_dataset("architecture", (size,), "u1", chunks=(size,),
                                  compression="gzip")
    dataset.id.write_direct_chunk((0,), zlib.compress(bytes(10**8), 9))


def no_zlib_stream(file):
    del file["architecture"]
    dataset = file.create_dataset("architecture", (99,), "u1", chunks=(99,), compression="gzip")
    dataset.id.write_direct_chunk((0,), b"not zlib")


def huge_declared(file):
    del file["architecture"]
    file.create_dataset("architecture", (10**12,), "u1", chunks=(10**9,), compression="gzip")


def no_level_of_deflate(file):
    """A chunk that zlib inflates, under a filter that HDF5 refuses to run."""
    content = file["architecture"][()]
    del file["architecture"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(content.shape)
    plist.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (2225,))
    dataset = h5py.h5d.create(file.id, b"architecture", h5py.h5t.STD_U8LE,
                              h5py.h5s.create_simple(content.shape), plist)
    dataset.write_direct_chunk((0,), zlib.compress(content.tobytes(), 9))


CRAFTED = {
    "hostile shape": set_shape(0, [10**6, 10**6]),
    "very hostile shape": set_shape(0, [2**31] * 16),
    "shape of another size": set_shape(0, [3, 3, 16, 25]),
    "negative shape": set_shape(0, [-1, 3]),
    "shape of text": set_shape(0, "ab"),
    "shape of fractions": set_shape(0, [1.5]),
    "constant kernel too large": set_shape(3, [2**30]),
    "unknown coder": replace_json("index", lambda i: i["kernels"][0].update(coder="zip")),
    "unknown codebook": replace_json("index", lambda i: i["kernels"][0].update(codebook="no")),
    "unknown table": replace_json("index", lambda i: i["kernels"][0].update(table=9)),
    "kernel twice": replace_json("index", lambda i: i["kernels"].append(i["kernels"][0])),
    "kernel missing": replace_json("index", lambda i: i["kernels"].pop(0) and None),
    "levels of another number": replace_json("index", lambda i: i["codebooks"][0].update(k=39)),
    "pruned level not zero": replace_json("index", lambda i: i["codebooks"][0].update(zero=0)),
    "step of text": replace_json("index", lambda i: i["codebooks"][1].update(step="x")),
    "unshared of objects": replace_json("index", lambda i: i["unshared"][0].update(dtype="O")),
    "unshared too long": replace_json("index", lambda i: i["unshared"][0].update(shape=[99])),
    "index of another kind": replace_json("index", lambda i: [1]),
    "index without kernels": replace_json("index", lambda i: {"codebooks": [], "unshared": []}),
    "card with an unknown field": replace_json("card", lambda card: card.update(run="rm")),
    "card is no JSON": replace("card", np.frombuffer(b"{NaN", np.uint8)),
    "card with NaN": replace("card", np.frombuffer(b'{"metrics":{"a":NaN}}', np.uint8)),
    "card nested deeply": replace("card", np.frombuffer(b"[" * 200_000, np.uint8)),
    "card of another type": replace("card", np.zeros(9, np.float32)),
    "architecture is no text": replace("architecture", np.full(9, 255, np.uint8)),
    "unshared of another type": replace("unshared/float32", np.zeros(9)),
    "booleans that are none": replace("unshared/bool", np.uint8([0, 2])),
    "text of variable length": lambda f: f.attrs.create("format", "cxcompress"),
    "another format": lambda f: f.attrs.create("format", np.bytes_(b"other")),
    "states of another number": replace("kernels/rans_states", np.zeros(3, np.uint64)),
    "no states": replace("kernels/rans_states", np.empty(0, np.uint64)),
    "other words": replace("kernels/rans_words", np.arange(7, dtype=np.uint32)),
    "chunks that are not one": replace("kernels/rans_words", np.zeros(64, np.uint32),
                                       chunks=(8,)),
    "group missing": lambda f: f.__delitem__("unshared"),
    "codebook beyond int8": replace("codebooks/differences", np.full(16, 255, np.uint8)),
    "codebook that begins too far": replace_json(
        "index", lambda i: i["codebooks"][1].update(first=1 << 21)),
    "codebook on no grid": replace_json(
        "index", lambda i: i["codebooks"][1].update(grid=None)),
    "codebook on an endless grid": replace_json(
        "index", lambda i: i["codebooks"][1].update(grid=1e300)),
    "codebook of text": replace_json("index", lambda i: i["codebooks"][1].update(grid="x")),
    "codebook that falls": replace("codebooks/differences", np.zeros(16, np.uint8)),
    "codebook of other length": replace("codebooks/differences", np.ones(17, np.uint8)),
    "graphs that are not": replace("graphs", np.zeros(40, np.uint8)),
    "graphs of another type": replace("graphs", np.zeros(40, np.float32)),
    "graphs behind a link": lambda f: (f.__delitem__("graphs"), f.__setitem__(
        "graphs", h5py.SoftLink("/nowhere"))),
    "graphs of format 1 behind a link": lambda f: (f.__delitem__("graphs"), f.__setitem__(
        "graph", h5py.SoftLink("/nowhere"))),
    "a graph of format 1 of another name": lambda f: (f.__delitem__("graphs"), write_json(
        f.create_group("graph/a-b"), "placement", {}), write_array(
        f["graph/a-b"], "flatbuffer", np.zeros(9, np.uint8))),
    "external link": external_link,
    "soft link": soft_link,
    "external storage": external_storage,
    "bomb": bomb,
    "no zlib stream": no_zlib_stream,
    "no level of deflate": no_level_of_deflate,
    "huge declared size": huge_declared,
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_files_are_refused_before_memory_is_taken(path, name):
    content = crafted(path, CRAFTED[name])
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(path, match="not a valid container")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_an_untouched_but_rewritten_file_is_still_read(path, container, same_container):
    path.write_bytes(crafted(path, lambda file: write_array(file, "unknown", np.arange(3))))
    same_container(read_container(path), container)
    assert read_card(path) == container.card
    assert read_sizes(path).weights == 3 * 3 * 16 * 29 + 60 + 36


@pytest.mark.parametrize("version", [2, np.uint64(2), np.bytes_(b"2"), np.uint32([2])])
def test_a_version_of_another_type_is_refused(path, version):
    def change(file):
        del file.attrs["format_version"]
        file.attrs["format_version"] = version

    refused(path, crafted(path, change), "format_version is one number of type <u4")


def test_garbage_behind_a_right_checksum_is_refused(path):
    refused(path, sealed(bytes(5000)), "not a valid container")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(1)
    for _ in range(60):
        changed = content.copy()
        for position in rng.integers(512, len(content), 40):
            changed[position] = rng.integers(256)
        path.write_bytes(sealed(bytes(changed)))
        try:
            read_container(path)  # may survive where HDF5 leaves bytes unused
        except InputError as error:
            assert "\n" not in str(error)
