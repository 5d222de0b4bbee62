"""UQ: a symmetric grid through zero that int8 kernels hold exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxcompress.quantization import UniformQuantizer, quality, uniform
from cxcompress.quantization.weight_distribution import SortedWeights

ordinary = arrays(np.float32, st.integers(2, 200), elements=st.floats(-10, 10, width=32))


@settings(max_examples=60)
@given(weights=ordinary, k=st.integers(1, 256), keep_zero=st.booleans())
def test_values_are_int8_times_a_float32_step_and_nothing_is_clipped(weights, k, keep_zero):
    quantizer = UniformQuantizer(k + (k == 1 and keep_zero)).fit(weights, keep_zero=keep_zero)
    codebook = quantizer.codebook_
    integers = codebook.grid_integers
    assert codebook.step == np.float32(codebook.step)
    assert np.abs(integers.astype(int)).max() <= 127
    np.testing.assert_array_equal(
        integers.astype(np.float32) * np.float32(codebook.step), codebook.values)
    decoded = codebook.values[quantizer.assign(weights)]
    assert np.abs(decoded - weights).max() <= 0.5 * codebook.step * (1 + 1e-5)


@settings(max_examples=25)
@given(weights=arrays(np.float32, st.integers(1, 30), elements=st.floats(-10, 10, width=32)),
       k=st.integers(1, 256), keep_zero=st.booleans())
def test_looking_only_where_weights_are_gives_the_same(weights, k, keep_zero):
    k += k == 1 and keep_zero
    found = []
    for few in (0, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uniform, "FEW_WEIGHTS", few)
            codebook = UniformQuantizer(k).fit(weights, keep_zero=keep_zero).codebook_
        found.append((codebook.values.tobytes(), codebook.step, codebook.zero))
    assert found[0] == found[1]


def test_few_weights_on_a_wide_grid_are_not_searched_for_in_a_million_points():
    weights = SortedWeights.of(np.float32([-6.1451284e16, 0.1, 1.001, 1.0]))
    step = 6.1451284e16 / uniform.WIDE_GRID_INTEGER
    assert len(uniform._integers(weights, step, uniform.WIDE_GRID_INTEGER)) < 10


@pytest.mark.parametrize("k", [2, 3, 4, 5, 8, 16, 100, 255, 256, 300, 1_000])
@pytest.mark.parametrize("sample", ["normal", "laplace", "uniform", "outlier"])
def test_as_many_levels_as_a_search_over_steps_finds(k, sample):
    generator = np.random.default_rng(k)
    weights = {
        "normal": generator.normal(size=30_000),
        "laplace": generator.laplace(size=30_000),
        "uniform": generator.uniform(-1, 1, size=30_000),
        "outlier": np.append(generator.normal(size=30_000), 60.0),
    }[sample].astype(np.float32)
    quantizer = UniformQuantizer(k).fit(weights)
    report = quality(weights, quantizer.assign(weights), quantizer.codebook_)
    assert report.levels_used == report.k <= min(k, 255 if k <= 256 else k)
    assert (quantizer.codebook_.step is not None) == (k <= 256)

    largest = np.abs(weights).max()
    finest = largest / (127.5 if k <= 256 else 8 * k)
    found = 0
    for step in np.geomspace(finest * 1.0001, 4 * largest, 400):
        used = np.unique(np.rint(weights / step)).size
        found = max(found, used if used <= k else 0)
    assert report.k >= 0.98 * found


def test_small_k_on_symmetric_weights():
    weights = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    weights = np.concatenate((weights, -weights))
    three = UniformQuantizer(3).fit(weights)
    np.testing.assert_array_equal(three.codebook_.grid_integers, [-1, 0, 1])
    # Of all three-level grids, the finest: the largest weight just rounds to 1.
    assert three.codebook_.step == pytest.approx(np.abs(weights).max() / 1.5, rel=0.02)
    assert UniformQuantizer(4).fit(weights).codebook_.k == 3
    assert UniformQuantizer(5).fit(weights).codebook_.k == 5


def test_weights_on_a_grid_come_back_exactly():
    generator = np.random.default_rng(1)
    for step in (0.1, 3e-4, 7.0):
        integers = generator.integers(-127, 128, size=5_000)
        weights = integers.astype(np.float32) * np.float32(step)
        quantizer = UniformQuantizer(256).fit(weights)
        np.testing.assert_array_equal(
            quantizer.codebook_.values[quantizer.assign(weights)], weights)
        assert quantizer.codebook_.step == pytest.approx(step, rel=1e-6)


def test_quantizing_twice_changes_nothing():
    weights = np.random.default_rng(2).laplace(size=50_000).astype(np.float32)
    first = UniformQuantizer(16).fit(weights)
    decoded = first.codebook_.values[first.assign(weights)]
    second = UniformQuantizer(16).fit(decoded)
    np.testing.assert_array_equal(second.codebook_.values, first.codebook_.values)


def test_zero_is_kept_beside_weights_far_from_it():
    quantizer = UniformQuantizer(8).fit(np.linspace(0.9, 1.1, 50), keep_zero=True)
    assert quantizer.codebook_.zero == 0 and quantizer.codebook_.k <= 8
