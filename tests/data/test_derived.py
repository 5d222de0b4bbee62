"""Smaller tasks out of a collection, and larger ones with unknown labels."""

from __future__ import annotations

import numpy as np
import pytest

from cxcompress.data import open_collection
from cxcompress.data.derived import NONE, one_against_none, padded_with
from cxcompress.errors import InputError


def test_one_finding_against_none(layout, nih_rows):
    collection = open_collection(layout("nih"))
    single = one_against_none(collection, "Cardiomegaly")
    assert single.task == "multiclass" and single.classes == (NONE, "Cardiomegaly")
    held = {image: row for part in single.parts.values()
            for image, row in zip(part.image_id, part.labels, strict=True)}
    for row in nih_rows:
        heart, none = "Cardiomegaly" in row[1], row[1] == "No Finding"
        assert (row[0] in held) == (heart or none)
        if row[0] in held:
            np.testing.assert_array_equal(held[row[0]], [not heart, heart])
    with pytest.raises(InputError, match="Sneeze"):
        one_against_none(collection, "Sneeze")


def test_padding_adds_images_of_one_known_label_and_no_test_patient(layout):
    full = open_collection(layout("nih"))
    everything = open_collection(layout("nih_sample"))       # the same images, divided otherwise
    column = full.classes.index("Cardiomegaly")
    kept = np.flatnonzero(np.arange(len(full.train)) % 2)
    half = full.train.select(kept)
    from dataclasses import replace

    full = replace(full, train=half)
    padded = padded_with(full, one_against_none(everything, "Cardiomegaly"), "Cardiomegaly")
    new = padded.train.labels[len(half):]
    assert len(new) and np.isnan(np.delete(new, column, axis=1)).all()
    assert np.isin(new[:, column], (0, 1)).all()
    others = np.concatenate([full.val.patient_id, full.test.patient_id])
    assert not set(padded.train.patient_id) & set(others)
    assert len(set(padded.train.image_id)) == len(padded.train)
    assert len(padded.train.images) == len(padded.train)
    assert padded.train.images[len(half)].shape == (20, 20)
