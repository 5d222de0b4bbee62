"""What falls on a finding counts, what does not does not; intervals are of patients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from cxcompress.evaluation.localisation import (
    differences,
    enlarged,
    estimates,
    localise,
    map_agreement,
)


def masks(n, size=8):
    found = np.zeros((n, size, size), bool)
    found[:, 2:4, 1:5] = True
    return found


def test_a_map_of_the_finding_itself_is_perfect_and_one_beside_it_worthless():
    mask = masks(3)
    maps = np.stack([mask[0] * 2.0, ~mask[1] * 1.0, np.zeros((8, 8))])
    found = localise(maps, mask)
    for metric in ("pointing_game", "iou", "energy"):
        np.testing.assert_allclose(found[metric], [1, 0, 0])
    np.testing.assert_allclose(found["chance"], 8 / 64)


@given(some.integers(0, 10_000))
def test_chance_is_what_random_maps_reach(seed):
    rng = np.random.default_rng(seed)
    maps = rng.random((400, 8, 8))
    found = localise(maps, masks(400))
    assert abs(found["pointing_game"].mean() - 0.125) < 0.09
    assert abs(found["energy"].mean() - 0.125) < 0.02
    assert ((found["iou"] >= 0) & (found["iou"] <= 1)).all()
    by_hand = np.argsort(-maps[0].ravel())[:8]
    inside = masks(1)[0].ravel()[by_hand].sum()
    assert found["iou"][0] == pytest.approx(inside / (16 - inside))


def test_intervals_draw_patients_and_differences_are_paired():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40).astype(str), 5)
    level = np.repeat(rng.random(40), 5)
    one = {"energy": level, "chance": level}
    found = estimates(one, patients)["energy"]
    assert (found.n, found.patients) == (200, 40)
    # Five equal findings of a patient say no more than one.
    alone = estimates({"energy": level[::5]}, patients[::5])["energy"]
    assert found.high - found.low == pytest.approx(alone.high - alone.low)
    change = differences({"energy": level + 0.1, "chance": level}, one, patients)
    assert set(change) == {"energy"}
    assert change["energy"].low == pytest.approx(0.1) == change["energy"].high


def test_agreement_is_of_shape_not_of_strength():
    maps = np.random.default_rng(3).random((4, 8, 8))
    others = np.stack([3 * maps[0] + 1, -maps[1], np.ones((8, 8)), maps[3]])
    found = map_agreement(maps, others)
    np.testing.assert_allclose(found[[0, 1, 3]], [1, -1, 1])
    assert np.isnan(found[2])


def test_enlarging_keeps_a_hot_spot_where_it_was():
    coarse = np.zeros((1, 4, 4))
    coarse[0, 1, 2] = 1
    row, column = np.unravel_index(enlarged(coarse, 32)[0].argmax(), (32, 32))
    assert 8 <= row < 16 and 16 <= column < 24


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="Received"):
        localise(np.zeros((2, 8, 8)), masks(3))
    with pytest.raises(ValueError, match="1 empty"):
        localise(np.zeros((1, 8, 8)), np.zeros((1, 8, 8), bool))
