"""Laws of the nuclei task: drawn cells are found again, pairs are one to one, records repeat."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.feature import peak_local_max

from cxcompress.data import open_collection
from cxcompress.data.density_maps import PEAK, density_maps
from cxcompress.errors import InputError
from cxcompress.tasks import CellMatches, NucleiTask
from cxcompress.tasks.nuclei import (
    MATCH_DISTANCE,
    MATCHINGS,
    distance_peaks,
    distinct_nearest,
    matched_pairs,
)

TASK = NucleiTask(("positive", "negative", "lymphocyte"))


def far_apart(rng, count, size=256, distance=14):
    """Cells of random classes that do not touch: int `(cells, 3)`."""
    cells = []
    while len(cells) < count:
        place = rng.integers(0, size, 2)
        if all(np.hypot(*(place - cell[:2])) >= distance for cell in cells):
            cells.append([*place, rng.integers(1, 4)])
    return np.array(cells)


@pytest.mark.parametrize("seed", range(5))
def test_cells_that_are_drawn_are_found_where_they_were(seed):
    cells = far_apart(np.random.default_rng(seed), 40)
    (found,) = TASK.findings(density_maps(cells, (256, 256))[None])
    for label in (1, 2, 3):
        ours, drawn = (side[side[:, 2] == label][:, :2] for side in (found, cells))
        assert len(ours) == len(drawn)
        gaps = np.hypot(*(ours[:, None] - drawn[None]).transpose(2, 0, 1)).min(0)
        assert gaps.max(initial=0) <= 2  # cut off at the border, the centroid moves inwards
    record = TASK.record(density_maps(cells, (256, 256))[None], [cells], ["a"], ["p"])
    assert (record.fp == 0).all() and (record.fn == 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(2, 60), st.floats(0.05, 3))
@settings(max_examples=60)
def test_peaks_are_scikit_images(seed, height, width, smooth):
    noise = np.random.default_rng(seed).normal(size=(height, width))
    noise = ndimage.gaussian_filter(noise, smooth)
    distance = ndimage.distance_transform_edt(np.pad(noise > 0, 1))
    np.testing.assert_array_equal(
        distance_peaks(distance),
        peak_local_max(distance, min_distance=5, exclude_border=False, threshold_abs=0))


def test_two_hundred_cells_are_found_fast():
    """At least 20 fields of 256x256 a second on a core; a crowded one of three maps."""
    maps = density_maps(far_apart(np.random.default_rng(0), 140), (256, 256))[None]
    TASK.findings(maps)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        TASK.findings(maps)
        seconds.append(time.process_time() - start)
    print(f"cells of density maps: {1 / min(seconds):.0f} fields/s a core")
    assert min(seconds) < 1 / 20


def test_the_peak_is_the_cell_and_order_does_not_matter():
    cells = np.array([[10, 20, 1], [12, 21, 1], [0, 255, 2], [255, 0, 3]])
    maps = density_maps(cells, (256, 256))
    assert [maps[y, x, label - 1] for x, y, label in cells] == [PEAK] * 4
    np.testing.assert_array_equal(maps, density_maps(cells[::-1], (256, 256)))
    assert maps.max() == PEAK and maps.min() == 0
    np.testing.assert_array_equal(  # half the size: the same stamp at half the coordinates
        density_maps(cells[:1], (128, 128), scale=(0.5, 0.5)),
        density_maps(np.array([[5, 10, 1]]), (128, 128)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=60)
def test_pairs_are_the_most_that_one_to_one_pairing_allows(seed, found, annotated):
    rng = np.random.default_rng(seed)
    one, other = rng.uniform(0, 60, (found, 2)), rng.uniform(0, 60, (annotated, 2))
    gaps = np.hypot(*(one[:, None] - other[None]).transpose(2, 0, 1))
    far = (gaps > MATCH_DISTANCE).astype(float)
    expected = (far[linear_sum_assignment(far)] == 0).sum() if found and annotated else 0
    assert matched_pairs(one, other) == expected == matched_pairs(other, one)
    assert matched_pairs(one[::-1], rng.permutation(other)) == expected


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=60)
def test_the_papers_rule_counts_distinct_nearest_cells_and_never_more_than_pairs(
    seed, found, annotated
):
    rng = np.random.default_rng(seed)
    one, other = rng.uniform(0, 60, (found, 2)), rng.uniform(0, 60, (annotated, 2))
    chosen = set()
    for cell in other:
        gaps = np.hypot(*(one - cell).T) if found else np.array([])
        if len(gaps) and gaps.min() <= MATCH_DISTANCE:
            chosen.add(int(gaps.argmin()))
    assert distinct_nearest(one, other) == len(chosen) <= matched_pairs(one, other)


def test_both_rules_are_chosen_by_name():
    cells = np.array([[50, 50, 1], [54, 50, 1]])
    found = [np.array([[51, 50, 1], [40, 50, 1]])]
    tp = {rule: TASK.record_of_cells(found, [cells], ["a"], ["p"], rule).tp[0, 0]
          for rule in MATCHINGS}
    assert tp == {"one-to-one": 2, "paper": 1}


def test_a_cell_of_another_class_is_no_match():
    cells = np.array([[50, 50, 1]])
    record = TASK.record(density_maps(np.array([[50, 50, 2]]), (96, 96))[None], [cells], ["a"],
                         ["p"])
    assert record.tp.tolist() == [[0, 0, 0]]
    assert record.fn.tolist() == [[1, 0, 0]] and record.fp.tolist() == [[0, 1, 0]]


def test_chosen_thresholds_are_the_best_of_their_class():
    rng = np.random.default_rng(3)
    cells = [far_apart(rng, 20, 128) for _ in range(4)]
    maps = np.stack([density_maps(one, (128, 128)) for one in cells])
    maps = maps * 0.5 + rng.uniform(0, 70, maps.shape) * (rng.random(maps.shape) < 0.02)
    chosen = TASK.choose_thresholds(maps, cells)
    number = np.arange(4).astype(str)

    def f1(thresholds):
        record = TASK.record(maps, cells, number, number, thresholds)
        return 2 * record.tp.sum(0) / (2 * record.tp.sum(0) + record.fp.sum(0) + record.fn.sum(0))

    for other in (20.0, 60.0, 110.0):
        assert (f1(chosen) >= f1((other,) * 3)).all()


def test_thresholds_stay_unless_others_are_clearly_better():
    rng = np.random.default_rng(3)
    cells = [far_apart(rng, 20, 128) for _ in range(4)]
    maps = np.stack([density_maps(one, (128, 128)) for one in cells]) * 0.5
    best = TASK.choose_thresholds(maps, cells)
    # Peaks of 127: nothing between noise and 127 loses a cell, above it all are lost.
    assert TASK.choose_thresholds(maps, cells, (77.5, 90.0, 110.0)) == (77.5, 90.0, 110.0)
    kept = TASK.choose_thresholds(maps, cells, (77.5, 140.0, 150.0))
    assert kept == (77.5, *best[1:]) and max(best) < 127
    # One cell of many is lost at 110, of one field: that may be chance.
    dimmed = maps.copy()
    x, y, label = cells[0][0]
    dimmed[0, y - 8:y + 9, x - 8:x + 9, label - 1] *= 0.8
    keep = (110.0,) * 3
    assert TASK.choose_thresholds(dimmed, cells) == best
    assert TASK.choose_thresholds(dimmed, cells, keep) == keep


def test_records_are_saved_and_joined(tmp_path):
    counts = np.arange(6).reshape(2, 3)
    record = CellMatches(np.array(["a", "b"]), np.array(["p", "q"]), TASK.classes, counts,
                         counts + 1, counts + 2, 2 * counts + 2, 2 * counts + 1)
    record.save(tmp_path / "cells.npz")
    loaded = CellMatches.joined([CellMatches.load(tmp_path / "cells.npz")] * 2)
    np.testing.assert_array_equal(loaded.fn, np.concatenate([record.fn] * 2))
    assert loaded.classes == TASK.classes
    with pytest.raises(ValueError, match="true_count is tp"):
        CellMatches(record.image_id, record.patient_id, TASK.classes, counts, counts, counts,
                    counts, counts)


@pytest.mark.parametrize("outputs", [np.zeros((2, 3)), np.zeros((1, 8, 8, 2)),
                                     np.full((1, 8, 8, 3), np.nan)])
def test_outputs_that_are_no_maps_are_refused(outputs):
    with pytest.raises(InputError, match="maps"):
        TASK.findings(outputs)


def test_a_collection_of_nuclei_keeps_its_order_of_classes():
    fields = open_collection("synthetic:ki67_64", count=24)
    assert fields.in_class_order(fields.classes) is fields
    with pytest.raises(InputError, match="leave --classes out"):
        fields.in_class_order(fields.classes[::-1])


def test_no_cells_at_all_is_no_error():
    record = TASK.record(np.zeros((1, 32, 32, 3)), [np.zeros((0, 3), int)], ["a"], ["p"])
    assert record.true_count.sum() == record.predicted_count.sum() == 0
