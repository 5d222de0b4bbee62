"""Every representation gives the matrix back, multiplies as the dense one and counts bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.representation import Codebook
from cxcompress.representation import matrices as module
from cxcompress.representation.huffman import LONGEST, HuffmanCode
from cxcompress.representation.matrices import represent, representations

NAMES = representations()


def codebook_of(k: int) -> Codebook:
    return Codebook(np.arange(-(k // 2), k - k // 2).astype(np.float32) / 7)


def matrix(rows: int, columns: int, k: int, sparsity: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = np.clip(np.rint(random.normal(k // 2, k / 8, (rows, columns))), 0, k - 1)
    found[random.random(found.shape) < sparsity] = k // 2
    return found.astype(np.int64)


def test_the_names():
    assert set(NAMES) == {"IM", "SIM", "CSC", "HAC", "sHAC", "rANS"}


@pytest.mark.parametrize("name", NAMES)
@given(rows=st.integers(0, 40), columns=st.integers(0, 40),
       k=st.sampled_from([1, 2, 3, 16, 33, 256, 257, 5000]),
       sparsity=st.sampled_from([0.0, 0.5, 0.95, 1.0]), seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_exact_inverse_and_product_of_every_column(name, rows, columns, k, sparsity, seed):
    indices, codebook = matrix(rows, columns, k, sparsity, seed), codebook_of(k)
    coded = represent(name, indices, codebook)
    np.testing.assert_array_equal(coded.decode(), indices)
    x = np.random.default_rng(seed).normal(size=(3, rows)).astype(np.float32)
    np.testing.assert_allclose(coded.dot(x), x @ codebook.values[indices], rtol=1e-4, atol=1e-4)
    middle = columns // 2
    np.testing.assert_array_equal(coded.columns(middle, columns), indices[:, middle:])
    if indices.size:
        assert coded.psi() >= 0


@pytest.mark.parametrize("name", NAMES)
def test_every_column_of_a_large_matrix_in_blocks(name, monkeypatch):
    """The prior program was wrong in 20 to 33 columns of such a matrix."""
    monkeypatch.setattr(module, "_WEIGHTS_A_BLOCK", 300_000)
    indices, codebook = matrix(1024, 1024, 33, 0.9), codebook_of(33)
    coded = represent(name, indices, codebook)
    x = np.random.default_rng(1).normal(size=(2, 1024)).astype(np.float32)
    np.testing.assert_allclose(coded.dot(x), x @ codebook.values[indices], rtol=1e-3, atol=1e-3)


def test_the_papers_formulas():
    """The figures of the literature's own functions for such matrices, within a few percent."""
    codebook = codebook_of(33)
    random = np.random.default_rng(0)
    pruned = np.where(random.random((1024, 1024)) < 0.9, 16, random.integers(0, 33, (1024, 1024)))
    found = {name: represent(name, pruned, codebook).psi() for name in NAMES}
    assert found["HAC"] == pytest.approx(1.50, rel=0.03)
    assert found["sHAC"] == pytest.approx(2.12, rel=0.03)
    assert found["CSC"] == pytest.approx(4.82, rel=0.03)
    assert found["IM"] == pytest.approx(8.00, rel=0.01)
    dense = random.integers(0, 256, (1024, 1024))
    found = {name: represent(name, dense, codebook_of(256)).psi() for name in NAMES}
    assert found["HAC"] == pytest.approx(8.01, rel=0.01)
    assert found["IM"] == pytest.approx(16.0, rel=0.01)
    assert found["CSC"] == pytest.approx(48.0, rel=0.01)


def test_bytes_are_those_of_the_arrays_and_near_the_entropy():
    indices, codebook = matrix(1024, 512, 33, 0.9), codebook_of(33)
    shares = np.bincount(indices.ravel()) / indices.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() * indices.size / 8
    sizes = {name: represent(name, indices, codebook).nbytes for name in NAMES}
    assert sizes["rANS"] < 1.02 * entropy + 64 + codebook.values.nbytes
    assert sizes["rANS"] < sizes["HAC"] < sizes["sHAC"] < sizes["CSC"]
    assert sizes["SIM"] < sizes["CSC"]
    assert sizes["IM"] == indices.size + codebook.values.nbytes


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300).filter(any))
@settings(max_examples=60)
def test_huffman_codes_are_complete_and_within_a_bit_of_the_entropy(counts):
    counts = np.array(counts)
    code = HuffmanCode.of(counts)
    used = counts[counts > 0]
    if used.size == 1:
        assert code.only == int(np.flatnonzero(counts)[0]) and code.bits(counts) == 0
        return
    assert (2.0 ** -code.lengths[counts > 0].astype(float)).sum() == 1
    entropy = -(used * np.log2(used / used.sum())).sum()
    assert entropy - 1e-6 <= code.bits(counts) <= entropy + used.sum()


def test_rare_symbols_get_no_codeword_that_is_too_long():
    counts = np.array([1, 1] + [int(1.62**n) for n in range(1, 60)])
    code = HuffmanCode.of(counts)
    assert code.lengths.max() <= LONGEST and code.lengths.min() >= 1
    symbols = np.arange(counts.size)
    packed, starts = code.encode(symbols, np.array([symbols.size]))
    np.testing.assert_array_equal(code.decode(packed, starts, np.array([symbols.size])), symbols)


def test_a_code_that_ends_early_or_holds_nonsense_is_one_error():
    code = HuffmanCode.of(np.array([5, 3, 1, 1]))
    symbols = np.array([0, 1, 2, 3] * 8)
    packed, starts = code.encode(symbols, np.array([32]))
    with pytest.raises(ValueError, match="ends too early"):
        code.decode(packed[:3], starts, np.array([32]))
    broken = HuffmanCode(np.array([2, 2, 2], np.uint8))
    with pytest.raises(ValueError, match="no codeword"):
        broken.decode(np.full(4, 255, np.uint8), np.array([0]), np.array([4]))
    with pytest.raises(ValueError, match="a symbol that occurs"):
        HuffmanCode.of(np.zeros(4, int))


def test_what_does_not_fit_is_refused():
    without_zero = Codebook(np.float32([1, 2]))
    for name in ("CSC", "SIM", "sHAC"):
        with pytest.raises(ValueError, match="exactly 0"):
            represent(name, [[0, 1]], without_zero)
    with pytest.raises(ValueError, match="two axes"):
        represent("IM", [0, 1], without_zero)
    with pytest.raises(ValueError, match="representations are"):
        represent("HAM", [[0]], without_zero)
    with pytest.raises(ValueError, match="x has shape"):
        represent("IM", [[0, 1]], without_zero).dot(np.ones((1, 3)))
