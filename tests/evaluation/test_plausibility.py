"""Each usual mistake of preprocessing gives its own warning, and a sound model none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxcompress.evaluation.plausibility import plausibility_warnings

IMAGES = np.linspace(0, 1, 192, dtype=np.float32).reshape(1, 8, 8, 3)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_sound_model_gives_no_warning(record, task):
    predictions = record(200, 3, task)
    assert plausibility_warnings(predictions, inputs=IMAGES, value_range=(0, 1)) == []


def test_the_same_output_for_every_image(record):
    predictions = record(100, 2, "multiclass")
    predictions.score[:] = [0.999, 0.001]
    line, = plausibility_warnings(predictions)
    assert "same output for all 100 images" in line and "--preprocessing" in line


def test_chance_and_reversed_classes(record):
    chance, = plausibility_warnings(record(100, 2, "multiclass", signal=0))
    assert "no better than chance" in chance and "--preprocessing" in chance
    predictions = record(100, 2, "multiclass", signal=3)
    reversed_, = plausibility_warnings(replace(predictions, score=predictions.score[:, ::-1]))
    assert "worse than chance" in reversed_ and "--classes" in reversed_


def test_good_ranking_with_useless_decisions(record):
    predictions = record(300, 2, "multiclass", signal=2)
    shifted = predictions.score * [1, 1e-6]
    shifted /= shifted.sum(axis=1, keepdims=True)
    line, = plausibility_warnings(replace(predictions, score=shifted))
    assert "though the ranking is" in line
    rare = record(300, 2, "multilabel", signal=2)
    rare = replace(rare, score=rare.score / 3)
    assert plausibility_warnings(rare) == []
    line, = plausibility_warnings(rare, thresholds=(0.5, 0.5))
    assert "though the ranking is" in line


@pytest.mark.parametrize("inputs, value_range, words", [
    (IMAGES * 255, (0, 1), "span 0 to 255 but the model expects 0 to 1"),
    (IMAGES * 2 - 1, (0, 1), "span -1 to 1 but the model expects 0 to 1"),
    (IMAGES / 255, (0, 1), "scaled twice"),
    (IMAGES * 0 + 0.5, None, "every input value is 0.5"),
    (IMAGES * np.nan, None, "NaN"),
])
def test_inputs_out_of_range(record, inputs, value_range, words):
    line, = plausibility_warnings(record(200, 2), inputs=inputs, value_range=value_range)
    assert words in line and "\n" not in line
