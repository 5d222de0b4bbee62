"""Dropping final blocks keeps the weights of what stays, and saves what the study says."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress import models
from cxcompress.errors import InputError


def ratios(name: str, side: int = 64, most: int = 3) -> list[float]:
    """Parameters of the whole, 14 classes and 3 channels, over those of each truncation."""
    model = models.build(name, (side, side, 3), 14)
    counts = [models.truncate(model, dropped).count_params() for dropped in range(1, most + 1)]
    assert counts == [models.truncated_parameters(model, dropped)
                      for dropped in range(1, most + 1)]
    return [model.count_params() / count for count in counts]


# CheXtransfer's ratios by layer arithmetic: DenseNet121 1.6, 5.3, 20.0; EfficientNetB0 1.4, 4.7;
# ResNet18 4.2 and 17.1 with a head of 1000 classes on the whole alone, 4.0 with equal heads.
@pytest.mark.parametrize(("name", "expected"), [
    ("resnet18", (4.0, 16.3)),
    pytest.param("densenet121", (1.63, 5.35, 20.06), marks=pytest.mark.slow),
    pytest.param("efficientnetb0", (1.40, 4.68), marks=pytest.mark.slow),
    pytest.param("mnasnet", (1.49, 6.48), marks=pytest.mark.slow),
    pytest.param("inceptionv4", (1.66,), marks=pytest.mark.slow),
])
def test_truncation_saves_as_many_parameters_as_published(name, expected):
    side = 96 if name.startswith("inception") else 64
    np.testing.assert_allclose(ratios(name, side, len(expected)), expected, rtol=0.01)


def test_what_stays_keeps_its_weights_and_shares_none():
    model = models.build("small_cxr", (32, 32, 1), 3, activation="sigmoid")
    assert models.blocks(model) == ("stage1", "stage2", "stage3")
    smaller = models.truncate(model, 1)
    before, after = models.weights(model), models.weights(smaller)
    kept = set(after) - {"predictions/kernel", "predictions/bias"}
    assert kept == {path for path in before if path.startswith(("stem", "stage1", "stage2"))}
    for path in kept:
        np.testing.assert_array_equal(after[path], before[path])
    images = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    features = models.truncate(model, 1).get_layer("stage2_relu2")
    assert features.output.shape[1:] == (8, 8, 64)
    scores = smaller(images).numpy()
    assert scores.shape == (2, 3) and (scores > 0).all() and (scores < 1).all()
    models.set_weights(smaller, {path: np.zeros_like(array) for path, array in after.items()})
    np.testing.assert_array_equal(models.weights(model)["stem/kernel"], before["stem/kernel"])
    assert models.truncate(model, 2, classes=5).output.shape == (None, 5)
    assert smaller.name == "small_cxr-1"


@pytest.mark.parametrize(("name", "count"), [
    ("mobilenetv2", 7), ("mobilenetv3", 6), ("vgg16", 5), ("mnasnet", 6)])
def test_every_family_has_named_blocks_whose_maps_grow_finer(name, count):
    model = models.build(name, (64, 64, 1), 2)
    assert len(models.blocks(model)) == count
    sides = [models.truncate(model, dropped).layers[-3].output.shape[1]
             for dropped in (1, count - 1)]
    assert 2 <= sides[0] < sides[1]


def test_bad_numbers_of_blocks_are_one_clear_line():
    model = models.build("small_cxr", (32, 32, 1), 3)
    for dropped in (0, 3, -1):
        with pytest.raises(InputError, match=f"1 to 2 can be dropped, not {dropped}"):
            models.truncate(model, dropped)
    with pytest.raises(InputError, match="no blocks that are known here"):
        models.blocks(models.build("pathonet", (32, 32, 3), 3))
