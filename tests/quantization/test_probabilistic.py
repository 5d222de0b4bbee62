"""PWS: quantiles, unbiased rounding, reproducible draws."""

import numpy as np
import pytest

from cxcompress.errors import InputError
from cxcompress.quantization import ProbabilisticQuantizer


def test_values_are_numpy_quantiles():
    weights = np.random.default_rng(0).laplace(size=10_001).astype(np.float32)
    quantizer = ProbabilisticQuantizer(17).fit(weights)
    np.testing.assert_allclose(
        quantizer.codebook_.values, np.quantile(weights, np.linspace(0, 1, 17)), rtol=1e-5)


def test_decoded_weights_are_unbiased():
    repeats = 40_000
    generator = np.random.default_rng(1)
    sample = generator.normal(size=5_000).astype(np.float32)
    quantizer = ProbabilisticQuantizer(8, seed=3).fit(sample)
    values = quantizer.codebook_.values
    weights = np.linspace(sample.min(), sample.max(), 60, dtype=np.float32)
    decoded = values[quantizer.assign(np.tile(weights, (repeats, 1)))].astype(np.float64)
    # The two neighbours bound the deviation of one draw.
    cell = np.clip(np.searchsorted(values, weights) - 1, 0, values.size - 2)
    deviation = np.sqrt((weights - values[cell]) * (values[cell + 1] - weights))
    limit = 4.5 * deviation / np.sqrt(repeats) + 1e-5
    assert (np.abs(decoded.mean(axis=0) - weights) <= limit).all()
    assert (decoded == values[cell]).any() and (decoded == values[cell + 1]).any()


def test_only_the_two_neighbours_are_drawn_and_values_stay_themselves():
    weights = np.random.default_rng(2).normal(size=200_000).astype(np.float32)
    quantizer = ProbabilisticQuantizer(32).fit(weights)
    values = quantizer.codebook_.values
    upper = np.clip(np.searchsorted(values, weights), 1, values.size - 1)
    indices = quantizer.assign(weights).astype(int)
    assert np.isin(upper - indices, (0, 1)).all()
    np.testing.assert_array_equal(quantizer.assign(values), np.arange(32))
    np.testing.assert_array_equal(quantizer.assign(values[[0, -1]] * 2), [0, 31])


def test_same_seed_same_bytes_other_seed_others():
    weights = np.random.default_rng(3).normal(size=300_000).astype(np.float32)
    first = ProbabilisticQuantizer(16, seed=5).fit(weights).assign(weights)
    again = ProbabilisticQuantizer(16, seed=5).fit(weights).assign(weights)
    other = ProbabilisticQuantizer(16, seed=(5, 1)).fit(weights).assign(weights)
    np.testing.assert_array_equal(first, again)
    assert 0.05 < np.mean(first != other) < 0.6
    # Blocks of 65,536 weights must not repeat each other's draws.
    flat = np.full(1 << 17, np.float32(weights.mean()))
    halves = ProbabilisticQuantizer(16).fit(weights).assign(flat).reshape(2, -1)
    assert np.mean(halves[0] != halves[1]) > 0.05


def test_pruned_weights_are_never_moved_and_quantiles_are_of_the_others():
    generator = np.random.default_rng(4)
    weights = generator.normal(size=50_000).astype(np.float32)
    weights[np.abs(weights) < 1.2] = 0
    quantizer = ProbabilisticQuantizer(8).fit(weights, keep_zero=True)
    codebook = quantizer.codebook_
    assert codebook.k == 8
    assert (quantizer.assign(weights)[weights == 0] == codebook.zero).all()
    others = np.delete(codebook.values, codebook.zero)
    np.testing.assert_allclose(
        others, np.quantile(weights[weights != 0], np.linspace(0, 1, 7)), rtol=1e-5)


def test_equal_quantiles_are_merged():
    weights = np.float32([0] * 900 + list(range(1, 101)))
    quantizer = ProbabilisticQuantizer(11).fit(weights)
    np.testing.assert_allclose(quantizer.codebook_.values, [0, 1 - 0.9, 100], atol=1.0)
    assert quantizer.codebook_.k < 11


@pytest.mark.parametrize("seed", [-1, 1.5, "a", ()])
def test_bad_seed(seed):
    with pytest.raises(InputError, match="seed must be a whole number"):
        ProbabilisticQuantizer(4, seed=seed).fit(np.arange(9.0))
