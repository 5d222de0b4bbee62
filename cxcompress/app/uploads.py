"""What people drop on the page: pictures, one by one or in a ZIP, within limits.

    for picture in pictures(uploaded_name, content):
        picture.name, picture.content

Only sizes and names are looked at here; the content is parsed by a child process
(`model_process`). Names are for showing alone: nothing is ever opened or written by them.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from cxcompress.errors import InputError

MAX_PICTURE_BYTES = 100_000_000
MAX_PICTURES = 200
"""Of one ZIP."""
MAX_ZIP_BYTES = 500_000_000
"""Of all that a ZIP unpacks to."""
MAX_CONTAINER_BYTES = 500_000_000
_NAME_LENGTH = 80
_PART = 1 << 20


@dataclass(frozen=True)
class Picture:
    """One picture as it was uploaded.

    Args:
        name: To be shown: without folders and control characters, at most 80 characters.
        content: The file's bytes, not looked at yet.
    """

    name: str
    content: bytes


def pictures(name: str, content: bytes) -> Iterator[Picture]:
    """The pictures of an upload: itself, or those in it if it is a ZIP.

    Args:
        name: As the browser says.
        content: Its bytes; what they are is told by them, not by the name.

    Raises:
        InputError: If it is empty or too large, or a ZIP that is damaged, encrypted or unpacks to
            more than 200 files or 500 MB. What came before is given all the same.
    """
    if not content:
        raise InputError(f"{shown_name(name)}: an empty file")
    if not zipfile.is_zipfile(io.BytesIO(content)):
        if len(content) > MAX_PICTURE_BYTES:
            raise InputError(f"{shown_name(name)}: more than {MAX_PICTURE_BYTES // 10**6} MB; "
                             "give a smaller picture")
        yield Picture(shown_name(name), content)
        return
    yield from _unpacked(shown_name(name), content)


def _unpacked(name: str, content: bytes) -> Iterator[Picture]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if _is_picture(entry)]
            if len(entries) > MAX_PICTURES:
                raise InputError(f"{name}: {len(entries)} files; give at most {MAX_PICTURES}")
            if not entries:
                raise InputError(f"{name}: a ZIP without files")
            left = MAX_ZIP_BYTES
            for entry in entries:
                inside = f"{name}: {shown_name(entry.filename)}"
                if entry.flag_bits & 1:
                    raise InputError(f"{inside}: encrypted; give a ZIP without a password")
                # What the directory says of sizes is the sender's word: bytes are counted.
                found = _read(archive, entry, min(MAX_PICTURE_BYTES, left), inside)
                left -= len(found)
                if zipfile.is_zipfile(io.BytesIO(found)):
                    raise InputError(f"{inside}: a ZIP within a ZIP; unpack it first")
                yield Picture(shown_name(entry.filename), found)
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError,
            RuntimeError) as error:
        raise InputError(f"{name}: a ZIP that cannot be read; pack it again") from error


def _is_picture(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)
    return not entry.is_dir() and not hidden


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int, inside: str) -> bytes:
    parts, size = [], 0
    with archive.open(entry) as file:
        while part := file.read(_PART):
            size += len(part)
            if size > most:
                raise InputError(f"{inside}: unpacks to more than {most // 10**6} MB")
            parts.append(part)
    if not size:
        raise InputError(f"{inside}: an empty file")
    return b"".join(parts)


def shown_name(name: str) -> str:
    """A name fit to be shown: the last part, printable characters, not too long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    clean = "".join(letter if letter.isprintable() else "�" for letter in last) or "file"
    if len(clean) > _NAME_LENGTH:
        clean = f"{clean[:_NAME_LENGTH // 2 - 1]}…{clean[-_NAME_LENGTH // 2:]}"
    return clean
