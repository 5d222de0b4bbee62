"""Laws of the index coders: exact inverse, near the entropy, and no wrong array from damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxcompress import representation
from cxcompress.representation import EncodedIndices, EncodedKernels, entropy_bits, index_dtype
from cxcompress.representation.column_coders import MAX_ROWS as MAX_COLUMN
from cxcompress.representation.rans import MAX_ROWS

CODERS = ("raw", "index_map", "rans", "context", "huffman", "sparse_huffman",
          "sparse_index_map")


@st.composite
def index_maps(draw, max_side=9):
    k = draw(st.one_of(st.integers(1, 20), st.integers(1, 65_536),
                       st.sampled_from([1, 2, 255, 256, 257, 4096, 4097, 65_536])))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=max_side))
    high = draw(st.sampled_from([k, min(k, 3), 1]))
    elements = st.integers(k - high, k - 1)
    return draw(hnp.arrays(index_dtype(k), shape, elements=elements)), k


def laplace_indices(size: int, k: int, scale: float, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).laplace(size=size, scale=scale)
    return np.clip(np.rint(weights + k / 2), 0, k - 1).astype(index_dtype(k))


def assert_same(found: np.ndarray, expected: np.ndarray, k: int) -> None:
    assert found.dtype == index_dtype(k) and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", CODERS)
@given(index_maps())
@settings(max_examples=100)
def test_decode_is_the_exact_inverse_of_encode(name, pair):
    indices, k = pair
    encoded = representation.get(name).encode(indices, k)
    assert encoded.shape == indices.shape and encoded.k == k
    assert encoded.nbytes == sum(buffer.nbytes for buffer in encoded.buffers.values())
    assert_same(encoded.decode(), indices, k)


@pytest.mark.parametrize("name", CODERS)
@given(st.lists(index_maps(max_side=6), max_size=6))
@settings(max_examples=40)
def test_all_kernels_of_a_file_come_back_in_order(name, pairs):
    kernels = {f"layer_{i}/kernel": pair for i, pair in enumerate(pairs)}
    decoded = representation.get(name).encode_kernels(kernels).decode()
    assert list(decoded) == list(kernels)
    for path, (indices, k) in kernels.items():
        assert_same(decoded[path], indices, k)


@given(size=st.integers(0, 40_000), k=st.sampled_from([2, 3, 16, 256, 257, 1000, 4096]),
       spread=st.floats(0.05, 0.4), rare=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_rans_stays_within_one_percent_and_64_bytes_of_the_entropy(size, k, spread, rare, seed):
    indices = laplace_indices(size, k, spread * (0.05 if rare else 1) * k, seed)
    encoded = representation.get("rans").encode(indices, k)
    assert_same(encoded.decode(), indices, k)
    if encoded.coder == "rans":
        bound = entropy_bits(indices, k) * size / 8
        assert encoded.buffers["rans_words"].nbytes <= 1.01 * bound + 64
    else:  # only where packing beats code and table together
        assert encoded.nbytes <= representation.get("raw").encode(indices, k).nbytes


def test_rans_law_holds_for_each_of_many_kernels_and_levels_that_are_nearly_never_used():
    rng = np.random.default_rng(1)
    pruned = np.where(rng.random(300_000) < 0.99, 128, rng.integers(0, 256, 300_000))
    kernels = {f"{i}": (laplace_indices(size, 256, 4 + 3 * i, i), 256)
               for i, size in enumerate((9, 432, 2304, 30_000, 120_000, 250_000))}
    kernels["pruned"] = (pruned.astype(np.uint8), 256)
    encoded = representation.get("rans").encode_kernels(kernels)
    bounds = {path: entropy_bits(*pair) * pair[0].size / 8 for path, pair in kernels.items()}
    for path, kernel in encoded.kernels.items():
        if kernel.coder == "rans":
            assert kernel.bits / 8 <= 1.01 * bounds[path] + 64, path
    words = encoded.buffers["rans_words"].nbytes
    assert words <= 1.01 * sum(bounds.values()) + 64 * len(kernels)
    assert encoded.buffers["rans_states"].nbytes <= 0.003 * words
    for path, indices in encoded.decode().items():
        assert_same(indices, kernels[path][0], 256)


def test_kernels_of_one_distribution_share_a_table_and_others_do_not():
    alike = {f"{i}": (laplace_indices(3000, 64, 5, i), 64) for i in range(8)}
    other = {"other": (laplace_indices(400_000, 64, 1.5, 99), 64)}
    encoded = representation.get("rans").encode_kernels(alike | other)
    tables = {path: kernel.table for path, kernel in encoded.kernels.items()}
    assert len({tables[path] for path in alike}) == 1
    assert tables["other"] != tables["0"]


def test_rans_says_when_raw_holds_the_indices():
    wide = np.arange(65_536, dtype=np.uint16)
    assert representation.get("rans").encode(wide, 65_536).coder == "raw"
    assert representation.get("rans").encode(wide[:4097], 4097).coder == "raw"
    flat = np.arange(200, dtype=np.uint8)
    assert representation.get("rans").encode(flat, 256).coder == "raw"
    assert representation.get("rans").encode(np.zeros(10**6, np.uint8), 256).coder == "rans"


@pytest.mark.parametrize("k", [2, 256, 4096])
def test_a_constant_kernel_costs_next_to_nothing(k):
    indices = np.full((1000, 1000), k - 1, index_dtype(k))
    encoded = representation.get("rans").encode(indices, k)
    assert encoded.nbytes < 100
    assert_same(encoded.decode(), indices, k)


def test_one_shared_value_takes_no_bits():
    assert representation.get("raw").encode(np.zeros((30, 7), np.uint8), 1).nbytes == 0
    assert representation.get("index_map").encode(np.zeros(30, np.uint8), 1).nbytes == 30


@given(k=st.integers(1, 65_536), size=st.integers(0, 300))
@settings(max_examples=60)
def test_raw_takes_ceil_log2_k_bits_an_index(k, size):
    indices = np.random.default_rng(k).integers(0, k, size)
    expected = -(-size * int(np.ceil(np.log2(k))) // 8)
    assert representation.get("raw").encode(indices, k).nbytes == expected


def test_axis_order_and_strides_do_not_matter():
    indices = laplace_indices(7 * 6 * 5, 32, 4).reshape(7, 6, 5)
    for view in (indices.T, indices[::-2, :, 1:], np.asfortranarray(indices)):
        for name in CODERS:
            assert_same(representation.get(name).encode(view, 32).decode(), view, 32)


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize(("indices", "k"), [
    (np.array([0, 3]), 3), (np.array([-1]), 3), (np.array([0.0]), 3), (np.array([0]), 0),
    (np.array([0]), 65_537), (np.array([True]), 2)])
def test_indices_out_of_range_are_refused(name, indices, k):
    with pytest.raises(ValueError, match="Received"):
        representation.get(name).encode(indices, k)


def test_unknown_coder_is_named():
    with pytest.raises(ValueError, match="raw, index_map, rans. Received: 'zip'"):
        representation.get("zip")


# Damage: an exact result or one ValueError, never a wrong array where the stream can tell.

def altered(encoded: EncodedIndices, name: str, buffer: np.ndarray) -> EncodedIndices:
    return EncodedIndices(encoded.coder, encoded.shape, encoded.k,
                          {**encoded.buffers, name: buffer})


@pytest.mark.parametrize("name", CODERS)
@given(data=st.data())
@settings(max_examples=25)
def test_a_buffer_of_another_length_is_refused(name, data):
    encoded = representation.get(name).encode(laplace_indices(5000, 200, 20), 200)
    buffer = data.draw(st.sampled_from(sorted(encoded.buffers)))
    content = encoded.buffers[buffer]
    length = data.draw(st.integers(0, content.size - 1))
    longer = np.concatenate([content, content[-1:]])
    for changed in (content[:length], longer):
        with pytest.raises(ValueError):
            altered(encoded, buffer, changed).decode()


@pytest.fixture(scope="module")
def rans_code() -> EncodedIndices:
    return representation.get("rans").encode(laplace_indices(2000, 200, 9), 200)


@given(data=st.data())
@settings(max_examples=100)
def test_a_flipped_bit_of_a_rans_code_gives_an_error_or_valid_indices(rans_code, data):
    """About 1 flip in 200 goes unnoticed, since two states may run into one; a file's checksum
    notices them all."""
    encoded = rans_code
    assert encoded.coder == "rans"
    buffer = data.draw(st.sampled_from(sorted(encoded.buffers)))
    content = np.frombuffer(encoded.buffers[buffer].tobytes(), np.uint8).copy()
    bit = data.draw(st.integers(0, 8 * content.size - 1))
    content[bit // 8] ^= 1 << bit % 8
    try:
        decoded = altered(encoded, buffer, content.view(encoded.buffers[buffer].dtype)).decode()
    except ValueError:
        return
    assert decoded.shape == encoded.shape and decoded.max() < encoded.k


@pytest.mark.parametrize("name", ["huffman", "sparse_huffman", "sparse_index_map"])
@given(data=st.data())
@settings(max_examples=60)
def test_a_flipped_bit_of_a_column_coder_gives_an_error_or_valid_indices(name, data):
    indices = laplace_indices(1200, 40, 2).reshape(60, 20)
    encoded = representation.get(name).encode(indices, 40)
    buffer = data.draw(st.sampled_from(sorted(encoded.buffers)))
    content = np.frombuffer(encoded.buffers[buffer].tobytes(), np.uint8).copy()
    bit = data.draw(st.integers(0, 8 * content.size - 1))
    content[bit // 8] ^= 1 << bit % 8
    try:
        decoded = altered(encoded, buffer, content.view(encoded.buffers[buffer].dtype)).decode()
    except ValueError:
        return
    assert decoded.shape == encoded.shape and decoded.max() < encoded.k


def test_column_coders_leave_very_long_columns_to_raw():
    indices = laplace_indices(MAX_COLUMN + 1, 16, 2)
    for name in ("huffman", "sparse_huffman", "sparse_index_map"):
        encoded = representation.get(name).encode(indices, 16)
        assert encoded.coder == "raw"
        assert_same(encoded.decode(), indices, 16)
        assert representation.get(name).encode(indices[:-1], 16).coder == name


def test_smallest_chooses_a_coder_for_each_kernel():
    """Channels of different spread are for `context`, which leaves 3,000 levels to `raw`."""
    spreads = np.exp(np.random.default_rng(0).normal(2, 1, 64))
    spread = np.clip(np.random.default_rng(1).laplace(size=(500, 64), scale=spreads), -127, 127)
    kernels = {"channels": (np.rint(spread + 127).astype(np.uint8), 255),
               "levels": (laplace_indices(50_000, 3000, 40), 3000)}
    encoded = representation.encode_smallest(kernels)
    assert {path: kernel.coder for path, kernel in encoded.kernels.items()} == {
        "channels": "context", "levels": "rans"}
    alone = [representation.get(name).encode_kernels(kernels).nbytes for name in CODERS]
    assert encoded.nbytes < min(alone)
    for path, indices in encoded.decode().items():
        assert_same(indices, *kernels[path])


def test_most_flipped_bits_of_a_rans_code_are_noticed(rans_code):
    words = rans_code.buffers["rans_words"]
    noticed = 0
    bits = range(0, 32 * words.size, 149)
    for bit in bits:
        changed = words.copy()
        changed[bit // 32] ^= np.uint32(1 << bit % 32)
        try:
            altered(rans_code, "rans_words", changed).decode()
        except ValueError:
            noticed += 1
    assert noticed >= 0.97 * len(bits)


def test_a_small_kernel_never_takes_more_than_packed_indices():
    """It may share a table with large kernels of another spread; then `raw` holds it."""
    kernels = {"large": (laplace_indices(200_000, 200, 9), 200),
               "small": (np.arange(700, dtype=np.uint8) % 200, 200)}
    encoded = representation.get("rans").encode_kernels(kernels)
    assert encoded.kernels["small"].bits <= 8 * 700
    decoded = encoded.decode()
    assert all(np.array_equal(decoded[path], kernels[path][0]) for path in kernels)


def test_sizes_are_checked_before_memory_is_taken():
    encoded = representation.get("rans").encode(laplace_indices(5000, 16, 2), 16)
    for shape in ((10**12,), (10**6, 10**6), (MAX_ROWS + 1,)):
        hostile = EncodedIndices("rans", shape, 16, encoded.buffers)
        with pytest.raises(ValueError, match="lanes"):
            hostile.decode()
    with pytest.raises(ValueError, match="bytes"):
        EncodedIndices("raw", (10**12,), 16, {"raw": np.zeros(4, np.uint8)}).decode()


def test_tables_that_do_not_fit_the_kernels_are_refused():
    encoded = representation.get("rans").encode_kernels(
        {"a": (laplace_indices(9000, 16, 2), 16), "b": (laplace_indices(9000, 64, 9), 64)})
    a, b = encoded.kernels["a"], encoded.kernels["b"]
    for number in (None, -1, 1, 7):
        changed = {"a": type(a)(a.shape, a.k, "rans", a.bits, number), "b": b}
        with pytest.raises(ValueError, match="frequency table"):
            EncodedKernels(changed, encoded.buffers).decode()


def test_index_of_k_or_more_and_bits_after_the_end_are_refused():
    with pytest.raises(ValueError, match="0 … 4"):
        EncodedIndices("raw", (1,), 5, {"raw": np.uint8([7])}).decode()
    with pytest.raises(ValueError, match="0 … 4"):
        EncodedIndices("index_map", (1,), 5, {"index_map": np.uint8([5])}).decode()
    with pytest.raises(ValueError, match="after the last"):
        EncodedIndices("raw", (1,), 5, {"raw": np.uint8([8])}).decode()
