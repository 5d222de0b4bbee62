"""The compressed model as one `.h5` file: write, read, identify.

    sizes = write_container("model.h5", Container(shared, architecture, {}, card, "uCWS"))
    sizes.total, sizes.bits_per_weight
    container = read_container("model.h5")       # equals what was written
    container.shared.kernel("conv2d/kernel")     # float32, in Keras' shape

The file is specified in `FORMAT.md`, so that a program without this package reads it too.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cxcompress import __version__, representation
from cxcompress.errors import InputError
from cxcompress.representation import (
    Codebook,
    EncodedKernel,
    EncodedKernels,
    KernelSize,
    KernelSizes,
    SharedKernel,
    SharedWeights,
)
from cxcompress.runs import write_atomic
from cxcompress.storage.graphs import PLAN_NAME, Graph, packed_graphs, unpacked_graphs
from cxcompress.storage.model_card import ModelCard
from cxcompress.storage.object_headers import check_object_headers
from cxcompress.storage.small_hdf5 import (
    Unfit,
    create_file,
    create_group,
    member,
    open_file,
    read_array,
    read_json,
    write_array,
    write_json,
)
from cxcompress.storage.user_block import (
    FORMAT_VERSION,
    MAGIC,
    USER_BLOCK_SIZE,
    check_user_block,
    sealed,
)

SMALLEST = "smallest"
AUTO = "auto"
"""Name that stands for the coder with the smallest result."""

MAX_TEXT_BYTES = 64_000_000
"""Most bytes of the architecture, the card, the index and a placement, each, in any file."""

MAX_KERNELS = 1 << 16
MAX_DIMENSIONS = 16

_BUFFERS = {"raw": "u1", "index_map": "u1",
            "rans_words": "<u4", "rans_states": "<u8", "rans_tables": "u1",
            "context_words": "<u2", "context_states": "<u4", "context_tables": "u1",
            "huffman_code": "u1", "huffman_states": "<u4", "huffman_tables": "u1",
            "sparse_huffman_code": "u1", "sparse_huffman_states": "<u4",
            "sparse_huffman_tables": "u1", "sparse_huffman_counts": "<u4",
            "sparse_huffman_rows": "u1",
            "sparse_index_map": "u1", "sparse_index_map_gaps": "u1",
            "sparse_index_map_counts": "<u4", "sparse_index_map_tables": "u1"}
_DIFFERENCES = "differences"
_WIDEST_GRID = 1 << 20
"""Largest |integer| of a codebook on a grid: float32 still tells all points apart."""
_UNSHARED_DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64",
                    "int64", "float16", "float32", "float64")
_CRAFTED = (ValueError, TypeError, KeyError, IndexError, OSError, RuntimeError, OverflowError,
            AttributeError)
"""What h5py, zlib, json and our own checks raise on a file that is not what it says."""


@dataclass(frozen=True)
class Container:
    """All that a container file holds.

    Args:
        shared: Codebooks, index maps and unshared weights. Unshared weights are booleans,
            integers or floats of 16 to 64 bits.
        architecture: The model as Keras writes it in JSON.
        graph: Execution plans by name, e.g. `"int8"`; empty or None: none.
        card: The model card.
        compression: Name of the compression, e.g. `"uCWS"`.
    """

    shared: SharedWeights
    architecture: str
    graph: Mapping[str, Graph] = field(default_factory=dict)
    card: ModelCard = field(default_factory=ModelCard)
    compression: str = ""

    def __post_init__(self):
        object.__setattr__(self, "graph", dict(self.graph or {}))
        for name in self.graph:
            if not PLAN_NAME.fullmatch(name):
                raise ValueError(f"a plan name is of letters, digits and _. Received: {name!r}")


@dataclass(frozen=True)
class ContainerSizes(KernelSizes):
    """Bytes of a container file by what they hold; `overhead` is what remains of `total`.

    Args:
        total: The file's length.
        unshared: Biases, BatchNormalization and kept-float kernels.
        architecture: The Keras JSON.
        graph: All plans.
        card: The model card.
        overhead: User block, HDF5's own structures and the index of names and shapes.
    """

    total: int
    unshared: int
    architecture: int
    graph: int
    card: int
    overhead: int

    def parts(self) -> dict[str, int]:
        """Bytes by part; they sum to `total`."""
        return {
            "index maps": self.streams, "coder tables": self.tables, "coder lanes": self.states,
            "codebooks": self.codebooks, "unshared weights": self.unshared,
            "architecture": self.architecture, "graphs": self.graph, "card": self.card,
            "file overhead": self.overhead,
        }


def write_container(
    path: str | os.PathLike, container: Container, *, coder: str = AUTO, overwrite: bool = False
) -> ContainerSizes:
    """Write a container: whole or not at all, and the same bytes for the same input.

    Args:
        path: The file to write, by custom `.h5`.
        container: What to write.
        coder: Name of the index coder; `"smallest"`: of each kernel whichever makes the file
            smallest, which takes as long as all of them; `"auto"`:
            `"context"` for TCQ, which it was made for, else `"rans"`, which decodes faster.
        overwrite: Replace an existing file.

    Returns:
        What the bytes are spent on.

    Raises:
        InputError: If the file exists, cannot be written, or holds what the format cannot.
        ValueError: If the coder is unknown.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of an .h5 file")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists; give --overwrite or another path")
    try:
        if coder == AUTO:
            coder = "context" if container.compression.endswith("TCQ") else "rans"
        image = _image(container, _encoded(container.shared, coder))
        with h5py.File(io.BytesIO(image), "r") as file:
            _read(file, len(image))  # what the reader's limits refuse is never written
            sizes = _sizes(file, _Index.read(file, _limit(len(image))), len(image))
    except Unfit as error:
        raise InputError(f"{path}: {error}") from None
    write_atomic(path, image)
    return sizes


def read_container(path: str | os.PathLike) -> Container:
    """Read a container.

    Index maps come back in the smallest type for their codebook (`index_dtype`).

    Raises:
        InputError: If the file is missing, no container, of a newer version, damaged or crafted.
    """
    with _opened(path) as (file, length):
        return _read(file, length)


def read_card(path: str | os.PathLike) -> ModelCard:
    """The model card alone; the weights are not decoded.

    Raises:
        InputError: As `read_container`.
    """
    with _opened(path) as (file, length):
        return _read_card(file, _limit(length))


def read_sizes(path: str | os.PathLike) -> ContainerSizes:
    """What the bytes of a container are spent on; the weights are not decoded.

    Raises:
        InputError: As `read_container`.
    """
    with _opened(path) as (file, length):
        return _sizes(file, _Index.read(file, _limit(length)), length)


def is_container(path: str | os.PathLike) -> bool:
    """Whether a file begins like a container; False for anything else, missing files too."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _read(file: h5py.File, length: int) -> Container:
    """The content of an open file; raises ValueError and what h5py raises if it is crafted."""
    limit = _limit(length)
    index = _Index.read(file, limit)
    index.check_weights(length)
    codebooks = _read_codebooks(file, index, limit)
    group = member(file, "kernels", h5py.Group)
    buffers = {name: read_array(group, name, _BUFFERS[name], length)
               for name in group if name in _BUFFERS}
    indices = EncodedKernels(index.kernels, buffers).decode()
    kernels = {path: SharedKernel(indices[path], codebook)
               for path, codebook in index.codebook_of.items()}
    architecture = read_array(file, "architecture", "u1", _text_limit(limit))
    return Container(
        SharedWeights(codebooks, kernels, _read_unshared(file, index, limit)),
        architecture.tobytes().decode(),
        _read_graphs(file, length),
        _read_card(file, limit),
        _attribute(file, "compression"),
    )


def _limit(length: int) -> int:
    """Most bytes that one dataset of a file of this length may take in memory."""
    return max(1 << 26, 64 * length)


def _text_limit(limit: int) -> int:
    """Most bytes of a text: it takes more as objects than as bytes, so small files hold less."""
    return min(limit // 16, MAX_TEXT_BYTES)


def _weight_limit(length: int) -> int:
    """Most shared weights of a file: nearly constant kernels take next to no bytes."""
    return min(max(1 << 26, 256 * length), 1 << 31)


def _encoded(shared: SharedWeights, coder: str) -> EncodedKernels:
    kernels = {path: (kernel.indices, shared.codebooks[kernel.codebook].k)
               for path, kernel in shared.kernels.items()}
    if coder == SMALLEST:
        return representation.encode_smallest(kernels)
    return representation.get(coder).encode_kernels(kernels)


@dataclass(frozen=True)
class _Index:
    """The file's JSON index: what lies in the packed arrays, in order."""

    codebooks: list[dict[str, Any]]
    kernels: dict[str, EncodedKernel]
    codebook_of: dict[str, str]
    unshared: dict[str, tuple[str, tuple[int, ...]]]

    def to_json(self) -> dict[str, Any]:
        return {
            "codebooks": self.codebooks,
            "kernels": [
                {"path": path, "shape": kernel.shape, "codebook": self.codebook_of[path],
                 "coder": kernel.coder, "table": kernel.table, "bits": kernel.bits}
                for path, kernel in self.kernels.items()],
            "unshared": [{"path": path, "dtype": dtype, "shape": shape}
                         for path, (dtype, shape) in self.unshared.items()],
        }

    @classmethod
    def read(cls, file: h5py.File, limit: int) -> _Index:
        content = read_json(file, "index", _text_limit(limit))
        codebooks: list[dict[str, Any]] = [
            {"name": _text(entry["name"]), "k": _integer(entry["k"], 1, representation.MAX_LEVELS),
             "zero": None if entry["zero"] is None else _integer(entry["zero"], 0, entry["k"] - 1),
             "step": _number(entry["step"]),
             "integers": bool(entry["integers"]),
             "first": (_integer(entry["first"], -_WIDEST_GRID, _WIDEST_GRID) if "first" in entry
                       else None),
             "grid": _number(entry.get("grid", entry["step"]))}
            for entry in content["codebooks"]]
        levels = {entry["name"]: entry["k"] for entry in codebooks}
        kernels, codebook_of, unshared = {}, {}, {}
        for entry in content["kernels"]:
            path, codebook = _text(entry["path"]), _text(entry["codebook"])
            table = entry["table"]
            kernels[path] = EncodedKernel(
                _shape(entry["shape"]), levels[codebook], _text(entry["coder"]),
                _integer(entry["bits"], 0, 1 << 36),
                None if table is None else _integer(table, 0, MAX_KERNELS))
            codebook_of[path] = codebook
        for entry in content["unshared"]:
            if entry["dtype"] not in _UNSHARED_DTYPES:
                raise ValueError(f"unshared weights of type {entry['dtype']!r}")
            unshared[_text(entry["path"])] = entry["dtype"], _shape(entry["shape"])
        names = [content["codebooks"], content["kernels"], content["unshared"]]
        if [len(levels), len(kernels), len(unshared)] != list(map(len, names)):
            raise ValueError("a name occurs twice in the index")
        if len(kernels) > MAX_KERNELS:
            raise Unfit(f"{len(kernels)} kernels, more than {MAX_KERNELS}")
        return cls(codebooks, kernels, codebook_of, unshared)

    def check_weights(self, length: int) -> None:
        """Raise ValueError if a file of this length may not hold so many shared weights."""
        weights = sum(kernel.size for kernel in self.kernels.values())
        if weights > _weight_limit(length):
            raise Unfit(f"{weights} shared weights, more than a file of {length} bytes may "
                         f"hold ({_weight_limit(length)})")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a name is text. Received: {value!r}")
    return value


def _integer(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"an integer of {low} … {high} was expected. Received: {value!r:.40}")
    return value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        raise Unfit(f"a shape is a list of at most {MAX_DIMENSIONS} sizes")
    return tuple(_integer(size, 0, 1 << 31) for size in value)


def _image(container: Container, encoded: EncodedKernels) -> bytes:
    """The bytes of the file."""
    shared = container.shared
    image = io.BytesIO()
    with create_file(image, USER_BLOCK_SIZE) as file:
        for name, value in (("format", "cxcompress"), ("created_with", f"cxcompress {__version__}"),
                            ("compression", container.compression)):
            text = value.encode()
            file.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(len(text), 1)))
        file.attrs.create("format_version", FORMAT_VERSION, dtype="<u4")
        codebooks = _write_codebooks(file, shared.codebooks)
        group = create_group(file, "kernels")
        for name, buffer in encoded.buffers.items():
            write_array(group, name, buffer, deflate=False)
        index = _Index(
            codebooks, dict(encoded.kernels),
            {path: kernel.codebook for path, kernel in shared.kernels.items()},
            _write_unshared(file, shared.unshared))
        write_json(file, "index", index.to_json())
        _write_bytes(file, "architecture", container.architecture.encode())
        if container.graph:
            write_array(file, "graphs", packed_graphs(container.graph), deflate=False)
        write_json(file, "card", container.card.to_dict())
    return sealed(image.getvalue())


def _write_bytes(group: h5py.Group, name: str, content: bytes) -> None:
    write_array(group, name, np.frombuffer(content, np.uint8))


def _write_codebooks(file: h5py.File, codebooks: Mapping[str, Codebook]) -> list[dict[str, Any]]:
    """Values end to end: integers, where a step × integer gives them back, else float32.

    Integers are stored by their differences, of which most are 1, so that next to nothing is left.
    """
    entries: list[dict[str, Any]] = []
    differences: list[NDArray] = []
    floats: list[NDArray] = []
    for name, codebook in codebooks.items():
        entry: dict[str, Any] = {
            "name": name, "k": codebook.k, "integers": False,
            "zero": None if codebook.zero is None else int(codebook.zero),
            "step": None if codebook.step is None else float(codebook.step)}
        entries.append(entry)
        found = _on_a_grid(codebook)
        if found is None:
            floats.append(codebook.values)
            continue
        integers, step = found
        differences.append(np.diff(integers, prepend=integers[:1]).astype(np.uint8))
        entry |= {"integers": True, "first": int(integers[0])}
        if step != entry["step"]:
            entry["grid"] = step
    group = create_group(file, "codebooks")
    for name, parts in ((_DIFFERENCES, differences), ("float32", floats)):
        if parts:
            write_array(group, name, np.concatenate(parts))
    return entries


def _on_a_grid(codebook: Codebook) -> tuple[NDArray[np.int64], float] | None:
    """Integers and the step that give a codebook's values back exactly, or None.

    Grids of more than 255 points have no `step`, since int8 kernels cannot hold them; theirs is
    found from the largest value, as a float32 or one of its neighbours.
    """
    values = codebook.values.astype(np.float64)
    steps = [] if codebook.step is None else [float(codebook.step)]
    if codebook.k > 2:
        largest = values[np.argmax(np.abs(values))]
        guess = np.float32(largest / np.rint(largest / np.diff(values).min()))
        steps += [float(step) for step in (
            guess, np.nextafter(guess, np.float32(0)), np.nextafter(guess, np.float32(np.inf)))]
    for step in steps:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            integers = np.rint(values / step)
        if not np.abs(integers).max() <= _WIDEST_GRID:
            continue
        integers = integers.astype(np.int64)
        if (np.diff(integers).max(initial=0) < 256
                and _grid_values(integers, step).tobytes() == codebook.values.tobytes()):
            return integers, step
    return None


def _grid_values(integers: NDArray[np.integer], step: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # of crafted files: no codebook holds infinity
        return (integers.astype(np.float64) * step).astype(np.float32)


def _read_codebooks(file: h5py.File, index: _Index, limit: int) -> dict[str, Codebook]:
    group = member(file, "codebooks", h5py.Group)
    floats, old = (_Reader(group, name, name, limit) for name in ("float32", "int8"))
    differences = _Reader(group, _DIFFERENCES, "uint8", limit)
    codebooks = {}
    for entry in index.codebooks:
        if not entry["integers"]:
            values = floats(entry["k"])
        else:
            integers = (old(entry["k"]) if entry["first"] is None  # format 1
                        else entry["first"] + np.cumsum(differences(entry["k"]), dtype=np.int64))
            values = _grid_values(integers, entry["grid"])
        codebooks[entry["name"]] = Codebook(values, entry["zero"], entry["step"])
    for reader in (floats, old, differences):
        reader.finish()
    return codebooks


def _write_unshared(
    file: h5py.File, unshared: Mapping[str, NDArray]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Arrays end to end, one dataset a type."""
    group = create_group(file, "unshared")
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    parts: dict[str, list[NDArray]] = {}
    for path, array in unshared.items():
        array = np.asarray(array)
        if array.dtype.name not in _UNSHARED_DTYPES:
            raise Unfit(f"the weight {path} is of type {array.dtype}; the format holds "
                         f"{', '.join(_UNSHARED_DTYPES)}")
        entries[path] = array.dtype.name, array.shape
        parts.setdefault(array.dtype.name, []).append(array.reshape(-1))
    for name, arrays in sorted(parts.items()):
        vector = np.concatenate(arrays)
        write_array(group, name, vector.view(np.uint8) if name == "bool" else vector)
    return entries


def _read_unshared(file: h5py.File, index: _Index, limit: int) -> dict[str, NDArray]:
    group = member(file, "unshared", h5py.Group)
    names = dict.fromkeys(name for name, _ in index.unshared.values())
    take = {name: _Reader(group, name, "uint8" if name == "bool" else name, limit)
            for name in names}
    unshared = {}
    for path, (name, shape) in index.unshared.items():
        unshared[path] = take[name](math.prod(shape)).reshape(shape)
    for reader in take.values():
        reader.finish()
    return unshared


class _Reader:
    """Takes arrays off a packed dataset, one after the other; each is a copy of its own."""

    def __init__(self, group: h5py.Group, name: str, dtype: Any, limit: int):
        self.name = f"{group.name}/{name}"
        dtype = np.dtype(dtype).newbyteorder("<")
        present = _has(group, name)
        self.vector = read_array(group, name, dtype, limit) if present else np.empty(0, dtype)
        if name == "bool":
            if self.vector.size and self.vector.max() > 1:
                raise ValueError(f"{self.name} holds 0 and 1")
            self.vector = self.vector.view(np.bool_)
        self.position = 0

    def __call__(self, count: int) -> NDArray:
        start = self.position
        self.position += count
        if self.position > self.vector.size:
            raise ValueError(f"{self.name} ends too early")
        part = self.vector[start : self.position]
        return part.astype(part.dtype.newbyteorder("="))

    def finish(self) -> None:
        if self.position != self.vector.size:
            raise ValueError(f"{self.name} holds more than the index lists")


def _read_graphs(file: h5py.File, length: int) -> dict[str, Graph]:
    limit = _limit(length)
    if _has(file, "graphs"):
        return unpacked_graphs(read_array(file, "graphs", "u1", length), limit, _text_limit(limit))
    if not _has(file, "graph"):
        return {}
    plans = member(file, "graph", h5py.Group)  # format 1: two datasets a plan
    graphs = {}
    for name in plans:
        group = member(plans, name, h5py.Group)
        graphs[name] = Graph(read_array(group, "flatbuffer", "u1", limit).tobytes(),
                             read_json(group, "placement", _text_limit(limit)))
    return graphs


def _has(group: h5py.Group, name: str) -> bool:
    """Whether there is such a link, wherever it leads."""
    return bool(group.id.links.exists(name.encode()))


def _read_card(file: h5py.File, limit: int) -> ModelCard:
    return ModelCard.from_dict(read_json(file, "card", _text_limit(limit)))


def _attribute(file: h5py.File, name: str) -> str:
    """A root attribute of fixed-length text; anything else is refused."""
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != () or attribute.dtype.kind != "S" or attribute.dtype.itemsize > 65_536:
        raise ValueError(f"the attribute {name} is short text")
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    return value.item().decode()


def _stated_version(file: h5py.File) -> int:
    """The format's version as the root attribute states it, under the checksum."""
    attribute = h5py.h5a.open(file.id, b"format_version")
    if attribute.shape != () or attribute.dtype != np.dtype("<u4"):
        raise ValueError("the attribute format_version is one number of type <u4")
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    return int(value)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[h5py.File, int]]:
    """The verified file and its length; whatever a crafted file provokes is an `InputError`."""
    try:
        raw = open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give an .h5 file that cxcompress wrote") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an .h5 file that "
                         "cxcompress wrote") from None
    with raw:
        length, version = check_user_block(raw, path)
        try:
            with open_file(raw, length) as file:
                if _attribute(file, "format") != "cxcompress":
                    raise ValueError("its root attribute format is not cxcompress")
                check_object_headers(raw, file)
                if _stated_version(file) != version:
                    raise ValueError("its two statements of the format's version differ")
                yield file, length
        except InputError:
            raise
        except _CRAFTED as error:
            raise InputError(f"{path}: not a valid container ({error}); its checksum is right, "
                             "so it was made by something else than cxcompress") from error


def _sizes(file: h5py.File, index: _Index, length: int) -> ContainerSizes:
    """Stored bytes by part."""

    def stored(*names: str, of: Callable[[str], bool] = lambda name: True) -> int:
        total = 0
        for name in names:
            found = file.get(name)
            if isinstance(found, h5py.Dataset):
                total += found.id.get_storage_size()
            elif found is not None:
                total += stored(*(f"{name}/{child}" for child in found if of(child)))
        return total

    parts = {
        "streams": stored("kernels", of=lambda name: not name.endswith(("_tables", "_states"))),
        "tables": stored("kernels", of=lambda name: name.endswith("_tables")),
        "states": stored("kernels", of=lambda name: name.endswith("_states")),
    } | {name: stored(name) for name in ("codebooks", "unshared", "architecture", "card")}
    parts["graph"] = stored("graph", "graphs")
    kernels = {path: KernelSize(kernel.size, kernel.bits, kernel.coder)
               for path, kernel in index.kernels.items()}
    return ContainerSizes(**parts, kernels=kernels, total=length,
                          overhead=length - sum(parts.values()))
