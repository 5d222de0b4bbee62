"""Codebooks, index maps, the coders that turn index maps into bytes, and what those weigh.

    coder = representation.get("rans")
    encoded = coder.encode(indices, k=256)
    assert (encoded.decode() == indices).all()
    encoded.nbytes * 8 / indices.size, representation.entropy_bits(indices, k=256)
"""

from cxcompress.representation import (  # noqa: F401  they register
    column_coders,
    context,
    fixed_width,
    rans,
)
from cxcompress.representation.coders import (
    EncodedIndices,
    EncodedKernel,
    EncodedKernels,
    IndexCoder,
    encode_smallest,
    get,
    names,
)
from cxcompress.representation.entropy import entropy_bits
from cxcompress.representation.prior_formulas import (
    prior_space_ratio,
    psi_index_map,
    psi_index_map_corrected,
)
from cxcompress.representation.sizes import KernelSize, KernelSizes, kernel_sizes
from cxcompress.representation.types import (
    MAX_GRID_INTEGER,
    MAX_LEVELS,
    Codebook,
    SharedKernel,
    SharedWeights,
    index_dtype,
)

__all__ = [
    "MAX_GRID_INTEGER",
    "MAX_LEVELS",
    "Codebook",
    "EncodedIndices",
    "EncodedKernel",
    "EncodedKernels",
    "IndexCoder",
    "KernelSize",
    "KernelSizes",
    "SharedKernel",
    "SharedWeights",
    "encode_smallest",
    "entropy_bits",
    "get",
    "index_dtype",
    "kernel_sizes",
    "names",
    "prior_space_ratio",
    "psi_index_map",
    "psi_index_map_corrected",
]
