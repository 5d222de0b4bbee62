"""HDF5 written small and reproducibly, and read without trusting what the file says of itself.

    image = io.BytesIO()
    with create_file(image, 512) as file:
        write_array(create_group(file, "unshared"), "float32", vector)
    read_array(group, "float32", np.float32, limit)     # allocates at most `limit` bytes

A vector is either contiguous or one chunk with HDF5's shuffle and deflate filters, so any HDF5
program reads it. Here chunks are inflated by zlib with a bound, since HDF5's own filter allocates
whatever a crafted chunk inflates to, whatever size the dataset declares.
"""

from __future__ import annotations

import io
import json
import zlib
from typing import Any, BinaryIO

import h5py
import numpy as np

# h5py's lock around HDF5. Its calls take it, all but those of whole chunks: without it another
# thread that lets go of an HDF5 object meanwhile breaks the file.
from h5py._objects import phil
from numpy.typing import NDArray

_DEFLATE, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
_CHUNK_OVERHEAD = 40
"""Bytes of HDF5 that a filtered chunk takes more than a contiguous dataset."""

_BETWEEN_VALUES = (b",", b"[", b"{")
_BYTES_A_VALUE = 32

_IN_MEMORY = 1 << 26
"""Bytes up to which a file is read as a whole."""

_SLOWEST_LEVEL = 9
_SMALL = 1 << 20
"""Bytes up to which the slowest compression is not felt."""


class Unfit(ValueError):
    """More, or something else, than the format holds: refused on writing as on reading."""


def create_file(image: io.BytesIO, user_block_size: int) -> h5py.File:
    """An HDF5 file in memory, without time stamps (h5py's own call stamps every group).

    Its version is the oldest with one-chunk indices, HDF5 1.10. Metadata blocks are as small as
    they can be, since the default reserves 2 kB at a time.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_meta_block_size(0)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, image)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_userblock(user_block_size)
    creation.set_obj_track_times(False)
    name = repr(image).encode()
    return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))


def open_file(file: BinaryIO, length: int) -> h5py.File:
    """Open an HDF5 file for reading.

    A small one is taken into memory at once, which is several times as fast as one call of
    Python for each of HDF5's reads.

    Args:
        file: Open for reading, at any position.
        length: Its bytes.
    """
    if length > _IN_MEMORY:
        return h5py.File(file, "r")
    file.seek(0)
    return h5py.File(h5py.h5f.open_file_image(file.read(length), h5py.h5f.ACC_RDONLY))


def create_group(parent: h5py.Group, name: str) -> h5py.Group:
    """A subgroup without a time stamp."""
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=creation))


def write_array(group: h5py.Group, name: str, vector: NDArray, *, deflate: bool = True) -> None:
    """Store a vector, little-endian; without `deflate` always contiguous."""
    vector = np.ascontiguousarray(vector)
    vector = vector.astype(vector.dtype.newbyteorder("<"), copy=False)
    if deflate and vector.size:
        shuffled = vector.view(np.uint8).reshape(-1, vector.itemsize).T.tobytes()
        chunk = zlib.compress(shuffled, 9 if len(shuffled) <= _SMALL else 6)
        if len(chunk) + _CHUNK_OVERHEAD < vector.nbytes:
            dataset = group.create_dataset(
                name, vector.shape, vector.dtype, chunks=vector.shape, compression="gzip",
                compression_opts=9, shuffle=vector.itemsize > 1, track_times=False)
            with phil:
                dataset.id.write_direct_chunk((0,), chunk)
            return
    group.create_dataset(name, data=vector, track_times=False)


def read_array(group: h5py.Group, name: str, dtype: Any, limit: int) -> NDArray:
    """Read a vector that `write_array` stored.

    Args:
        group: Its group, in a file whose length bounds every stored size.
        name: Its name.
        dtype: The type that it must have.
        limit: Most bytes that it may have in memory.

    Raises:
        ValueError: If it is missing, of another type, larger than `limit`, stored outside the
            file or behind a link, or damaged.
    """
    dataset = member(group, name, h5py.Dataset).id
    where = f"{group.name.rstrip('/')}/{name}"
    dtype, shape = np.dtype(dtype), dataset.shape
    # HDF5's type itself: NumPy has no name for the bits that HDF5 would leave out of its numbers.
    if dataset.get_type() != h5py.h5t.py_create(dtype) or len(shape) != 1:
        raise ValueError(f"{where} is a vector of {dtype}. "
                         f"Received: {str(dataset.dtype):.80} {shape}")
    size = int(shape[0]) * dtype.itemsize
    if size > limit:
        raise Unfit(f"{where} takes {size} bytes, more than this file may hold ({limit})")
    plist = dataset.get_create_plist()
    layout = plist.get_layout()
    if layout == h5py.h5d.CONTIGUOUS and not plist.get_external_count():
        stored = dataset.get_storage_size()
        if stored != size:
            raise ValueError(f"{where} stores {stored} bytes, not {size}")
        vector = np.empty(shape, dtype)
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, vector)
        return vector
    described = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    filters = [code for code, *_ in described]
    if (layout != h5py.h5d.CHUNKED or plist.get_chunk() != shape
            or filters not in ([_DEFLATE], [_SHUFFLE, _DEFLATE])):
        raise ValueError(f"{where} is neither contiguous nor one deflated chunk")
    # What HDF5's own filters would refuse, or undo in another way.
    for code, _, values, _ in described:
        if (len(values) != 1 or (code == _SHUFFLE and values[0] != dtype.itemsize)
                or (code == _DEFLATE and values[0] > _SLOWEST_LEVEL)):
            raise ValueError(f"{where} has a filter with the values {values!r:.40}")
    # The chunk's own entry says what HDF5 allocates; the dataset's total need not agree with it.
    with phil:
        stored = dataset.get_chunk_info(0).size if dataset.get_num_chunks() else 0
    if not 0 < stored <= size + size // 100 + _CHUNK_OVERHEAD:
        raise ValueError(f"{where} stores {stored} bytes for {size}")
    with phil:
        mask, chunk = dataset.read_direct_chunk((0,))
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(chunk, size + 1)
    except zlib.error as error:
        raise ValueError(f"{where}: {error}") from None
    if mask or len(content) != size or not inflate.eof or inflate.unused_data:
        raise ValueError(f"{where} does not inflate to {size} bytes")
    vector = np.frombuffer(content, np.uint8)
    if _SHUFFLE in filters:
        vector = vector.reshape(dtype.itemsize, -1).T
    return np.ascontiguousarray(vector).reshape(-1).view(dtype)


def member(group: h5py.Group, name: str, kind: type) -> Any:
    """The group's own dataset or subgroup of this name.

    Raises:
        ValueError: If there is none, or it is a soft or external link.
    """
    # By h5py's low-level calls: its own lookups take four times as long, several times a dataset.
    encoded = name.encode("utf-8", "surrogateescape")
    if not group.id.links.exists(encoded) or (
            group.id.links.get_info(encoded).type != h5py.h5l.TYPE_HARD):
        raise ValueError(f"{group.name}: {name} is missing or a link")
    found = h5py.h5o.open(group.id, encoded)
    if not isinstance(found, h5py.h5d.DatasetID if kind is h5py.Dataset else h5py.h5g.GroupID):
        raise ValueError(f"{group.name}: {name} is not a {kind.__name__.lower()}")
    return kind(found)


def write_json(group: h5py.Group, name: str, content: Any) -> None:
    """Store JSON as UTF-8 bytes."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    write_array(group, name, np.frombuffer(text.encode(), np.uint8))


def read_json(group: h5py.Group, name: str, limit: int) -> Any:
    """Read JSON that `write_json` stored, as `parsed_json` does."""
    return parsed_json(read_array(group, name, np.uint8, limit).tobytes(), name, limit)


def parsed_json(text: bytes, name: str, limit: int) -> Any:
    """What JSON of at most `limit` bytes, with at most one comma or bracket for 32 of them, says.

    An empty object of three bytes takes 72 in memory, and deflates to next to nothing.

    Args:
        text: UTF-8.
        name: For messages.
        limit: Bytes.

    Raises:
        ValueError: If it is missing, too large or not JSON.
    """
    values = sum(map(text.count, _BETWEEN_VALUES))
    if values > limit // _BYTES_A_VALUE:
        raise Unfit(f"{name} has {values} commas and brackets, more than this file may hold "
                    f"({limit // _BYTES_A_VALUE})")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{name}: JSON nested too deeply") from None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")
