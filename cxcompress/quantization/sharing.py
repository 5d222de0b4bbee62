"""From a model's kernels to codebooks and index maps.

    kernels = {"conv1/kernel": (array, "conv"), "head/kernel": (array, "dense")}
    shared = share_weights(kernels, Compression.parse("uCWS", clustercnn=256, clusterfc=32))
    shared.codebooks["conv"], shared.kernels["conv1/kernel"].indices
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError
from cxcompress.quantization.compression import Compression
from cxcompress.quantization.percentile_pruning import prune_percentile
from cxcompress.quantization.weight_distribution import finite_float32
from cxcompress.representation.types import Codebook, SharedKernel, SharedWeights


def share_weights(
    kernels: Mapping[str, tuple[ArrayLike, str]],
    compression: Compression,
    *,
    seed: int = 0,
    sample_weight: Mapping[str, ArrayLike] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> SharedWeights:
    """Prune and quantize kernels as `compression` says.

    Args:
        kernels: By Keras variable path: the kernel, any shape, and its family ("conv", "dense",
            "depthwise"). Not biases, nor BatchNormalization.
        compression: What to do.
        seed: For quantizers that draw at random. Every codebook has a random stream of its own
            that depends on the seed and the codebook's name only.
        sample_weight: By path: importance of each weight's error, in the kernel's shape. Kernels
            not named count 1.
        progress: Called before each codebook with its name, its number and how many there are.

    Returns:
        `SharedWeights`. Codebooks are named "conv", "dense", "depthwise" at unified scope and by
        the kernel's path at layer scope. In families that are pruned, `codebook.zero` is set and
        every pruned weight has that index; a weight that is not pruned but nearest to 0 has it as
        well. Kernels left float, pruned ones where the compression only prunes, are in
        `unshared`, as float32.

    Raises:
        InputError: If a kernel holds NaN or infinite weights, if an entry of `keep_float` names no
            kernel, or if the quantizer's parameters cannot be used. The message names the kernel.
        ValueError: If a family is unknown.
    """
    arrays: dict[str, NDArray[np.float32]] = {}
    groups: dict[str, list[str]] = {}
    unshared: dict[str, NDArray[np.float32]] = {}
    kept_entries = set()
    for path, (weights, family) in kernels.items():
        array = finite_float32(weights, path)
        k, percent = compression.k_for(family), compression.percent_for(family)
        entry = compression.keeps_float(path, family)
        if entry is not None:
            kept_entries.add(entry)
            unshared[path] = array
            continue
        if percent:
            array = np.where(prune_percentile(array, percent), array, np.float32(0.0))
        if compression.quantizer is None or k == 0:
            unshared[path] = array
            continue
        arrays[path] = array
        groups.setdefault(family if compression.scope == "unified" else path, []).append(path)
    unknown = [entry for entry in compression.keep_float if entry not in kept_entries]
    if unknown:
        raise InputError(f"--keep_float {unknown[0]}: no kernel has this layer in its path; "
                         f"the model's kernels are {_some(list(kernels))}")

    codebooks: dict[str, Codebook] = {}
    shared: dict[str, SharedKernel] = {}
    for number, (name, paths) in enumerate(groups.items()):
        if progress is not None:
            progress(name, number, len(groups))
        family = kernels[paths[0]][1]
        codebook, indices = _share(
            name, [arrays.pop(path) for path in paths], family, compression, seed,
            _importance(paths, kernels, sample_weight))
        codebooks[name] = codebook
        for path, index in zip(paths, indices, strict=True):
            shared[path] = SharedKernel(index, name)
    return SharedWeights(codebooks, shared, unshared)


def _share(
    name: str,
    arrays: list[NDArray[np.float32]],
    family: str,
    compression: Compression,
    seed: int,
    importance: NDArray[np.float64] | None,
) -> tuple[Codebook, list[NDArray[np.unsignedinteger]]]:
    """One codebook for all arrays, and the indices of each in its shape."""
    flat = arrays[0].ravel() if len(arrays) == 1 else np.concatenate([a.ravel() for a in arrays])
    parameters = ({"seed": (seed, zlib.crc32(name.encode()))}
                  if compression.quantizer == "PWS" else {})
    quantizer = compression.quantizer_for(family, **parameters)
    try:
        quantizer.fit(flat, sample_weight=importance,
                      keep_zero=compression.percent_for(family) > 0)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return quantizer.codebook_, quantizer.assign_kernels(arrays)


def _importance(
    paths: list[str],
    kernels: Mapping[str, tuple[ArrayLike, str]],
    sample_weight: Mapping[str, ArrayLike] | None,
) -> NDArray[np.float64] | None:
    if sample_weight is None or not any(path in sample_weight for path in paths):
        return None
    parts = []
    for path in paths:
        shape = np.shape(kernels[path][0])
        part = np.asarray(sample_weight.get(path, np.ones(shape)), np.float64)
        if part.shape != shape:
            raise InputError(f"{path}: sample_weight has shape {part.shape}, the kernel {shape}; "
                             "give one number a weight")
        parts.append(part.ravel())
    return np.concatenate(parts)


def _some(paths: list[str]) -> str:
    shown = ", ".join(paths[:8])
    return f"{shown}, … ({len(paths)} in all)" if len(paths) > 8 else shown
