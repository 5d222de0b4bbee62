"""Plans in one stream: exact round trips, and streams that lie."""

from __future__ import annotations

import json
import lzma
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.storage.graphs import Graph, packed_graphs, unpacked_graphs

LIMIT = 1 << 26
PLACEMENTS = st.dictionaries(st.text(max_size=8), st.one_of(
    st.integers(-2**53, 2**53), st.text(max_size=8), st.lists(st.integers(0, 99), max_size=5)),
    max_size=4)
GRAPHS = st.dictionaries(st.text("abcXYZ019_", min_size=1, max_size=64), st.builds(
    Graph, st.binary(max_size=300), PLACEMENTS), min_size=1, max_size=5)


@given(GRAPHS)
def test_what_was_packed_comes_back(graphs):
    stored = packed_graphs(graphs)
    assert stored.dtype == np.uint8
    assert unpacked_graphs(stored, LIMIT, LIMIT) == dict(sorted(graphs.items()))
    np.testing.assert_array_equal(stored, packed_graphs(dict(reversed(graphs.items()))))


def test_plans_that_are_alike_take_little_more_than_one():
    rng = np.random.default_rng(0)
    one = rng.bytes(5000)
    graphs = {name: Graph(one + name.encode() + rng.bytes(50)) for name in ("a", "b", "c")}
    assert packed_graphs(graphs).size < packed_graphs({"a": graphs["a"]}).size + 400


def stream(content: bytes, size: int | None = None, **options) -> np.ndarray:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, **options}]
    packed = lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=filters)
    size = len(content) if size is None else size
    return np.frombuffer(size.to_bytes(8, "little") + packed, np.uint8)


def content(listed, tail: bytes = b"", length: int | None = None) -> bytes:
    text = listed if isinstance(listed, bytes) else json.dumps(listed).encode()
    text = text.ljust((len(text) + 3) // 4 * 4)
    return (len(text) if length is None else length).to_bytes(4, "little") + text + tail


SOUND = content({"a": {"bytes": 8, "placement": {}}}, bytes(8))


def test_the_crafted_streams_differ_from_a_sound_one_in_one_thing():
    assert unpacked_graphs(stream(SOUND), LIMIT, LIMIT) == {"a": Graph(bytes(8))}


@pytest.mark.parametrize("stored", [
    stream(SOUND, size=len(SOUND) - 1), stream(SOUND, size=len(SOUND) + 1), stream(SOUND, size=0),
    stream(SOUND, size=1 << 63), stream(b""), stream(SOUND)[:-1], stream(SOUND)[:9],
    stream(SOUND)[:3], np.r_[stream(SOUND), stream(SOUND)[8:]], np.r_[stream(SOUND), np.uint8([0])],
    stream(content({"a": {"bytes": 9, "placement": {}}}, bytes(8))),
    stream(content({"a": {"bytes": -4, "placement": {}}}, bytes(8))),
    stream(content({"a": {"bytes": 4, "placement": {}}}, bytes(8))),
    stream(content({"a": {"bytes": 1 << 70, "placement": {}}}, bytes(8))),
    stream(content({"a": {"bytes": True, "placement": {}}}, bytes(8))),
    stream(content({"a": {"bytes": 8.0, "placement": {}}}, bytes(8))),
    stream(content({"a": {"bytes": 8}}, bytes(8))), stream(content([1, 2])),
    stream(content(b"{NaN")), stream(content(b"\xff\xfe")), stream(content(b"[" * 100_000)),
    stream(content({}, length=1 << 31)), stream(content({}, length=100)),
    stream(SOUND, dict_size=1 << 28)])
def test_streams_that_lie_are_refused(stored):
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError, IndexError)):
        unpacked_graphs(stored, LIMIT, 1 << 22)


def test_a_bomb_takes_little_memory():
    bomb = stream(bytes(1 << 28), size=1 << 20)
    values = stream(content(b"[" + b"{}," * (1 << 20) + b"0]"))
    tracemalloc.start()
    try:
        for stored in (bomb, values):
            with pytest.raises(ValueError):
                unpacked_graphs(stored, LIMIT, 1 << 22)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
