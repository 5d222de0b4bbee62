"""Generated records with a known amount of signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxcompress.tasks.predictions import Predictions


def make_record(
    n=200, classes=3, task="multilabel", *, seed=0, patients=None, prevalence=0.4, signal=1.2,
    unknown=0.0, levels=None,
):
    """Scores with `signal` standard deviations between classes; `levels` makes ties."""
    random = np.random.default_rng(seed)
    names = tuple(f"class{index}" for index in range(classes))
    if task == "multiclass":
        truth = np.eye(classes)[random.integers(0, classes, n)]
        score = np.exp(random.normal(size=(n, classes)) + signal * truth)
        score /= score.sum(axis=1, keepdims=True)
    else:
        truth = (random.random((n, classes)) < prevalence).astype(float)
        score = 1 / (1 + np.exp(-random.normal(size=(n, classes)) - signal * (truth - 0.5)))
        if levels:
            score = np.round(score * levels) / levels
    if unknown:
        hidden = random.random((n, 1 if task == "multiclass" else classes)) < unknown
        truth = np.where(hidden, np.nan, truth)
    image_id = np.array([f"image{index:05d}" for index in range(n)])
    patient_id = image_id
    if patients:
        patient_id = np.array([f"p{index}" for index in random.integers(0, patients, n)])
    return Predictions(image_id, patient_id, names, truth, score, task)


def make_noisy(record, noise, seed=1):
    """The record of a compressed model: the scores' logits plus normal noise."""
    random = np.random.default_rng(seed)
    score = record.score.clip(1e-9, 1 - 1e-9)
    logits = np.log(score / (1 - score)) + noise * random.normal(size=score.shape)
    score = 1 / (1 + np.exp(-logits))
    if record.task == "multiclass":
        score /= score.sum(axis=1, keepdims=True)
    return replace(record, score=score)


def take_rows(record, rows):
    """The record of some images (by position, repeats allowed)."""
    return Predictions(record.image_id[rows], record.patient_id[rows], record.classes,
                       record.truth[rows], record.score[rows], record.task)


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def noisy():
    return make_noisy


@pytest.fixture
def take():
    return take_rows
