"""Mutations of containers, from a flipped bit to HDF5 made anew, and what may be expected of each.

    image, law = mutated(random.Random(7), all_bases())

`law` says what a reader owes: `REFUSED` (the file is not whole), `SAME` (weights were not touched:
refused, or exactly the base's weights), `VALID` (its seal was made anew over other content:
refused, or weights that keep every rule of the format).
"""

from __future__ import annotations

import copy
import io
import json
import lzma
import random
import struct
import zlib

import h5py
import numpy as np
from bases import Base, lookup3

from cxcompress.storage.user_block import FORMAT_VERSION, USER_BLOCK_SIZE, sealed

REFUSED, SAME, VALID = "refused", "same", "valid"

WORDS = (0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1 << 15, (1 << 16) - 1,
         1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 63,
         (1 << 64) - 1)
ODD_JSON = (
    *WORDS, -1, -(1 << 31), -(1 << 63), 1 << 64, 10**40, 0.0, -0.0, 0.5, 1e-320, 1e300, True, False,
    None, "", "a", "conv", "dense", "wide", "one", "raw", "rans", "context", "huffman",
    "sparse_huffman", "sparse_index_map", "index_map", "float32", "int8", "bool", "object", "O",
    "V8", "../../etc/passwd", "\0", "\ud800", "\n", "x" * 300, [], {}, [[]], [0], [1, 1], [-1],
    [2] * 17, [1 << 31] * 4, [0, 1 << 31], {"a": 1}, [1 << 20, 1 << 20], [1 << 13, 1 << 13])
BARE = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, "[" * 5000, "{\"a\":" * 3000,
        "'a'", "\xff", "", "[1,]", "nul")
_DTYPES = ("u1", "<u2", "<u4", "<u8", "i1", "<f4", "<f8", ">u4", "S4", "V8", "<f2")


def mutated(rng: random.Random, bases: list[Base]) -> tuple[bytes, str, Base]:
    """One case.

    Args:
        rng: Decides everything.
        bases: To start from.

    Returns:
        The file, what a reader owes it, and the base.
    """
    base = rng.choice(bases)
    kind = rng.random()
    if kind < 0.10:
        image = _unsealed(rng, base, bases)
        whole = any(image == other.image for other in bases)
        return image, VALID if whole else REFUSED, base
    if kind < 0.16 and "graphs" in base.spans:
        return _other_graphs(rng, base), SAME, base
    if kind < 0.97:
        image, law = bytearray(base.image), SAME
        for _ in range(1 + (rng.random() < 0.4) + (rng.random() < 0.1)):
            step = rng.random()
            if step < 0.40:
                law = max(law, _payload(rng, image, base))
            elif step < 0.75:
                law = max(law, _text(rng, image, base))
            elif step < 0.92:
                law = max(law, _block(rng, image, base))
            else:
                _bytes(rng, image, USER_BLOCK_SIZE)
                law = VALID
        return resealed(bytes(image)), law, base
    return _rebuilt(rng, base), VALID, base


def resealed(image: bytes) -> bytes:
    """With a right digest, in the format's version that it has."""
    version = int.from_bytes(image[8:12], "little")
    return sealed(image, version if 1 <= version <= FORMAT_VERSION else FORMAT_VERSION)


def _unsealed(rng: random.Random, base: Base, bases: list[Base]) -> bytes:
    """Damage as by a bad disk or a bad line; the seal stays."""
    image, kind = bytearray(base.image), rng.random()
    if kind < 0.4:
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            image[rng.randrange(len(image))] ^= 1 << rng.randrange(8)
    elif kind < 0.6:
        del image[rng.randrange(len(image)):]
    elif kind < 0.7:
        image += rng.randbytes(rng.choice((1, 4, 100, 5000)))
    elif kind < 0.9:
        other = rng.choice(bases).image
        cut = rng.randrange(min(len(image), len(other)))
        image[cut:] = other[cut if rng.random() < 0.5 else rng.randrange(len(other)):]
    else:
        _bytes(rng, image, 0)
    return bytes(image)


def _bytes(rng: random.Random, image: bytearray, first: int) -> None:
    """Change, move, blank or insert some bytes."""
    place = rng.randrange(first, len(image))
    length = min(rng.choice((1, 1, 2, 4, 8, 8, 40, 300)), len(image) - place)
    kind = rng.random()
    if kind < 0.3:
        image[place:place + length] = rng.randbytes(length)
    elif kind < 0.5:
        word = struct.pack("<Q", rng.choice(WORDS))[:min(length, 8)]
        image[place:place + len(word)] = word
    elif kind < 0.7:
        other = rng.randrange(first, len(image) - length + 1)
        image[place:place + length] = image[other:other + length]
    elif kind < 0.8:
        image[place:place + length] = bytes(length)
    elif kind < 0.9:
        del image[place:place + length]
    else:
        image[place:place] = rng.randbytes(length)


def _payload(rng: random.Random, image: bytearray, base: Base) -> str:
    """Change a dataset's content; of zlib streams mostly what they inflate to."""
    name = rng.choice(list(base.spans))
    start, length, item = base.spans[name]
    if name.endswith("_tables") and rng.random() < 0.7:
        content = _inside_zlib(rng, bytes(image[start:start + length]))
        if content is not None and len(content) <= length:
            image[start:start + length] = content.ljust(length, b"\0") \
                if rng.random() < 0.1 else content + bytes(image[start + len(content):
                                                                 start + length])
            return VALID
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = min(start + rng.randrange(length), len(image) - 1)
        kind = rng.random()
        if kind < 0.4:
            image[place] ^= 1 << rng.randrange(8)
        elif kind < 0.6:
            image[place] = rng.choice((0, 1, 127, 128, 254, 255))
        else:
            place = start + rng.randrange(max(length // item, 1)) * item
            image[place:place + item] = struct.pack("<Q", rng.choice(WORDS))[:item]
    weights = name.startswith(("kernels", "codebooks", "unshared", "index"))
    return VALID if weights else SAME


def _inside_zlib(rng: random.Random, stored: bytes) -> bytes | None:
    head, stored = (stored[:4], stored[4:]) if stored[:1] != b"\x78" else (b"", stored)
    inflate = zlib.decompressobj()
    try:
        body = bytearray(inflate.decompress(stored))
    except zlib.error:
        return None
    for _ in range(rng.choice((1, 1, 2, 4))):
        if body:
            body[rng.randrange(len(body))] = rng.choice((0, 1, 14, 16, 160, 161, 255,
                                                         rng.randrange(256)))
    body = zlib.compress(bytes(body), 9)
    if head:
        return len(body).to_bytes(4, "little") + body + inflate.unused_data
    return body


def _other_graphs(rng: random.Random, base: Base) -> bytes:
    """Change what the stream of graphs unpacks to, or says that it unpacks to."""
    start, length, _ = base.spans["graphs"]
    stored = base.image[start:start + length]
    content = bytearray(lzma.decompress(stored[8:]))
    for _ in range(rng.choice((1, 1, 2, 3))):
        end = 4 + int.from_bytes(content[:4], "little")
        kind = rng.random()
        if kind < 0.6:
            try:
                listed = _node(rng, json.loads(bytes(content[4:end])))
            except (ValueError, RecursionError):
                break
            text = json.dumps(listed).encode("utf-8", "surrogatepass")
            if rng.random() < 0.08:
                text = text.replace(rng.choice((b"1", b"2", b'"', b"0")),
                                    rng.choice(BARE).encode("latin-1"), 1)
            content[:end + -end % 4] = (len(text).to_bytes(4, "little") + text
                                        + bytes(-len(text) % 4))
        elif kind < 0.8:
            place = rng.randrange(len(content))
            content[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind < 0.9:
            content[:4] = struct.pack("<Q", rng.choice(WORDS))[:4]
        elif rng.random() < 0.5:
            del content[rng.randrange(4, len(content)):]
        else:
            content += bytes(rng.choice((1, 4, 1 << 16, 1 << 22)))
    size = len(content) if rng.random() < 0.9 else rng.choice(
        (*WORDS, len(content) + 1, len(content) - 1))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": rng.choice((1 << 12, 1 << 22))}]
    check = rng.choice((lzma.CHECK_NONE, lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_SHA256))
    stream = bytearray(lzma.compress(bytes(content), lzma.FORMAT_XZ, check, filters=filters))
    if rng.random() < 0.1:
        _set_dictionary(stream, rng.choice((0, 22, 24, 26, 30, 38, 40, 41, 255)))
    if rng.random() < 0.2:
        stream[rng.randrange(len(stream))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.05:
        stream += rng.choice((bytes(4), bytes(stream), b"x"))
    image = io.BytesIO(base.image)
    with h5py.File(image, "r+") as file:
        del file["graphs"]
        file.create_dataset("graphs", data=np.frombuffer(
            struct.pack("<Q", size % (1 << 64)) + stream, np.uint8), track_times=False)
    return resealed(image.getvalue())


def _set_dictionary(stream: bytearray, size: int) -> None:
    """Let an .xz stream ask for another dictionary, up to 4 GB, its header's checksum made anew.

    Reference: The .xz File Format 1.2.1, 3.1 (block header) and 5.3.1 (LZMA2's one property).
    """
    end = 12 + 4 * stream[12]
    stream[16] = size
    stream[end:end + 4] = zlib.crc32(bytes(stream[12:end])).to_bytes(4, "little")


def _text(rng: random.Random, image: bytearray, base: Base) -> str:
    """Change the JSON of the index, the card or a placement, in place."""
    names = [name for name in base.spans if name.endswith(("index", "card", "placement"))]
    name = rng.choice([*names, "index"] if "index" in names else names)
    start, length, _ = base.spans[name]
    try:
        content = json.loads(bytes(image[start:start + length]))
    except (ValueError, RecursionError):
        return _payload(rng, image, base)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = _node(rng, content)
    text = json.dumps(content)
    if rng.random() < 0.08:
        text = text.replace(rng.choice(("1", "null", "2", '"', "0")), rng.choice(BARE), 1)
    stored = text.encode("utf-8", "surrogatepass")[:length]
    image[start:start + length] = stored.ljust(length)
    return SAME if name != "index" else VALID


def _node(rng: random.Random, content):
    """A JSON value in which one node is another, is gone or is there twice."""
    places = []

    def walk(value):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    if not isinstance(content, dict | list):
        return rng.choice(ODD_JSON)
    walk(content)
    if not places:
        return rng.choice(ODD_JSON)
    parent, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.5:
        parent[key] = copy.deepcopy(rng.choice(ODD_JSON))
    elif kind < 0.62 and isinstance(parent[key], int):
        parent[key] += rng.choice((-1, 1, 2, -2, 256))
    elif kind < 0.75:
        other, other_key = rng.choice(places)
        parent[key] = copy.deepcopy(other[other_key])
    elif kind < 0.83:
        del parent[key]
    elif kind < 0.93 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif isinstance(parent[key], list):
        rng.shuffle(parent[key])
    elif isinstance(parent, dict):
        parent[rng.choice(("path", "shape", "k", "zero", "run", ""))] = parent.pop(key)
    return content


def _block(rng: random.Random, image: bytearray, base: Base) -> str:
    """Change HDF5's own structures and mend their checksum, so that HDF5 believes them."""
    if not base.blocks:
        _bytes(rng, image, USER_BLOCK_SIZE)
        return VALID
    start, length = rng.choice(base.blocks)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = min(start + rng.randrange(4, length), len(image) - 1)
        kind = rng.random()
        if kind < 0.35:
            image[place] ^= 1 << rng.randrange(8)
        elif kind < 0.6:
            image[place] = rng.choice((0, 1, 2, 3, 4, 8, 16, 127, 128, 255, rng.randrange(256)))
        elif kind < 0.85:
            size = rng.choice((2, 4, 8))
            word = rng.choice((*WORDS, len(image), len(image) - 512, *(b[0] - 512
                                                                      for b in base.blocks)))
            word = struct.pack("<Q", word % (1 << 64))[:min(size, start + length - place)]
            image[place:place + len(word)] = word
        else:
            size = min(rng.choice((4, 8, 16)), start + length - place)
            other, longest = rng.choice(base.blocks)
            other += rng.randrange(max(longest - size, 1))
            image[place:place + size] = image[other:other + size]
    if rng.random() < 0.95:
        image[start + length:start + length + 4] = lookup3(
            bytes(image[start:start + length])).to_bytes(4, "little")
    return VALID


def _rebuilt(rng: random.Random, base: Base) -> bytes:
    """HDF5 writes the file again with one thing of another kind."""
    image = io.BytesIO(base.image)
    with h5py.File(image, "r+") as file:
        name = rng.choice(["architecture", "index", "card", *base.spans])
        for _ in range(rng.choice((1, 1, 2))):
            try:
                _restructured(rng, file, name)
            except (OSError, RuntimeError, ValueError, KeyError, IndexError):
                break  # the second change does not go with the first
    return resealed(image.getvalue())


def _restructured(rng: random.Random, file: h5py.File, name: str) -> None:
    change = rng.randrange(15)
    if change == 14:
        _json_bomb(rng, file)
        return
    if change == 0:
        attribute = rng.choice(["format", "compression", "created_with", "format_version"])
        value = rng.choice(["cxcompress", b"cxcompress", np.bytes_(b"x" * 70_000), 3, [1, 2], 1.5,
                            np.bytes_(b"\xff\xfe"), ""])
        if isinstance(value, bytes) and len(value) > 64_000:
            value = value[:60_000]
        file.attrs[attribute] = value
        return
    if change == 1:
        file.attrs.pop(rng.choice(list(file.attrs) or ["none"]), None)
        return
    if change == 2:
        file.create_group(rng.choice(["graph/x", "graph/a-b", "graphs", "kernels/x",
                                      "deep/" * 200 + "x"]))
        return
    if name not in file:
        return
    item = file[name]
    content = item[()] if isinstance(item, h5py.Dataset) and item.size < 1 << 20 else np.uint8(3)
    content = np.atleast_1d(np.asarray(content))
    del file[name]
    size = max(content.size, 1)
    if change == 3:
        return
    if change == 4:
        file[name] = h5py.SoftLink(rng.choice(["/index", "/", "/" + name]))
    elif change == 5:
        file[name] = h5py.ExternalLink(rng.choice(["/etc/passwd", "none.h5"]), "/")
    elif change == 6:
        file.create_dataset(name, (size,), "u1", external=[("/etc/passwd", 0, size)])
    elif change == 7:
        file.create_dataset(name, data=np.resize(content, (1, size)))
    elif change == 8:
        file.create_dataset(name, data=content[0])
    elif change == 9:
        dtype = np.dtype(rng.choice(_DTYPES))
        file.create_dataset(name, data=np.frombuffer(
            content.tobytes().ljust(8 * dtype.itemsize, b"\0")[:size // dtype.itemsize
                                                               * dtype.itemsize or dtype.itemsize],
            dtype))
    elif change == 10:
        many = rng.choice((0, 1, size - 1, size + 1, 1 << 20, 1 << 27, 1 << 33, 1 << 40))
        chunk = rng.choice((None, min(max(many, 1), 1 << 20)))
        file.create_dataset(name, (many,), content.dtype, chunks=(chunk,) if chunk else None,
                            compression="gzip" if chunk else None)
    elif change == 11:
        many = rng.choice((size, 1 << 16, 1 << 22))
        dataset = file.create_dataset(name, (many,), content.dtype, chunks=(many,),
                                      compression="gzip", shuffle=rng.random() < 0.5)
        inside = rng.choice((content.tobytes(), bytes(rng.choice((many, 1 << 24)))))
        chunk = zlib.compress(inside, 9)
        dataset.id.write_direct_chunk((0,), chunk[:rng.choice((len(chunk), len(chunk) // 2 + 1))])
    elif change == 12:
        file.create_group(name)
    else:
        file.create_dataset(name, data=content, chunks=(max(size // 2, 1),),
                            maxshape=rng.choice([(None,), (size,)]),
                            compression=rng.choice(["lzf", "gzip", None]),
                            fletcher32=rng.random() < 0.5)


def _json_bomb(rng: random.Random, file: h5py.File) -> None:
    """JSON that inflates a thousandfold, and once more when it becomes objects."""
    name = rng.choice(["index", "card", "architecture"])
    count = rng.choice((1 << 12, 1 << 16, 1 << 18, 1 << 20))
    node = rng.choice(("{}", '{"a":1}', "[]", "0", '"\U0001f4a5"', "[[[]]]"))
    text = '{"kernels":[' + ",".join([node] * count) + "]}"
    content = np.frombuffer(text.encode(), np.uint8)
    del file[name]
    dataset = file.create_dataset(name, content.shape, "u1", chunks=content.shape,
                                  compression="gzip")
    dataset.id.write_direct_chunk((0,), zlib.compress(content.tobytes(), 6))
