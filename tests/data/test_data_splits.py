"""A patient is never on both sides, nothing is lost, classes are on both sides if they can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.data import Collection, Part, hold_out, with_validation
from cxcompress.data.splits import leaking_patients, three_parts, without_leaks
from cxcompress.errors import InputError


def part(labels, patients) -> Part:
    n = len(patients)
    images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
    return Part(images, labels, np.array([f"i{row}" for row in range(n)]), np.array(patients))


cohorts = st.integers(2, 60).flatmap(lambda n: st.tuples(
    st.lists(st.integers(0, 12), min_size=n, max_size=n).filter(lambda who: len(set(who)) > 1),
    st.integers(0, 2**16)))


@settings(max_examples=150)
@given(cohorts, st.floats(0.05, 0.6), st.integers(0, 99))
def test_patients_are_whole_and_nothing_is_lost(cohort, fraction, seed):
    who, label_seed = cohort
    labels = np.random.default_rng(label_seed).integers(0, 2, (len(who), 3)).astype(np.float32)
    whole = part(labels, [f"p{one}" for one in who])
    train, val = hold_out(whole, fraction, seed, patients_known=True)
    assert len(train) and len(val)
    assert not set(train.patient_id) & set(val.patient_id)
    assert sorted([*train.image_id, *val.image_id]) == sorted(whole.image_id)
    for side in (train, val):
        rows = side.images.ravel()
        np.testing.assert_array_equal(side.labels, labels[rows])
    again, _ = hold_out(whole, fraction, seed, patients_known=True)
    np.testing.assert_array_equal(again.image_id, train.image_id)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.1, 0.5))
def test_single_images_split_evenly_in_every_class(seed, fraction):
    """Of every class the held-out side has its share, to within one image."""
    label = np.random.default_rng(seed).choice(4, 300, p=(0.6, 0.3, 0.08, 0.02))
    whole = part(np.eye(4, dtype=np.float32)[label], np.arange(300).astype(str))
    _, val = hold_out(whole, fraction, seed)
    share = whole.labels.sum(0) * fraction
    assert (np.abs(val.labels.sum(0) - share) <= 1.0 + 1e-6).all()


def test_another_seed_is_another_split():
    whole = part(np.zeros((50, 2), np.float32), np.arange(50).astype(str))
    sides = {tuple(hold_out(whole, 0.2, seed)[1].image_id) for seed in range(5)}
    assert len(sides) == 5


def test_a_class_of_two_patients_is_on_both_sides_and_of_one_in_train():
    labels = np.zeros((40, 2), np.float32)
    labels[[3, 9], 0] = 1
    labels[20, 1] = 1
    train, val = hold_out(part(labels, np.arange(40).astype(str)), 0.15, 0)
    assert train.labels[:, 0].sum() == val.labels[:, 0].sum() == 1
    assert train.labels[:, 1].sum() == 1


def test_unknown_labels_and_nuclei_can_be_split():
    labels = np.full((10, 2), np.nan, np.float32)
    assert len(hold_out(part(labels, np.arange(10).astype(str)), 0.3)[1]) == 3
    cells = [np.full((row, 3), row) for row in range(10)]
    train, val = hold_out(part(cells, np.arange(10) // 2), 0.3, patients_known=True)
    for side in (train, val):
        assert [len(one) for one in side.labels] == side.images.ravel().tolist()


def test_what_cannot_be_split_is_refused():
    one = part(np.zeros((5, 1), np.float32), ["p"] * 5)
    with pytest.raises(InputError, match="1 patient"):
        hold_out(one, patients_known=True)
    with pytest.raises(ValueError, match="Received: 1.5"):
        hold_out(one, 1.5)


def test_with_validation_touches_neither_test_nor_an_existing_val():
    whole = part(np.zeros((20, 1), np.float32), np.arange(20).astype(str))
    collection = Collection("c", "multilabel", ("a",), whole, None, whole)
    split = with_validation(collection)
    assert len(split.val) == 3 and len(split.train) == 17 and split.test is whole
    assert with_validation(split) is split
    with pytest.raises(InputError, match="no train part"):
        with_validation(Collection("c", "multilabel", ("a",), None, None, whole))


@settings(max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=120), st.integers(0, 5))
def test_three_parts_hold_every_image_once_and_every_patient_in_one(patients, seed):
    labels = np.random.default_rng(seed).integers(0, 2, (len(patients), 2)).astype(np.float32)
    whole = part(labels, np.array(patients).astype(str))
    parts = [one for one in three_parts(whole, seed=seed, patients_known=True) if one is not None]
    held = np.concatenate([one.image_id for one in parts])
    assert sorted(held) == sorted(whole.image_id)
    sets = [set(one.patient_id) for one in parts]
    assert sum(map(len, sets)) == len(set().union(*sets)) == len(set(patients))
    assert min(2, len(set(patients))) <= len(parts) <= 3


def test_three_parts_are_about_70_10_20():
    labels = np.random.default_rng(0).integers(0, 2, (500, 3)).astype(np.float32)
    parts = three_parts(part(labels, np.arange(500).astype(str)), patients_known=True)
    np.testing.assert_allclose([len(one) for one in parts], [350, 50, 100], atol=15)


@settings(max_examples=40)
@given(*[st.lists(st.integers(0, 25), min_size=1, max_size=30)] * 3)
def test_without_leaks_no_patient_is_in_two_parts_and_test_is_whole(train, val, test):
    sides = [part(np.zeros((len(ids), 1), np.float32), np.array(ids).astype(str))
             for ids in (train, val, test)]
    collection = Collection("c", "multilabel", ("a",), *sides, patients_known=True)
    left = [set(train) - set(val) - set(test), set(val) - set(test), set(test)]
    if not all(left):
        with pytest.raises(InputError, match="divide it by patient"):
            without_leaks(collection)
        return
    mended = without_leaks(collection)
    assert [set(map(int, one.patient_id)) for one in mended.parts.values()] == left
    assert not any(len(ids) for ids in leaking_patients(mended).values())
    if set(train) & set(val) or (set(train) | set(val)) & set(test):
        with pytest.raises(InputError, match="--strict"):
            without_leaks(collection, strict=True)
    else:
        assert mended is collection
