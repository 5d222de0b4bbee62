"""Exact bytes of the quantised kernels: codes, tables, lane states and codebooks.

    sizes = kernel_sizes(representation.get("rans").encode_kernels(kernels), codebooks=1024)
    sizes.bits_per_weight                      # everything that the kernels need
    sizes.kernels["conv2d/kernel"].bits_per_weight
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cxcompress.representation.coders import EncodedKernels


@dataclass(frozen=True)
class KernelSize:
    """One kernel's part of the code.

    Args:
        weights: Number of its weights.
        bits: Bits of its own code, without tables, lane states and codebook.
        coder: Name of the coder that holds it.
    """

    weights: int
    bits: int
    coder: str

    @property
    def bytes(self) -> float:
        """Bytes of its own code; a fraction, since kernels share the coder's words."""
        return self.bits / 8

    @property
    def bits_per_weight(self) -> float:
        """Bits a weight of its own code; 0 for an empty kernel."""
        return self.bits / max(self.weights, 1)


@dataclass(frozen=True)
class KernelSizes:
    """What all quantised kernels take, in bytes.

    Args:
        streams: The codes. The kernels' own bits sum to this within the bits that the lane
            states carry.
        tables: Frequency tables and the like.
        states: The coder's lanes, shared by all kernels.
        codebooks: The shared values.
        kernels: Each kernel's part, by Keras variable path.
    """

    streams: int
    tables: int
    states: int
    codebooks: int
    kernels: Mapping[str, KernelSize]

    @property
    def weights(self) -> int:
        """Number of quantised weights."""
        return sum(kernel.weights for kernel in self.kernels.values())

    @property
    def bits_per_weight(self) -> float:
        """8 × bytes of all that the quantised kernels need / their number."""
        needed = self.streams + self.tables + self.states + self.codebooks
        return 8 * needed / max(self.weights, 1)


def kernel_sizes(encoded: EncodedKernels, codebooks: int) -> KernelSizes:
    """Account for encoded kernels.

    Args:
        encoded: The encoded index maps of a file.
        codebooks: Bytes of their codebooks as stored.
    """
    tables = sum(b.nbytes for name, b in encoded.buffers.items() if name.endswith("_tables"))
    states = sum(b.nbytes for name, b in encoded.buffers.items() if name.endswith("_states"))
    kernels = {path: KernelSize(kernel.size, kernel.bits, kernel.coder)
               for path, kernel in encoded.kernels.items()}
    return KernelSizes(encoded.nbytes - tables - states, tables, states, codebooks, kernels)
