"""Test-time augmentation: the mean of what a model says of several views of each image.

    outputs = averaged_outputs(model, part, preprocessing, 32, Augmentation.turned(15), copies=8)
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Part
from cxcompress.images import Preprocessing
from cxcompress.training.image_pipeline import ImagePipeline


def averaged_outputs(
    model: keras.Model, part: Part, preprocessing: Preprocessing, batch_size: int,
    augmentation: Augmentation | None = None, copies: int = 0, seed: int = 0,
) -> NDArray[np.float32]:
    """Probabilities `(n, c)`: of the images as they are, or their mean over augmented copies.

    Args:
        model: Gives probabilities.
        part: Images.
        preprocessing: From stored image to network input.
        batch_size: Images a step.
        augmentation: Of each copy; drawn anew for each.
        copies: 0 for none: the images as they are.
        seed: Of the copies; the same images get the same views.
    """
    total = np.zeros((len(part), model.outputs[0].shape[-1]), np.float64)
    for copy in range(max(copies, 1)):
        pipeline = ImagePipeline(part, preprocessing, batch_size,
                                 augmentation=augmentation if copies else None)
        # The order stays; only what augmentation draws differs from copy to copy.
        pipeline.epoch = copy + 1000 * seed
        total += model.predict(pipeline.dataset.map(lambda inputs, _: inputs), verbose=0)
    return (total / max(copies, 1)).astype(np.float32)
