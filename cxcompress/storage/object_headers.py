"""Object headers of an HDF5 file, looked at before HDF5 takes the objects apart.

    check_object_headers(file, hdf5)                # an open file, and the same opened by h5py

HDF5 1.14 divides by the sides of chunks that a dataset's header states, before anyone can ask for
them, and a crafted 0 ends the whole process (SIGFPE). So the layout message of every object that
links lead to is read here first. "HDF5 File Format Specification Version 3.0", sections IV.A.1
(headers of versions 1 and 2) and IV.A.2.i (data layout).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import h5py

_LAYOUT, _CONTINUATION, _SYMBOL_TABLE, _LINK_INFO = 0x08, 0x10, 0x11, 0x02
_CHUNKED = 2
_MOST_OBJECTS = 1 << 12
_MOST_SIDES = 33
_MOST_BYTES = 1 << 20
"""Of all headers together; honest ones take some hundred bytes an object. Bounds the time, too, of
headers that overlap, or continue in themselves."""


def check_object_headers(file: BinaryIO, hdf5: h5py.File) -> None:
    """Refuse a file that HDF5 could not open the objects of without dividing by zero.

    Args:
        file: Open for reading.
        hdf5: The same, opened by h5py; of its objects only groups are opened.

    Raises:
        ValueError: If a chunk has no sides or one of 0, or a header cannot be read.
    """
    headers = _Headers(file, hdf5.userblock_size)
    groups: list[h5py.h5g.GroupID] = [h5py.h5g.open(hdf5.id, b"/")]
    seen: set[int] = set()
    while groups:
        group = groups.pop()
        for name in list(group):
            link = group.links.get_info(name)
            if link.type != h5py.h5l.TYPE_HARD or link.u in seen:
                continue
            seen.add(link.u)
            if len(seen) > _MOST_OBJECTS:
                raise ValueError(f"more than {_MOST_OBJECTS} objects")
            kinds = set()
            for kind, message in headers.messages(link.u):
                kinds.add(kind)
                if kind == _LAYOUT:
                    _check_layout(message)
            if kinds & {_SYMBOL_TABLE, _LINK_INFO}:
                groups.append(h5py.h5g.open(group, name))


def _check_layout(message: bytes) -> None:
    if len(message) < 2 or message[0] not in (3, 4):
        raise ValueError("a data layout of a version that is not read here")
    if message[1] != _CHUNKED:
        return
    if message[0] == 3:
        sides, first, width = (message[2:3] or b"\0")[0], 11, 4
    else:
        sides, width = (*message[3:5], 0, 0)[:2]
        first = 5
    stated = message[first : first + sides * width]
    if not (1 <= sides <= _MOST_SIDES and 1 <= width <= 8 and len(stated) == sides * width):
        raise ValueError("a chunk without sides")
    if any(not any(stated[at : at + width]) for at in range(0, len(stated), width)):
        raise ValueError("a chunk with a side of 0")


class _Headers:
    """Reads headers, all of them together at most `_MOST_BYTES`.

    Args:
        file: Open for reading.
        base: Where addresses count from.
    """

    def __init__(self, file: BinaryIO, base: int):
        self.file, self.base, self.left = file, base, _MOST_BYTES
        self.end = file.seek(0, 2)

    def messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Type and content of the messages of one object header, continuations included."""
        head = self.read(address, 16)
        if head.startswith(b"OHDR"):
            flags = head[5]
            start = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            blocks = [(start + width, int.from_bytes(self.read(start, width), "little"))]
            # Of version 2: a signature before the messages of a continuation, a checksum behind.
            before, around, message = 4, 8, "<BH"
            head_bytes = 6 if flags & 4 else 4
        elif head[:2] == b"\1\0":
            blocks = [(address + 16, struct.unpack_from("<I", head, 8)[0])]
            before, around, message, head_bytes = 0, 0, "<HH", 8
        else:
            raise ValueError("an object header of a version that is not read here")
        while blocks:
            block = self.read(*blocks.pop())
            at = 0
            while at + head_bytes <= len(block):
                kind, size = struct.unpack_from(message, block, at)
                at += head_bytes
                content = block[at : at + size]
                if len(content) != size:
                    raise ValueError("an object header with a message cut off")
                at += size
                if kind == _CONTINUATION and size == 16:
                    place, extent = struct.unpack("<QQ", content)
                    blocks.append((place + before, max(extent - around, 0)))
                yield kind, content

    def read(self, address: int, length: int) -> bytes:
        """Exactly so many bytes."""
        place = self.base + address
        self.left -= length + 1
        if place + length > self.end:
            raise ValueError("an object header outside the file")
        if self.left < 0:
            raise ValueError(f"object headers of more than {_MOST_BYTES} bytes")
        self.file.seek(place)
        return self.file.read(length)
