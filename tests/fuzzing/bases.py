"""The containers that fuzzing begins with: tiny, every coder, every type, easy to edit in place.

    for base in all_bases():
        base.image                   # bytes of a sound container
        base.spans["index"]          # where a dataset lies in it: offset, bytes, item size
        base.container               # what it holds

Datasets are contiguous and the JSON ones padded with spaces, so that a mutation is an edit in place
and a new seal (some 50 µs), not a file written by HDF5 (some 3 ms). `blocks` are the stretches of
HDF5's own structures that end in a checksum.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from cxcompress.quantization import Compression, share_weights
from cxcompress.representation import Codebook, SharedKernel, SharedWeights, context
from cxcompress.runtime.filling import PlacedKernel, graph_without_kernels
from cxcompress.storage import Container, ModelCard, read_container, write_container
from cxcompress.storage.graphs import unpacked_graphs
from cxcompress.storage.small_hdf5 import create_file, create_group
from cxcompress.storage.user_block import USER_BLOCK_SIZE, sealed

CORPUS = Path(__file__).with_name("corpus")
_PADDING = 300
_SIGNATURES = (b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF", b"BTIN", b"FSHD",
               b"\x89HDF\r\n\x1a\n")
_LONGEST_BLOCK = 4096


@dataclass(frozen=True)
class Base:
    """A sound container to start from.

    Args:
        name: For reports.
        image: The whole file, sealed.
        container: What it holds.
        spans: Of each dataset by path: offset, bytes, bytes of an item.
        blocks: Offset and length of HDF5's checked blocks, the checksum behind each.
    """

    name: str
    image: bytes
    container: Container
    spans: dict[str, tuple[int, int, int]]
    blocks: tuple[tuple[int, int], ...]


def all_bases() -> list[Base]:
    """Every coder's container, one whose kernels have a coder each, and the kept corpus."""
    container = tiny_container()
    one_graph = _written(with_graph_alone(container), "raw")
    coders = ("raw", "index_map", "rans", "context", "huffman", "sparse_huffman",
              "sparse_index_map", "smallest")
    bases = [_base(coder, _written(one_kernel(container), coder)) for coder in coders[:-1]]
    bases += [_base("whole", _written(container, "rans")),
              _base("graph", one_graph), _base("graph of format 1", _of_format_1(one_graph)),
              _base("smallest", _written(container, "smallest")),
              _base("trellis", _written(trellis_container(), "context")),
              _base("separable", separable_image()),
              _base("deflated", _written(container, "rans"), rewrite=False)]
    bases += [_base(path.stem, path.read_bytes(), rewrite=False)
              for path in sorted(CORPUS.glob("*.h5")) if _is_sound(path)]
    return bases


def tiny_container() -> Container:
    """One of each thing that a container can hold, in some hundred weights."""
    rng = np.random.default_rng(0)
    grid = np.float32(0.01) * np.arange(-8, 8, dtype=np.float32)
    codebooks = {"conv": Codebook(np.sort(rng.normal(size=20)).astype(np.float32)),
                 "dense": Codebook(grid, zero=8, step=0.01),
                 "wide": Codebook(np.sort(rng.normal(size=300)).astype(np.float32)),
                 "one": Codebook(np.float32([0.25]))}
    codes = np.clip(rng.normal(10, 3, (3, 3, 2, 4)), 0, 19).astype(np.uint8)
    kernels = {
        "conv/kernel": SharedKernel(codes, "conv"),
        "head/kernel": SharedKernel(rng.integers(0, 16, (6, 3)).astype(np.uint8), "dense"),
        "wide/kernel": SharedKernel(rng.integers(0, 300, (5, 2)).astype(np.uint16), "wide"),
        "one/kernel": SharedKernel(np.zeros((3, 3, 2, 1), np.uint8), "one")}
    unshared = {"conv/bias": rng.normal(size=4).astype(np.float32),
                "half/kernel": rng.normal(size=(2, 3)).astype(np.float16),
                "seed": np.array([1, 2**32 - 1], np.uint32), "mask": np.array([[True], [False]]),
                "count": np.array(7, np.int64), "none": np.empty((0, 3), np.float32)}
    whole = rng.bytes(1000)
    placed = [
        PlacedKernel("conv/kernel", 64, (3, 0, 1, 2), (4, 3, 3, 2), 0, "int8",
                     rng.normal(size=4).astype(np.float32)),
        PlacedKernel("head/kernel", 160, (1, 0), (3, 6), 0, "float32", np.float32([2.0])),
        PlacedKernel("half/kernel", 400, (0, 1), (2, 3), 1, "float32", np.float32([1, 2, 3]))]
    graph = {"int8": graph_without_kernels(whole, placed, rounded=[], float=[]),
             "float32": graph_without_kernels(whole, [placed[1]])}
    card = ModelCard(task="multilabel", classes=("effusion", "Knötchen"), thresholds=(0.25, 0.5),
                     preprocessing={"size": (8, 8), "mean": [0.5]}, recommended_plan="int8",
                     provenance={"seed": 3}, metrics={"auroc": 0.75}, from_logits=True)
    return Container(SharedWeights(codebooks, kernels, unshared), '{"class_name": "Functional"}',
                     graph, card, "uCWS")


def one_kernel(container: Container) -> Container:
    """The little that a coder needs: such files are read three times as fast."""
    shared = container.shared
    return dataclasses.replace(container, graph=None, shared=SharedWeights(
        {"conv": shared.codebooks["conv"]}, {"conv/kernel": shared.kernels["conv/kernel"]},
        {"conv/bias": shared.unshared["conv/bias"]}))


def with_graph_alone(container: Container) -> Container:
    """The kernels that the plan `int8` names, and this plan."""
    shared = container.shared
    return dataclasses.replace(container, graph={"int8": container.graph["int8"]},
                               shared=SharedWeights(
        {name: shared.codebooks[name] for name in ("conv", "dense")},
        {path: shared.kernels[path] for path in ("conv/kernel", "head/kernel")},
        {"half/kernel": shared.unshared["half/kernel"]}))


def trellis_container() -> Container:
    """Kernels that obey a trellis code."""
    random = np.random.default_rng(0)
    kernels = {path: (random.laplace(size=shape), "conv") for path, shape in {
        "a/kernel": (3, 3, 3, 4), "b/kernel": (3, 3, 4, 1)}.items()}
    return dataclasses.replace(
        tiny_container(), graph=None, compression="uTCQ",
        shared=share_weights(kernels, Compression.parse("uTCQ", clustercnn=31)))


@contextmanager
def separable_scales():
    """Within it `context` takes scales that are products, as larger files do by themselves."""
    before = context._MIXTURES
    context._MIXTURES = ((context.SEPARABLE, 15, 16),)
    try:
        yield
    finally:
        context._MIXTURES = before


def separable_image() -> bytes:
    """The file of a container whose scales are products."""
    with separable_scales():
        return _written(dataclasses.replace(tiny_container(), graph=None), "context")


def _written(container: Container, coder: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        write_container(path, container, coder=coder)
        return path.read_bytes()


def _of_format_1(image: bytes) -> bytes:
    """The same with two datasets a plan and integers as they are, as in files of format 1."""
    target = io.BytesIO(image)
    with h5py.File(target, "r+") as file:
        stored = file["graphs"][()]
        del file["graphs"]
        index = json.loads(file["index"][()].tobytes())
        books = [book for book in index["codebooks"] if book["integers"]]
        parts = np.split(file["codebooks/differences"][()],
                         np.cumsum([book["k"] for book in books])[:-1])
        integers = [book.pop("first") + np.cumsum(part, dtype=int)
                    for book, part in zip(books, parts, strict=True)]
        del file["codebooks/differences"], file["index"]
        for name, data in (("codebooks/int8", np.concatenate(integers).astype(np.int8)),
                           ("index", np.frombuffer(json.dumps(index).encode(), np.uint8))):
            file.create_dataset(name, data=data, track_times=False)
        for name, graph in unpacked_graphs(stored, 1 << 26, 1 << 22).items():
            group = create_group(file.require_group("graph"), name)
            group.create_dataset("flatbuffer", data=np.frombuffer(graph.flatbuffer, np.uint8),
                                 track_times=False)
            text = json.dumps(graph.placement).encode()
            group.create_dataset("placement", data=np.frombuffer(text, np.uint8),
                                 track_times=False)
    return sealed(target.getvalue())


def _is_sound(path: Path) -> bool:
    try:
        read_container(path)
    except ValueError:
        return False
    return True


def _base(name: str, image: bytes, rewrite: bool = True) -> Base:
    if rewrite:
        image = _rewritten(image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        path.write_bytes(image)
        container = read_container(path)
    with h5py.File(io.BytesIO(image), "r") as file:
        spans = {}
        file.visititems(lambda inside, item: _span(inside, item, spans))
    return Base(name, image, container, spans, tuple(_blocks(image)))


def _span(inside: str, item, spans: dict) -> None:
    if isinstance(item, h5py.Dataset) and item.size:
        plist = item.id.get_create_plist()
        if plist.get_layout() == h5py.h5d.CHUNKED:
            info = item.id.get_chunk_info(0)
            spans[inside] = info.byte_offset, info.size, 1
        else:
            spans[inside] = item.id.get_offset(), item.nbytes, item.dtype.itemsize


def _rewritten(image: bytes) -> bytes:
    """The same file with contiguous datasets and padded JSON."""
    target = io.BytesIO()
    with h5py.File(io.BytesIO(image), "r") as old, create_file(target, USER_BLOCK_SIZE) as new:
        for name, value in old.attrs.items():
            kind = old.attrs.get_id(name).dtype
            new.attrs.create(name, value, dtype=kind)

        def copy(group, into):
            for name, item in group.items():
                if isinstance(item, h5py.Group):
                    copy(item, create_group(into, name))
                    continue
                content = item[()]
                if name in ("index", "card", "placement"):
                    text = json.dumps(json.loads(content.tobytes())).encode()
                    content = np.frombuffer(text.ljust(len(text) + _PADDING), np.uint8)
                into.create_dataset(name, data=content, track_times=False)

        copy(old, new)
    return sealed(target.getvalue())


def _blocks(image: bytes):
    for signature in _SIGNATURES:
        start = image.find(signature, USER_BLOCK_SIZE)
        while start >= 0:
            for length in range(12, min(_LONGEST_BLOCK, len(image) - start - 4)):
                stored = image[start + length:start + length + 4]
                if stored != b"\0\0\0\0" and lookup3(
                        image[start:start + length]).to_bytes(4, "little") == stored:
                    yield start, length
                    break
            start = image.find(signature, start + 1)


def lookup3(key: bytes) -> int:
    """The checksum of HDF5's structures. Reference: Bob Jenkins, lookup3.c, `hashlittle`, 2006."""
    mask = 0xFFFFFFFF
    length = len(key)
    a = b = c = (0xDEADBEEF + length) & mask
    if not length:
        return c
    last = (length - 1) // 12 * 12
    words = np.frombuffer(key[:last], "<u4").tolist()
    for place in range(0, len(words), 3):
        a, b, c = (a + words[place]) & mask, b + words[place + 1] & mask, c + words[place + 2]
        c &= mask
        a = (a - c & mask) ^ (c << 4 & mask | c >> 28)
        c = c + b & mask
        b = (b - a & mask) ^ (a << 6 & mask | a >> 26)
        a = a + c & mask
        c = (c - b & mask) ^ (b << 8 & mask | b >> 24)
        b = b + a & mask
        a = (a - c & mask) ^ (c << 16 & mask | c >> 16)
        c = c + b & mask
        b = (b - a & mask) ^ (a << 19 & mask | a >> 13)
        a = a + c & mask
        c = (c - b & mask) ^ (b << 4 & mask | b >> 28)
        b = b + a & mask
    tail = key[last:].ljust(12, b"\0")
    first, second, third = np.frombuffer(tail, "<u4").tolist()
    a, b, c = a + first & mask, b + second & mask, c + third & mask
    for x, y, turn in (("c", "b", 14), ("a", "c", 11), ("b", "a", 25), ("c", "b", 16),
                       ("a", "c", 4), ("b", "a", 14), ("c", "b", 24)):
        values = {"a": a, "b": b, "c": c}
        value, other = values[x] ^ values[y], values[y]
        value = value - (other << turn & mask | other >> (32 - turn)) & mask
        a, b, c = (value if x == "a" else a, value if x == "b" else b, value if x == "c" else c)
    return c
