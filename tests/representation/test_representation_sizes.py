"""Size accounting is exact, and the prior work's formulas give the prior work's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress import representation
from cxcompress.representation import (
    Codebook,
    SharedKernel,
    SharedWeights,
    kernel_sizes,
    prior_space_ratio,
    psi_index_map,
    psi_index_map_corrected,
)

# The 46 convolution kernels of PathoNet hold 3,220,296 weights; the formula sees only the sum
# and the number of layers.
PATHONET_WEIGHTS, PATHONET_LAYERS = 3_220_296, 46


def test_prior_space_ratio_is_the_published_one():
    sizes = [PATHONET_WEIGHTS // PATHONET_LAYERS] * PATHONET_LAYERS
    sizes[0] += PATHONET_WEIGHTS - sum(sizes)
    assert prior_space_ratio(sizes, 256) == pytest.approx(3.942, abs=5e-4)
    assert prior_space_ratio([1000], 257) == pytest.approx(32 / (16 + 32 * 0.257))


def test_psi_index_map_bills_256_levels_16_bits_and_the_corrected_one_8():
    size = 1024 * 1024
    assert psi_index_map(size, 256) == 16 + 32 * 256 / size
    assert psi_index_map_corrected(size, 256) == pytest.approx(8.01, abs=0.005)
    assert psi_index_map(size, 33) == psi_index_map_corrected(size, 33)
    assert psi_index_map_corrected(size, 257) == psi_index_map(size, 257)


@pytest.mark.parametrize("name", representation.names())
def test_every_byte_is_counted_once(name):
    rng = np.random.default_rng(0)
    kernels = {f"{i}": (np.clip(rng.normal(100, 10, size), 0, 255).astype(np.uint8), 256)
               for i, size in enumerate((5000, 1, 40_000))}
    encoded = representation.get(name).encode_kernels(kernels)
    sizes = kernel_sizes(encoded, codebooks=1024)
    assert sizes.streams + sizes.tables + sizes.states == encoded.nbytes
    assert sizes.weights == 45_001
    assert sizes.bits_per_weight == pytest.approx(8 * (encoded.nbytes + 1024) / 45_001)
    own = sum(kernel.bytes for kernel in sizes.kernels.values())
    assert abs(own - sizes.streams) <= sizes.states + 0.001 * sizes.streams + len(kernels)


def test_shared_weights_decode_and_refuse_what_does_not_fit():
    codebook = Codebook(np.float32([-0.5, 0, 0.5]), zero=1, step=0.5)
    kernel = SharedKernel(np.uint8([[0, 1], [2, 2]]), "conv")
    shared = SharedWeights({"conv": codebook}, {"c/kernel": kernel}, {"c/bias": np.ones(2)})
    np.testing.assert_array_equal(shared.kernel("c/kernel"), [[-0.5, 0], [0.5, 0.5]])
    assert list(shared.weights()) == ["c/kernel", "c/bias"]
    assert codebook.grid_integers.tolist() == [-1, 0, 1]
    with pytest.raises(ValueError, match="no codebook"):
        SharedWeights({}, {"c/kernel": kernel})
    with pytest.raises(ValueError, match="index 3"):
        SharedWeights({"conv": codebook}, {"c": SharedKernel(np.uint8([3]), "conv")})
    for values in ([1, 1], [1, 0], [np.nan], [np.inf]):
        with pytest.raises(ValueError):
            Codebook(np.float32(values))
    with pytest.raises(ValueError, match="step"):
        Codebook(np.float32([0, 0.3]), step=0.2)
    with pytest.raises(ValueError, match="pruned level"):
        Codebook(np.float32([0, 0.3]), zero=1)
