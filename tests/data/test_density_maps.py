"""Laws of density maps: any kernel, overlaps by the maximum, borders cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.data.density_maps import PEAK, density_maps


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_kernel_peaks_at_its_cells_and_is_the_maximum_of_single_maps(kernel, seed):
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.integers(0, 30, 6), rng.integers(0, 20, 6), rng.integers(1, 4, 6)], 1)
    maps = density_maps(cells, (20, 30), kernel=kernel)
    assert maps.shape == (20, 30, 3) and maps.dtype == np.float32
    assert all(maps[y, x, label - 1] == PEAK for x, y, label in cells)
    single = [density_maps(cell[None], (20, 30), kernel=kernel) for cell in cells]
    np.testing.assert_array_equal(maps, np.max(single, axis=0))


@pytest.mark.parametrize("kernel", [1, 3, 9, 15])
def test_an_odd_kernel_is_the_papers_formula(kernel):
    (x, y) = np.meshgrid(np.linspace(-1, 1, kernel), np.linspace(-1, 1, kernel))
    distance = np.hypot(x, y) if kernel > 1 else np.zeros((1, 1))
    expected = np.exp(-(distance**2) / (2 * 0.5**2)) * 255
    half = kernel // 2
    found = density_maps(np.array([[20, 20, 2]]), (41, 41), kernel=kernel)[..., 1]
    np.testing.assert_allclose(
        found[20 - half:21 + half, 20 - half:21 + half], expected, rtol=1e-5)
    assert np.count_nonzero(found) == kernel**2


def test_impossible_kernels_and_labels_are_refused():
    with pytest.raises(ValueError, match="kernel"):
        density_maps(np.zeros((0, 3), int), (8, 8), kernel=0)
    with pytest.raises(ValueError, match="label_id"):
        density_maps(np.array([[1, 1, 0]]), (8, 8))
