"""The reader's law, coder by coder: 3 × the decoded size as float32, and 32 MB."""

import tracemalloc

import numpy as np
import pytest

from cxcompress import representation
from cxcompress.representation import column_coders

ALLOWED_BYTES = 32 << 20


def decoded_with_peak(coder: str, kernel: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    encoded = representation.get(coder).encode_kernels({"a": (kernel, k)})
    tracemalloc.start()
    try:
        return encoded.decode()["a"], tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coder", sorted(representation.names()))
@pytest.mark.parametrize(("shape", "k"), [
    ((2400, 2000), 250), ((16, 300_000), 7), ((1, 2_000_000), 7), ((2, 1_000_000), 7),
    ((131_072 * 2, 1), 7)])
def test_no_shape_takes_more(coder, shape, k):
    kernel = np.random.default_rng(0).integers(0, k, shape).astype(np.uint8)
    found, peak = decoded_with_peak(coder, kernel, k)
    np.testing.assert_array_equal(found, kernel)
    assert peak < 3 * 4 * kernel.size + ALLOWED_BYTES


@pytest.mark.parametrize("coder", ["huffman", "sparse_huffman", "sparse_index_map"])
def test_more_short_columns_than_memory_allows_are_packed_raw_and_refused(coder, monkeypatch):
    kernels = {"a": (np.arange(900).reshape(3, 300).astype(np.uint8) % 3, 3)}
    monkeypatch.setattr(column_coders, "MAX_SHORT_COLUMNS", 200)
    assert representation.get(coder).encode_kernels(kernels).kernels["a"].coder == "raw"
    monkeypatch.undo()
    encoded = representation.get(coder).encode_kernels(kernels)
    assert encoded.kernels["a"].coder == coder
    monkeypatch.setattr(column_coders, "MAX_SHORT_COLUMNS", 200)
    with pytest.raises(ValueError, match="300 columns: more than 200"):
        encoded.decode()
