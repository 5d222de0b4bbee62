"""A Keras model's weights with its kernels shared."""

from __future__ import annotations

import keras
import numpy as np

from cxcompress import models
from cxcompress.quantization import Compression, share_weights
from cxcompress.representation import SharedWeights


def share_model(model: keras.Model, compression: Compression, seed: int = 0) -> SharedWeights:
    """The model's weights with its kernels shared as `compression` says; the model is unchanged.

    Raises:
        InputError: If the model has no kernel, or a weight is NaN or infinite.
    """
    shared = share_weights(
        {kernel.path: (np.asarray(kernel.variable), kernel.family)
         for kernel in models.kernels(model)},
        compression, seed=seed,
    )
    rest = {path: value for path, value in models.weights(model).items()
            if path not in shared.kernels}
    return SharedWeights(shared.codebooks, shared.kernels, rest | shared.unshared)


def fewer_levels(shared: SharedWeights, compression: Compression) -> list[str]:
    """One line a codebook that holds fewer values than asked for."""
    if compression.scope == "layer":
        return []  # the table of layers says it for each
    return [
        f"codebook {name}: {codebook.k} shared values instead of {compression.k_for(name)}; "
        "the quantizer, or the number of distinct weights, allows no more"
        for name, codebook in shared.codebooks.items() if codebook.k < compression.k_for(name)
    ]
