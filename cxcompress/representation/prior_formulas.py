"""The size formulas of the prior work, under its own names, so that its tables can be compared.

They count what their authors counted, not what a file holds: see `sizes` for exact bytes.

    prior_space_ratio([864, 2304, 16], k=256)     # original / compressed
    psi_index_map(1_048_576, k=256) / 32          # compressed / original
"""

from __future__ import annotations

from collections.abc import Sequence

from cxcompress.representation.types import SharedWeights

FLOAT_BITS = 32


def prior_space_ratio(sizes: Sequence[int], k: int) -> float:
    """Space ratio of PathoNet compression (`space_calc`): original / compressed, above 1 is better.

    Charges every layer with indices of 8 or 16 bits **and a codebook of its own**, even where
    one codebook serves all layers; leaves out biases and BatchNormalization.

    Args:
        sizes: Number of weights N_l of each convolution kernel.
        k: Number of shared values.

    Reference: pathonet_compression, `space_calc`:
        Σ 32 N_l / Σ (N_l · (8 if k <= 256 else 16) + 32 k).
    """
    index_bits = 8 if k <= 256 else 16
    compressed = sum(n * index_bits + FLOAT_BITS * k for n in sizes)
    return FLOAT_BITS * sum(sizes) / compressed


def bit_requirement(x: int) -> int:
    """Machine word for a number x as sHAM counts it (`bit_req`): 8, doubled while x >= 2^bits."""
    bits = 8
    while x >= 1 << bits:
        bits *= 2
    return bits


def psi_index_map(size: int, k: int) -> float:
    """Bits an entry of an index map as sHAM counts it (`im_psi`): bit_req(k) + 32 k / N.

    k = 256 is billed 16 bits an index, although the indices 0 … 255 fit in 8; see
    `psi_index_map_corrected`.

    Args:
        size: Number N of entries.
        k: Number of shared values.

    Reference: Marinò et al. (2021), sHAM, `utils.im_psi`.
    """
    return bit_requirement(k) + FLOAT_BITS * k / size


def psi_index_map_corrected(size: int, k: int) -> float:
    """`psi_index_map` with the word that the largest index k − 1 needs: 8 bits at k = 256."""
    return bit_requirement(k - 1) + FLOAT_BITS * k / size


def prior_sizes(shared: SharedWeights) -> dict[str, float]:
    """Both formulas for all shared kernels of a model, by name; empty where nothing is shared.

    Returns:
        `prior_space_ratio` (original / compressed, at the largest codebook's k) and
        `psi_index_map` (compressed / original: bits an entry / 32, weighted by entries).
    """
    sizes = [kernel.indices.size for kernel in shared.kernels.values()]
    levels = [shared.codebooks[kernel.codebook].k for kernel in shared.kernels.values()]
    if not sizes:
        return {}
    bits = sum(size * psi_index_map(size, k) for size, k in zip(sizes, levels, strict=True))
    return {"prior_space_ratio": prior_space_ratio(sizes, max(levels)),
            "psi_index_map": bits / (FLOAT_BITS * sum(sizes))}
