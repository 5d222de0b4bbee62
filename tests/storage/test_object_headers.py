"""Headers of HDF5 objects that HDF5 itself would stop the process for are refused before."""

from __future__ import annotations

import io
import struct

import h5py
import numpy as np
import pytest

from cxcompress.storage.object_headers import check_object_headers

SIDE = 253


@pytest.fixture(params=["earliest", "v110", "latest"])
def image(request) -> bytes:
    """Groups in groups, a chunked and a contiguous dataset, and more links than a header holds."""
    target = io.BytesIO()
    with h5py.File(target, "w", libver=(request.param, "latest"), userblock_size=512) as file:
        file.create_dataset("a/b/chunked", data=np.zeros(SIDE, "u1"), chunks=(SIDE,),
                            compression="gzip")
        for number in range(12):
            file["a"][f"plain{number}"] = np.arange(4)
        file["a/itself"] = file["a"]
        file["a/soft"] = h5py.SoftLink("/nowhere")
    return target.getvalue()


def check(image: bytes) -> None:
    file = io.BytesIO(image)
    with h5py.File(io.BytesIO(image), "r") as hdf5:
        check_object_headers(file, hdf5)


def layouts(image: bytes) -> tuple[int, bytes]:
    """Where the chunked dataset's layout message is: its place and first bytes."""
    for start in (bytes([4, 2, 2, 2, 1, SIDE, 1]), bytes([4, 2, 0, 2, 1, SIDE, 1]),
                  bytes([3, 2, 2])):
        if image.count(start) == 1:
            return image.index(start), start
    raise AssertionError("no layout message found")


def test_what_h5py_writes_passes(image):
    check(image)


def test_chunks_without_sides_or_with_a_side_of_0_are_refused(image):
    place, start = layouts(image)
    old = start[0] == 3
    first = place + (11 if old else 5)
    for at, values in ((place + (2 if old else 3), [0]), (place + (2 if old else 3), [200]),
                       (first, [0] * (4 if old else 1)), (place, [2]), (place, [5])):
        changed = bytearray(image)
        changed[at : at + len(values)] = bytes(values)
        with pytest.raises(ValueError, match="chunk|layout"):
            check(bytes(changed))


def test_cut_headers_are_refused(image):
    file = io.BytesIO(image[:600])
    with h5py.File(io.BytesIO(image), "r") as hdf5, pytest.raises(ValueError, match="outside"):
        check_object_headers(file, hdf5)


def test_too_many_objects_are_refused(image, monkeypatch):
    monkeypatch.setattr("cxcompress.storage.object_headers._MOST_OBJECTS", 5)
    with pytest.raises(ValueError, match="more than 5 objects"):
        check(image)


def test_headers_that_overlap_or_continue_in_themselves_end(image):
    """Two continuations that lead to themselves: twice as many with each turn."""
    place, _ = layouts(image)
    start = image.rfind(b"OHDR", 0, place)
    if start < 0 or image[start + 5] & 0x34:
        pytest.skip("a header of another shape")
    first = start + 6 + (1 << (image[start + 5] & 3))
    loop = b"\x10\x10\x00\x00" + struct.pack("<QQ", first - 512 - 4, 48)
    changed = bytearray(image)
    changed[first : first + 40] = 2 * loop
    with pytest.raises(ValueError, match="headers of more than 1048576 bytes"):
        check(bytes(changed))
