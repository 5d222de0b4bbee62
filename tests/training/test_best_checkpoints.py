"""Several checkpoints: those with the lowest validation loss, best first, as they were."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.training.best_checkpoints import BestCheckpoints


class Stand:
    """What the callback asks of a model: its weights, here the number of the epoch."""

    def __init__(self):
        self.epoch = -1

    def get_weights(self):
        return [np.array([self.epoch])]


@settings(max_examples=60)
@given(st.lists(st.floats(0, 5) | st.just(float("nan")), min_size=1, max_size=12),
       st.integers(1, 5))
def test_the_lowest_losses_are_kept_best_first(losses, count):
    keeper, model = BestCheckpoints(count), Stand()
    keeper.set_model(model)
    for epoch, loss in enumerate(losses):
        model.epoch = epoch
        keeper.on_epoch_end(epoch, {"val_loss": loss})
    sortable = np.nan_to_num(np.array(losses), nan=np.inf)
    expected = list(np.argsort(sortable, kind="stable")[:count])
    assert keeper.epochs == expected
    assert [int(weights[0][0]) for weights in keeper.weights] == expected


def test_weights_are_copies_of_their_epoch():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    keeper = BestCheckpoints(2)
    keeper.set_model(model)
    keeper.on_epoch_end(0, {"val_loss": 1.0})
    before = model.get_weights()
    model.set_weights([weight + 1 for weight in before])
    np.testing.assert_array_equal(keeper.weights[0][0], before[0])


def test_none_is_too_few():
    with pytest.raises(ValueError, match="at least 1"):
        BestCheckpoints(0)
