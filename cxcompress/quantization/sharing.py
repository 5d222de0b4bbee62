"""From a model's kernels to codebooks and index maps.

    kernels = {"conv1/kernel": (array, "conv"), "head/kernel": (array, "dense")}
    shared = share_weights(kernels, Compression.parse("uCWS", clustercnn=256, clusterfc=32))
    shared.codebooks["conv"], shared.kernels["conv1/kernel"].indices
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxcompress.errors import InputError
from cxcompress.quantization.compression import Compression
from cxcompress.quantization.percentile_pruning import prune_percentile
from cxcompress.quantization.trellis import TrellisQuantizer
from cxcompress.quantization.weight_distribution import finite_float32
from cxcompress.representation.types import (
    MAX_GRID_INTEGER,
    Codebook,
    SharedKernel,
    SharedWeights,
    index_dtype,
)

PRUNED_SHARE = 0.05
"""Share of exact zeros from which a kernel counts as pruned already: training leaves none."""
LEAST_IMPORTANCE = 1 / 64
"""Mean importance of a kernel against the median one, at least; at most its inverse."""


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
        well. The same holds for kernels that came pruned: a twentieth of one codebook's weights
        exactly 0. Kernels left float, pruned ones where the compression only prunes, are in
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
            array = np.where(_kept(array, percent), array, np.float32(0.0))
        if compression.quantizer is None or k == 0:
            unshared[path] = array
            continue
        arrays[path] = array
        groups.setdefault(family if compression.scope == "unified" else path, []).append(path)
    unknown = [entry for entry in compression.keep_float if entry not in kept_entries]
    if unknown:
        raise InputError(f"--keep_float {unknown[0]}: no kernel has this layer in its path; "
                         f"the model's kernels are {_some(list(kernels))}")

    if compression.allocates:
        return SharedWeights(*_share_at_one_slope(arrays, compression, sample_weight or {}),
                             unshared)
    if compression.quantizer == "TCQ" and sample_weight:
        raise InputError(f"--sensitivity with {compression.name}: its weights all have one step; "
                         "take TCQ with --sqnr, whose steps differ from layer to layer")
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


def prune_masks(
    kernels: Mapping[str, tuple[ArrayLike, str]], compression: Compression
) -> dict[str, NDArray[np.bool_]]:
    """By path, bool in the kernel's shape: the weights that `share_weights` prunes or finds at 0.

    Not those whose nearest shared value is 0: they share its index, but may leave it when they
    train.

    Args:
        kernels, compression: As for `share_weights`.
    """
    return {path: ~_kept(finite_float32(weights, path), compression.percent_for(family))
            for path, (weights, family) in kernels.items()}


def _kept(array: NDArray[np.float32], percent: float) -> NDArray[np.bool_]:
    return prune_percentile(array, percent) if percent else array != 0


def came_pruned(weights: NDArray) -> bool:
    """Whether so many weights are exactly 0 that they must have been pruned before."""
    return bool(weights.size - np.count_nonzero(weights) >= max(PRUNED_SHARE * weights.size, 1))


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
    # TCQ has no index of its own for zero: its trellis alternates between subsets of values.
    keep_zero = compression.percent_for(family) > 0 or (
        came_pruned(flat) and compression.quantizer != "TCQ" and compression.k_for(family) > 1)
    try:
        quantizer.fit(flat, sample_weight=importance, keep_zero=keep_zero)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return quantizer.codebook_, quantizer.assign_kernels(arrays)


def _share_at_one_slope(
    arrays: Mapping[str, NDArray[np.float32]], compression: Compression,
    sample_weight: Mapping[str, ArrayLike],
) -> tuple[dict[str, Codebook], dict[str, SharedKernel]]:
    """TCQ with a codebook a kernel, bits allocated so that one more is worth the same everywhere.

    At high rate a kernel's error falls by 6 dB a bit whatever it is, so slopes are equal where
    importance × step² is: the step is inversely proportional to the root of the mean importance.
    Without importances all steps are equal, which is best for the error of all weights together.

    Reference: Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers"
    (1988).
    """
    means = {path: float(np.mean(np.asarray(sample_weight.get(path, 1.0)))) for path in arrays}
    typical = float(np.median([mean for mean in means.values() if mean > 0] or [1.0]))
    roots = {path: math.sqrt(np.clip(mean / typical, LEAST_IMPORTANCE, 1 / LEAST_IMPORTANCE))
             for path, mean in means.items()}
    scaled = [array * np.float32(roots[path]) for path, array in arrays.items()]
    quantizer = compression.quantizer_for("conv")
    assert isinstance(quantizer, TrellisQuantizer)  # `allocates` says so
    quantizer.fit(np.concatenate([array.ravel() for array in scaled]))
    middle = quantizer.codebook_.k // 2
    codebooks, shared = {}, {}
    for path, indices in zip(arrays, quantizer.assign_kernels(scaled), strict=True):
        reach = max(int(np.abs(indices.astype(np.int64) - middle).max()), 1)
        step = float(np.float32(quantizer.step_ / roots[path]))
        codebooks[path] = Codebook(
            np.arange(-reach, reach + 1, dtype=np.float32) * np.float32(step),
            step=step if reach <= MAX_GRID_INTEGER else None)
        shared[path] = SharedKernel(
            (indices - (middle - reach)).astype(index_dtype(2 * reach + 1)), path)
    return codebooks, shared


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
