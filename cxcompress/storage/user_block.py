"""The first 512 bytes of a container: what it is, how long it is, and the digest of the rest.

    image = sealed(image)                     # bytes of an HDF5 file with a user block of 512
    with open(path, "rb") as file:
        length, version = check_user_block(file, path)     # before anything else looks at it

HDF5 leaves bytes of a file unused, so a digest of its datasets would miss damage; this one covers
every byte, and the block itself is checked in full.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from typing import BinaryIO

from cxcompress.errors import InputError

MAGIC = b"\x89CXC\r\n\x1a\n"
"""Like PNG's and HDF5's: a transfer as text, or with stripped bits, breaks it visibly."""

FORMAT_VERSION = 3
USER_BLOCK_SIZE = 512

_HEADER = struct.Struct("<8sIIQ32s")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_READ_BYTES = 1 << 20


def sealed(image: bytes, version: int = FORMAT_VERSION) -> bytes:
    """The file image with its user block filled in."""
    digest = hashlib.sha256(memoryview(image)[USER_BLOCK_SIZE:]).digest()
    header = _HEADER.pack(MAGIC, version, 0, len(image), digest)
    return header.ljust(USER_BLOCK_SIZE, b"\0") + image[USER_BLOCK_SIZE:]


def check_user_block(file: BinaryIO, path: str | os.PathLike) -> tuple[int, int]:
    """Verify magic, version, length and digest of an open file.

    Returns:
        The file's length in bytes, and the format's version, which the digest does not cover.

    Raises:
        InputError: If it is something else, of a newer version, truncated or altered.
    """
    block = file.read(USER_BLOCK_SIZE)
    if not block.startswith(MAGIC):
        raise InputError(f"{path}: {_what_else(block)}")
    length = os.fstat(file.fileno()).st_size
    if len(block) < USER_BLOCK_SIZE:
        raise InputError(f"{path}: truncated container ({length} bytes); copy it again")
    _, version, reserved, expected, digest = _HEADER.unpack_from(block)
    if version > FORMAT_VERSION:
        raise InputError(f"{path}: written by a newer cxcompress (format {version}, this reader "
                         f"knows {FORMAT_VERSION}): upgrade")
    if version < 1 or reserved or any(block[_HEADER.size :]):
        raise InputError(f"{path}: altered container (its first 512 bytes); copy it again")
    if expected != length:
        raise InputError(f"{path}: truncated or altered container ({length} bytes, should be "
                         f"{expected}); copy it again")
    found = hashlib.sha256()
    while part := file.read(_READ_BYTES):
        found.update(part)
    if not hmac.compare_digest(found.digest(), digest):
        raise InputError(f"{path}: altered container (SHA-256 differs); copy it again")
    return length, version


def _what_else(head: bytes) -> str:
    """What a file without our magic is, and the mend."""
    if head.startswith(_HDF5_SIGNATURE):
        return ("not a cxcompress container; an HDF5 file, perhaps a Keras model: use "
                "keras.models.load_model or cxcompress.models.load_model")
    if head.startswith(b"PK"):
        return ("not a cxcompress container; a zip, perhaps a .keras model: use "
                "keras.models.load_model or cxcompress.models.load_model")
    if head.startswith(b"\x80"):
        return ("not a cxcompress container; a pickle, as the PathoNet compression scripts "
                "wrote: never unpickled here; export it to Keras HDF5 first")
    if not head:
        return "an empty file, not a cxcompress container; copy it again"
    return (f"not a cxcompress container (starts with {head[:8]!r}); give an .h5 file that "
            "cxcompress wrote")
