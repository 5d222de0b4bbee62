"""Execution plans of a container, all in one stream, since they share most of what they hold.

    stored = packed_graphs({"int8": graph, "float32": other})      # uint8
    packed_graphs is undone by unpacked_graphs(stored, limit, text_limit)

Plans of one model differ in a few operators; names, shapes, biases and scales recur in each. One
LZMA stream over all of them takes about half of what a deflated dataset each takes.
`FORMAT.md`, section 7.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxcompress.storage.model_card import plain_json
from cxcompress.storage.small_hdf5 import Unfit, parsed_json

PLAN_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22,
             # Flatbuffers are of 32-bit numbers: bytes are told apart by their place in one.
             "lc": 0, "lp": 2, "pb": 2}]
_DECODER_BYTES = 1 << 24
"""Most memory of the decoder; the dictionary above takes a quarter of it."""
_ALIGNMENT = 4
_LENGTH_BYTES, _TEXT_LENGTH_BYTES = 8, 4


@dataclass(frozen=True)
class Graph:
    """One execution plan: a flatbuffer without its kernels, and where these go.

    Args:
        flatbuffer: The graph's bytes.
        placement: JSON: where each kernel goes, in which axis order and scale.
    """

    flatbuffer: bytes
    placement: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "flatbuffer", bytes(self.flatbuffer))
        object.__setattr__(self, "placement", plain_json(self.placement))


def packed_graphs(graphs: Mapping[str, Graph]) -> NDArray[np.uint8]:
    """All plans as one vector: its length unpacked, then an `.xz` stream.

    Args:
        graphs: By name, at least one; the order does not matter.
    """
    ordered = sorted(graphs.items())
    text = json.dumps({name: {"bytes": len(graph.flatbuffer), "placement": graph.placement}
                       for name, graph in ordered},
                      separators=(",", ":"), allow_nan=False).encode()
    content = b"".join([len(text).to_bytes(_TEXT_LENGTH_BYTES, "little"), _padded(text),
                        *(_padded(graph.flatbuffer) for _, graph in ordered)])
    stream = lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=_FILTERS)
    return np.frombuffer(len(content).to_bytes(_LENGTH_BYTES, "little") + stream, np.uint8)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)


def unpacked_graphs(stored: NDArray[np.uint8], limit: int, text_limit: int) -> dict[str, Graph]:
    """What `packed_graphs` packed.

    Args:
        stored: The vector.
        limit: Most bytes that it may unpack to.
        text_limit: Most bytes of the placements, together.

    Raises:
        ValueError: If it is not what it says, or larger than a limit.
    """
    content = _decompressed(stored.tobytes(), limit)
    length = int.from_bytes(content[:_TEXT_LENGTH_BYTES], "little")
    if length > text_limit:
        raise Unfit(f"placements of {length} bytes, more than this file may hold ({text_limit})")
    end = _TEXT_LENGTH_BYTES + length
    listed = parsed_json(content[_TEXT_LENGTH_BYTES:end], "placements", text_limit)
    position, graphs = end + -length % _ALIGNMENT, {}
    for name, entry in listed.items():
        size = entry["bytes"]
        if type(size) is not int or not 0 <= size <= len(content) - position:
            raise ValueError(f"a graph of {size!r:.40} bytes in {len(content)}")
        graphs[name] = Graph(content[position:position + size], entry["placement"])
        position += size + -size % _ALIGNMENT
    if position != len(content):
        raise ValueError(f"graphs of {position} bytes in {len(content)}")
    return graphs


def _decompressed(stored: bytes, limit: int) -> bytes:
    size = int.from_bytes(stored[:_LENGTH_BYTES], "little")
    if size > limit:
        raise Unfit(f"graphs take {size} bytes, more than this file may hold ({limit})")
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_DECODER_BYTES)
    try:
        content = decoder.decompress(stored[_LENGTH_BYTES:], size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"graphs: {error}") from None
    if len(content) != size or not decoder.eof or decoder.unused_data:
        raise ValueError(f"graphs do not unpack to {size} bytes")
    return content
