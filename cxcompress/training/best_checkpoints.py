"""Several good epochs instead of one: their predictions averaged are an ensemble for one training.

    keeper = BestCheckpoints(3)
    fit_classifier(model, …, callbacks=[keeper])
    for weights in keeper.weights:           # best first
        model.set_weights(weights)

Reference: Ke et al., "CheXtransfer" (2021), average the 10 checkpoints best on validation.
"""

from __future__ import annotations

import math

import keras
import numpy as np


class BestCheckpoints(keras.callbacks.Callback):
    """Keeps, in memory, the weights of the epochs with the lowest validation loss.

    Args:
        count: How many, at least 1. Fewer are kept where fewer epochs were trained.

    Attributes:
        epochs: The epochs kept, from 0, best first; of equal ones the earlier first.
        weights: Their weights, as `model.get_weights` gives them.

    Raises:
        ValueError: If `count` is below 1.
    """

    def __init__(self, count: int):
        super().__init__()
        if count < 1:
            raise ValueError(f"count must be at least 1. Received: {count}")
        self.count = count
        self._kept: list[tuple[float, int, list[np.ndarray]]] = []

    def on_epoch_end(self, epoch, logs=None):
        loss = float(logs["val_loss"])
        if math.isnan(loss):  # sorts last, and is kept only where nothing else is
            loss = math.inf
        if len(self._kept) < self.count or loss < self._kept[-1][0]:
            self._kept.append((loss, epoch, self.model.get_weights()))
            self._kept.sort(key=lambda kept: kept[:2])
            del self._kept[self.count:]

    @property
    def epochs(self) -> list[int]:
        return [epoch for _, epoch, _ in self._kept]

    @property
    def weights(self) -> list[list[np.ndarray]]:
        return [weights for _, _, weights in self._kept]
