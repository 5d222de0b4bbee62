"""Masks as data: by kernel path, bool arrays of the kernels' shapes, True where a weight stays.

    masks = prune(scores, sparsity=0.9, groups=groups(kernels, "global"))
    masks = prune(scores, 0.95, groups, previous=masks)       # what is pruned stays pruned
    apply(model, masks)
    nonzeros(masks), sparsity(masks)
    write_masks("masks.npz", masks)
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError
from cxcompress.models.kernels import kernels as kernels_of
from cxcompress.pruning.thresholds import keep_largest
from cxcompress.runs import atomic_path

Masks = Mapping[str, NDArray[np.bool_]]
PRUNED = np.float32(-1)
"""Score of what is pruned already, below that of every weight."""


def prune(
    scores: Mapping[str, NDArray[np.floating]], sparsity: float,
    groups: Mapping[str, Sequence[str]], previous: Masks | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """Masks that drop the lowest scores of each group, exactly as many as asked for.

    round(sparsity × weights) weights of a group are dropped, those that `previous` dropped among
    them. Where `previous` dropped more, it stays as it is.

    Args:
        scores: By kernel path, non-negative.
        sparsity: Share to drop, 0 ≤ sparsity < 1.
        groups: Paths that share a threshold, by name of the group; other kernels keep their mask.
        previous: Masks so far.

    Raises:
        InputError: If the sparsity is out of range, a score is NaN, or a kernel would lose all
            its weights.
    """
    check_sparsity(sparsity)
    previous = previous or {}
    masks = dict(previous)
    for paths in groups.values():
        arrays = []
        for path in paths:
            if not math.isfinite(float(scores[path].sum(dtype=np.float64))):
                raise InputError(f"{path}: holds NaN or infinite scores; check the model's weights")
            arrays.append(np.where(previous[path], scores[path], PRUNED) if path in previous
                          else scores[path])
        total = sum(array.size for array in arrays)
        most = sum(int(np.count_nonzero(previous[path])) if path in previous else scores[path].size
                   for path in paths)
        keep = min(total - round(sparsity * total), most)
        for path, mask in zip(paths, keep_largest(arrays, keep), strict=True):
            if not mask.any():
                raise InputError(
                    f"{path}: would lose all its {mask.size} weights at sparsity {sparsity:g}; "
                    "lower --sparsity, take --scope layer, or --exclude this layer")
            masks[path] = mask
    return masks


def check_sparsity(sparsity: float, name: str = "--sparsity") -> None:
    """Raise `InputError` unless 0 ≤ sparsity < 1."""
    if not (isinstance(sparsity, int | float | np.number) and 0 <= sparsity < 1):
        hint = "; it is a fraction, e.g. 0.9 for 90 percent" if (
            isinstance(sparsity, int | float) and 1 <= sparsity < 100) else ""
        raise InputError(f"{name} {sparsity}: must be 0 or more and below 1{hint}")


def apply(model: keras.Model, masks: Masks) -> None:
    """Set pruned weights to 0.

    Raises:
        InputError: If a path names no kernel of the model, or shapes differ.
    """
    kernels = {kernel.path: kernel for kernel in kernels_of(model)}
    for path, mask in masks.items():
        if path not in kernels or kernels[path].shape != mask.shape:
            raise InputError(f"model {model.name!r}: has no kernel {path} of shape {mask.shape}; "
                             "the masks belong to another model")
    for path, mask in masks.items():
        variable = kernels[path].variable
        variable.assign(np.where(mask, keras.ops.convert_to_numpy(variable), 0))


def masks_of(model: keras.Model) -> dict[str, NDArray[np.bool_]]:
    """The masks that a pruned model's own zeros tell."""
    return {kernel.path: np.asarray(keras.ops.convert_to_numpy(kernel.variable)) != 0
            for kernel in kernels_of(model)}


def nonzeros(masks: Masks) -> int:
    """Weights that stay."""
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def sparsity(masks: Masks) -> float:
    """Share of weights that are pruned; 0 for no masks."""
    total = sum(mask.size for mask in masks.values())
    return 1 - nonzeros(masks) / total if total else 0.0


def write_masks(path: str | os.PathLike, masks: Masks, about: Mapping | None = None) -> None:
    """Write masks, a bit a weight, whole or not at all.

    Args:
        path: An `.npz` file.
        masks: To write.
        about: Anything JSON to go with them.
    """
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    facts = json.dumps({"shapes": shapes, "about": dict(about or {})})
    arrays: dict[str, Any] = {
        f"mask{number}": np.packbits(mask) for number, mask in enumerate(masks.values())}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, facts=np.frombuffer(facts.encode(), np.uint8), **arrays)


def read_masks(path: str | os.PathLike) -> tuple[dict[str, NDArray[np.bool_]], dict]:
    """Masks as `write_masks` wrote them, and what went with them.

    Raises:
        InputError: If the file cannot be read or is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(file["facts"].tobytes())
            masks = {}
            for number, (name, shape) in enumerate(facts["shapes"].items()):
                bits = np.unpackbits(file[f"mask{number}"], count=math.prod(shape))
                masks[name] = bits.astype(bool).reshape(shape)
            return masks, facts["about"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: holds no masks ({error}); remove it to start anew") from error
