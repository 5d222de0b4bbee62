import numpy as np
import pytest

from cxcompress.quantization import Quality, quality
from cxcompress.representation.types import Codebook


def test_by_hand():
    weights = np.float32([[0.0, 1.0], [3.0, 3.0]])
    codebook = Codebook(np.float32([0.0, 2.0, 7.0]))
    report = quality(weights, np.uint8([[0, 1], [1, 1]]), codebook)
    assert report == Quality(mse=0.75, sqnr_db=pytest.approx(10 * np.log10(19 / 3)),
                             entropy_bits=pytest.approx(0.811278, abs=1e-6), levels_used=2, k=3)


def test_nothing_lost_and_nothing_there():
    codebook = Codebook(np.float32([0.0, 2.0]))
    assert quality(np.float32([0, 2]), np.uint8([0, 1]), codebook).sqnr_db == np.inf
    assert quality(np.float32([0, 0]), np.uint8([1, 1]), codebook).sqnr_db == -np.inf
    assert quality(np.float32([2]), np.uint8([1]), codebook).entropy_bits == 0.0


def test_blocks_add_up():
    weights = np.random.default_rng(0).normal(size=700_001).astype(np.float32)
    codebook = Codebook(np.float32([-1, 0, 1]))
    indices = np.random.default_rng(1).integers(0, 3, weights.size).astype(np.uint8)
    report = quality(weights, indices, codebook)
    error = weights.astype(np.float64) - codebook.values[indices]
    assert report.mse == pytest.approx(np.mean(error**2), rel=1e-12)


def test_wrong_indices():
    codebook = Codebook(np.float32([0.0, 2.0]))
    with pytest.raises(ValueError, match="one shape"):
        quality(np.ones(3), np.zeros(2, np.uint8), codebook)
    with pytest.raises(ValueError, match="below k=2"):
        quality(np.ones(2), np.uint8([0, 2]), codebook)
