"""One-shot masks of a network's kernels: which weights stay, by magnitude or by chance.

    masks = kernel_masks(kernels, 0.9, score="L1", scope="global", seed=0)
    pruned = {path: kernel * masks[path] for path, kernel in kernels.items()}

The sparsity is met exactly: floor(sparsity × number of weights) go, over all kernels together
(global) or in each kernel (layer), and a kernel may lose all its weights: the study counts what
that does. (`cxcompress.pruning.prune`, for networks that are trained on, refuses that.) Among equal
magnitudes the earlier ones stay.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxcompress.errors import InputError

SCORES = ("L1", "random")
SCOPES = ("global", "layer")


def kernel_masks(
    kernels: Mapping[str, NDArray], sparsity: float, *, score: Literal["L1", "random"] = "L1",
    scope: Literal["global", "layer"] = "global", seed: int = 0,
) -> dict[str, NDArray[np.bool_]]:
    """True where a weight stays.

    Args:
        kernels: By path, any shapes, finite.
        sparsity: Share of weights that go, 0 <= sparsity < 1.
        score: `"L1"`: the smallest magnitudes go; `"random"`: chance decides. Of one seed the
            weights that go at one sparsity go at every higher one too.
        scope: Over what the share is counted.
        seed: Of random scores; every kernel has a stream of its own.

    Raises:
        InputError: If the sparsity is out of range or a weight is not finite.

    Reference: global_unstructured pruning as in Holste et al., "How does pruning impact
    long-tailed multi-label medical image classifiers?" (2023).
    """
    from cxcompress.pruning.thresholds import keep_largest

    if not 0 <= sparsity < 1:
        raise InputError(f"a sparsity is a share of 0 or more and below 1, not {sparsity:g}")
    scores = {}
    for path, kernel in kernels.items():
        if not np.isfinite(kernel).all():
            raise InputError(f"{path}: holds NaN or infinite weights; the network cannot be pruned")
        scores[path] = (np.abs(kernel) if score == "L1" else
                        np.random.default_rng((seed, zlib.crc32(path.encode())))
                        .random(np.shape(kernel), np.float32))
    groups = [[path] for path in scores] if scope == "layer" else [list(scores)]
    masks: dict[str, NDArray[np.bool_]] = {}
    for group in groups:
        total = sum(scores[path].size for path in group)
        # The small term keeps 0.7 × 10 from being 6.999…
        gone = math.floor(sparsity * total + 1e-9)
        masks |= zip(group, keep_largest([scores[path] for path in group], total - gone),
                     strict=True)
    return {path: masks[path] for path in kernels}
