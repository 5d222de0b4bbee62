"""What is done to a network in a sweep: pruned, shared, or both, at one of several levels.

    series = Series.parse("L1+uCWS=256")         # pruned to each sparsity, then 256 shared values
    for treatment in series.treatments(sparsities=(0.5, 0.9), levels=(16, 4)):
        treatment.name                           # "L1+uCWS=256@0.5", …
        treatment.apply(kernels, seed=0)         # SharedWeights: what a container would hold

A series is a road from little to much:

| written | is |
|---|---|
| `L1`, `random` | pruned to each sparsity, over all kernels together; nothing shared |
| `L1-layer`, `random-layer` | the same share of every kernel |
| `uCWS`, `UQ`, … | each number k of shared values, nothing pruned |
| `L1+uCWS=256` | pruned to each sparsity, then 256 shared values |
| `L1=0.5+uCWS` | pruned to sparsity 0.5, then each k |
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.quantization import Compression, share_weights
from cxcompress.representation import SharedKernel, SharedWeights
from cxcompress.search.kernel_masks import kernel_masks

_GRAMMAR = re.compile(
    r"(?:(?P<score>L1|random)(?P<layer>-layer)?(?:=(?P<sparsity>0?\.\d+))?)?"
    r"(?P<plus>\+)?(?:(?P<compression>u?[A-Z]+)(?:=(?P<k>\d+))?)?")


@dataclass(frozen=True)
class Treatment:
    """One treatment of a network. `Series.treatments` makes them; `ORIGINAL` is none at all.

    Args:
        series: As `Series.parse` reads it; "original" for no treatment.
        level: The sparsity, or the number of shared values, that the series varies.
        score: "L1", "random", or "" where nothing is pruned.
        scope: "global" or "layer".
        sparsity: Share of the kernels' weights that are pruned.
        compression: Name of a compression, or "" where nothing is shared.
        k: Shared values.
    """

    series: str
    level: float
    score: str = ""
    scope: str = "global"
    sparsity: float = 0.0
    compression: str = ""
    k: int = 0

    @property
    def name(self) -> str:
        """Unique in a sweep and fit for a file name, e.g. `"L1@0.9"`."""
        return self.series if self.series == "original" else f"{self.series}@{self.level:g}"

    def masks(self, kernels: Mapping[str, tuple[NDArray, str]], seed: int):
        """Which weights of each kernel stay, bool by path; None where nothing is pruned."""
        if not self.score:
            return None
        return kernel_masks({path: array for path, (array, _) in kernels.items()}, self.sparsity,
                            score=self.score, scope=self.scope, seed=seed)

    def apply(
        self, kernels: Mapping[str, tuple[NDArray, str]], seed: int = 0
    ) -> SharedWeights:
        """The kernels after the treatment; those that share nothing are in `unshared`.

        Args:
            kernels: By path: the kernel and its family, as `quantization.share_weights` takes.
            seed: Of random pruning and random rounding.
        """
        masks = self.masks(kernels, seed)
        if masks is not None:
            kernels = {path: (np.where(masks[path], array, np.float32(0)), family)
                       for path, (array, family) in kernels.items()}
        if not self.compression:
            return SharedWeights({}, {}, {path: np.asarray(array, np.float32)
                                          for path, (array, _) in kernels.items()})
        compression = Compression.parse(self.compression, clustercnn=self.k, clusterfc=self.k)
        if masks is None:
            return share_weights(kernels, compression, seed=seed)
        return _share_with_zero(kernels, compression, seed)


def _share_with_zero(
    kernels: Mapping[str, tuple[NDArray, str]], compression: Compression, seed: int
) -> SharedWeights:
    """`share_weights` of kernels that are pruned already: 0 stays a shared value of its own."""
    groups: dict[str, list[str]] = {}
    for path, (_, family) in kernels.items():
        groups.setdefault(family if compression.scope == "unified" else path, []).append(path)
    codebooks, shared = {}, {}
    for name, paths in groups.items():
        parameters = ({"seed": (seed, zlib.crc32(name.encode()))}
                      if compression.quantizer == "PWS" else {})
        quantizer = compression.quantizer_for(kernels[paths[0]][1], **parameters)
        arrays = [kernels[path][0] for path in paths]
        quantizer.fit(np.concatenate([array.ravel() for array in arrays]), keep_zero=True)
        codebooks[name] = quantizer.codebook_
        for path, indices in zip(paths, quantizer.assign_kernels(arrays), strict=True):
            shared[path] = SharedKernel(indices, name)
    return SharedWeights(codebooks, shared, {})


ORIGINAL = Treatment("original", 0.0)


@dataclass(frozen=True)
class Series:
    """A kind of treatment whose level is varied.

    Args:
        name: As written.
        treatment: The treatment with everything but the level.
        varies: `"sparsity"` or `"k"`.
    """

    name: str
    treatment: Treatment
    varies: str

    @classmethod
    def parse(cls, name: str) -> Series:
        """Read a series as written on the command line.

        Raises:
            InputError: If it is none, or varies nothing or two things.
        """
        match = _GRAMMAR.fullmatch(name)
        parts = match.groupdict() if match else {}
        if not match or not name or bool(parts["plus"]) != bool(
                parts["score"] and parts["compression"]):
            raise InputError(f"--treatments {name}: no such treatment; write e.g. L1, "
                             "random-layer, uCWS, L1+uCWS=256 or L1=0.5+uCWS")
        varies = [what for what, given, value in (
            ("sparsity", parts["score"], parts["sparsity"]),
            ("k", parts["compression"], parts["k"])) if given and value is None]
        if len(varies) != 1:
            mend = ("leave one number out" if not varies
                    else "give one of the two a number, e.g. L1+uCWS=256 or L1=0.5+uCWS")
            raise InputError(f"--treatments {name}: {len(varies)} of its numbers are left to vary, "
                             f"not one; {mend}")
        compression = parts["compression"] or ""
        if compression:
            if compression.endswith("TCQ"):
                raise InputError(f"--treatments {name}: TCQ has no number of shared values to "
                                 "vary; take UQ, CWS, PWS or ECSQ")
            Compression.parse(compression)
        return cls(name, Treatment(
            name, math.nan, parts["score"] or "", "layer" if parts["layer"] else "global",
            float(parts["sparsity"] or 0), compression, int(parts["k"] or 0)), varies[0])

    def treatments(
        self, sparsities: Sequence[float], levels: Sequence[int]
    ) -> list[Treatment]:
        """From the mildest to the hardest; sparsity 0 is left out, since it is the original.

        Raises:
            InputError: If a sparsity or a number of shared values cannot be used.
        """
        if self.varies == "sparsity":
            for sparsity in sparsities:
                if not 0 <= sparsity < 1:
                    raise InputError(f"--sparsities {sparsity:g}: a share of 0 or more, below 1")
            return [replace(self.treatment, level=float(sparsity), sparsity=float(sparsity))
                    for sparsity in sorted(set(sparsities)) if sparsity > 0]
        for k in levels:
            if k < 2:
                raise InputError(f"--levels {k}: give 2 or more shared values")
        return [replace(self.treatment, level=float(k), k=int(k))
                for k in sorted(set(levels), reverse=True)]
