"""A Keras model's weights with its kernels shared, and BatchNormalization that fits them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.pipeline.inputs import Study, evenly
from cxcompress.quantization import Compression, share_weights
from cxcompress.representation import SharedWeights
from cxcompress.runs import atomic_path

NORMALIZATION_IMAGES = 256
"""Training images that BatchNormalization statistics are estimated on, at most."""
NORMALIZATION_GAIN = 0.1
"""Share by which they must lower the validation loss to be kept: less may be chance."""
STATISTICS_FILE = "batch_normalization.npz"
DIGEST = "shared_weights_sha256"


def share_model(
    model: keras.Model, compression: Compression, seed: int = 0,
    sample_weight: Mapping[str, NDArray] | None = None,
) -> SharedWeights:
    """The model's weights with its kernels shared as `compression` says; the model is unchanged.

    Args:
        model: A Keras model.
        compression: What to do.
        seed: Of quantisers that draw.
        sample_weight: By path, importance of each weight's error (`share_weights`).

    Raises:
        InputError: If the model has no kernel, or a weight is NaN or infinite.
    """
    shared = share_weights(
        {kernel.path: (np.asarray(kernel.variable), kernel.family)
         for kernel in models.kernels(model)},
        compression, seed=seed, sample_weight=sample_weight,
    )
    rest = {path: value for path, value in models.weights(model).items()
            if path not in shared.kernels}
    return SharedWeights(shared.codebooks, shared.kernels, rest | shared.unshared)


def fewer_levels(shared: SharedWeights, compression: Compression) -> list[str]:
    """One line a codebook that holds fewer values than asked for."""
    if compression.scope == "layer" or "sqnr_db" in compression.parameters:
        return []  # the table of layers says it for each, or no number was asked for
    return [
        f"codebook {name}: {codebook.k} shared values instead of {compression.k_for(name)}; "
        "the quantizer, or the number of distinct weights, allows no more"
        for name, codebook in shared.codebooks.items() if codebook.k < compression.k_for(name)
    ]


def with_estimated_statistics(
    model: keras.Model, shared: SharedWeights, study: Study, *,
    keep: Literal["better", "always"] = "better", batch_size: int = 32, seed: int = 0,
    state_folder: Path | None = None,
) -> tuple[SharedWeights, list[str]]:
    """Shared weights with BatchNormalization statistics estimated on training images.

    Args:
        model: Of the architecture; its weights are the same again when this returns.
        shared: Its shared weights, with the statistics of the float weights.
        study: With a training part.
        keep: `"better"`: keep the estimate only where it lowers the loss on validation images by
            at least `NORMALIZATION_GAIN`; without labelled ones the old statistics stay.
            `"always"`: keep it.
        batch_size: Images a batch.
        seed: Of the order of images.
        state_folder: Where the estimate is kept, so that a resumed call has the very same one;
            one of other shared weights is not used.

    Returns:
        The shared weights and one line that says what was done; `shared` itself and no line where
        the model has no statistics to estimate.

    Raises:
        InputError: If `keep="always"` and there are no training images.
    """
    from cxcompress.pipeline.tuning import batches
    from cxcompress.training.fine_tuning import digest, loss_on
    from cxcompress.training.normalization import estimate_statistics, normalizations

    collection = study.collection
    if not normalizations(model):
        return shared, []
    if collection.train is None:
        if keep == "always":
            raise InputError(f"{collection.name}: has no train part to estimate "
                             "BatchNormalization statistics on; give one, or "
                             "--bn_statistics keep")
        return shared, []
    if keep == "better" and not (study.labelled and collection.val is not None):
        return shared, []
    count = min(NORMALIZATION_IMAGES, len(collection.train))
    if count > batch_size:
        count -= count % batch_size  # so that every image weighs the same
    images = evenly(collection.train, count)
    saved = None if state_folder is None else Path(state_folder) / STATISTICS_FILE
    weights = models.weights(model)
    models.set_weights(model, shared.weights())
    try:
        def validation_loss() -> float:
            return loss_on(model, batches(study, collection.val, batch_size), study.task.name)

        before = validation_loss() if keep == "better" else None
        key = digest(*(book.values for book in shared.codebooks.values()),
                     *(kernel.indices for kernel in shared.kernels.values()),
                     *shared.unshared.values())
        estimated = {} if saved is None else _saved_statistics(saved, key)
        if estimated:
            models.set_weights(model, shared.weights() | estimated)
        else:
            estimate_statistics(model, batches(study, images, batch_size, seed))
            now = models.weights(model)
            estimated = {path: now[path] for path in shared.unshared
                         if not np.array_equal(now[path], shared.unshared[path])}
            if saved is not None:
                saved.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(saved) as temporary, open(temporary, "wb") as file:
                    np.savez(file, **estimated, **{DIGEST: np.asarray(key)})
        after = validation_loss() if keep == "better" else None
    finally:
        models.set_weights(model, weights)
    said = f"BatchNormalization statistics estimated again on {count} training images"
    if keep == "better":
        said += f": validation loss {before:.4g} to {after:.4g}"
        if not after <= (1 - NORMALIZATION_GAIN) * before:
            return shared, [f"{said}; not kept, since that is no clear gain"]
    return replace(shared, unshared=shared.unshared | estimated), [said]


def _saved_statistics(path: Path, key: str) -> dict[str, NDArray]:
    """By path, the statistics kept for these shared weights; empty where there are none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}
    return found if str(found.pop(DIGEST, "")) == key else {}
