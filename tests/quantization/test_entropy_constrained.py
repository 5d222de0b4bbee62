"""ECSQ: the Lagrangian, its targets, and how near it comes to the best known trade."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.errors import InputError
from cxcompress.quantization import CentroidQuantizer, EntropyConstrainedQuantizer, quality
from cxcompress.quantization.entropy_constrained import cheapest_intervals
from cxcompress.representation.entropy import histogram_bits


@pytest.fixture(scope="module", params=["normal", "laplace"])
def weights(request):
    draw = getattr(np.random.default_rng(0), request.param)
    return draw(scale=0.05, size=100_000).astype(np.float32)


def measure(quantizer, weights, **fit):
    indices = quantizer.fit(weights, **fit).assign(weights)
    return quality(weights, indices, quantizer.codebook_)


def uniform_error_at(weights, bits):
    """MSE of the best grid through 0, decoded at cell means, whose entropy is at most `bits`."""
    low, high = 1e-5, 5.0
    for _ in range(40):
        step = np.sqrt(low * high)
        cell = np.rint(weights / step).astype(int)
        _, cell, counts = np.unique(cell, return_inverse=True, return_counts=True)
        low, high = (low, step) if histogram_bits(counts) / weights.size <= bits else (step, high)
    cell = np.unique(np.rint(weights / high).astype(int), return_inverse=True)[1]
    means = np.bincount(cell, weights) / np.bincount(cell)
    return np.mean((weights - means[cell]) ** 2)


@pytest.mark.parametrize("bits", [0.3, 1.0, *(pytest.param(bits, marks=pytest.mark.slow)
                                             for bits in (2.5, 4.0))])
def test_target_bits_are_met_at_an_error_no_grid_beats(weights, bits):
    report = measure(EntropyConstrainedQuantizer(bits_per_weight=bits), weights)
    assert bits - 0.02 <= report.entropy_bits <= bits + 1e-3
    assert report.mse <= 1.01 * uniform_error_at(weights, report.entropy_bits)


@pytest.mark.slow
def test_more_bits_never_hurt(weights):
    reports = [measure(EntropyConstrainedQuantizer(16, bits_per_weight=bits), weights)
               for bits in (0.5, 1.5, 3.0)]
    assert all(a.mse > b.mse for a, b in zip(reports, reports[1:], strict=False))


def test_more_bits_than_centroids_need_gives_the_centroids(weights):
    free = measure(EntropyConstrainedQuantizer(16, bits_per_weight=9.0), weights)
    centroids = measure(CentroidQuantizer(16), weights)
    assert free.mse == pytest.approx(centroids.mse, rel=2e-3)


def test_given_lambda_beats_the_lagrangian_of_centroids_and_grids(weights):
    lambda_ = 2e-4
    quantizer = EntropyConstrainedQuantizer(32, lambda_=lambda_)
    report = measure(quantizer, weights)
    cost = report.mse + lambda_ * report.entropy_bits
    for k in (2, 4, 8, 16, 32):
        peer = measure(CentroidQuantizer(k), weights)
        assert cost < peer.mse + lambda_ * peer.entropy_bits
    for bits in (1.0, 2.0, report.entropy_bits, 3.0):
        assert cost <= 1.002 * (uniform_error_at(weights, bits) + lambda_ * bits)
    assert quantizer.lambda_used_ == lambda_


@pytest.mark.parametrize("levels", [2, 5, 16, 60])
def test_target_levels(weights, levels):
    report = measure(EntropyConstrainedQuantizer(256, levels=levels), weights)
    assert 0.8 * levels <= report.levels_used == report.k <= levels


@pytest.mark.parametrize("k", [2, 4, 16, 64])
def test_without_a_target_fewer_bits_than_centroids_for_a_fair_price(weights, k):
    quantizer = EntropyConstrainedQuantizer(k)
    report, centroids = measure(quantizer, weights), measure(CentroidQuantizer(k), weights)
    assert report.levels_used <= k
    assert report.entropy_bits <= centroids.entropy_bits
    price = (report.mse - centroids.mse) / quantizer.lambda_used_
    assert price <= centroids.entropy_bits - report.entropy_bits + 1e-3
    assert quantizer.lambda_used_ == pytest.approx(2 * np.log(2) * centroids.mse, rel=0.01)


@settings(max_examples=100)
@given(data=st.data(), k=st.integers(1, 12), lambda_=st.floats(0, 4))
def test_intervals_are_the_cheapest_levels(data, k, lambda_):
    levels = np.sort(np.asarray(data.draw(st.lists(
        st.integers(-50, 50), min_size=k, max_size=k, unique=True)), np.float64)) / 10
    bits = np.asarray(data.draw(st.lists(st.floats(0.1, 20), min_size=k, max_size=k)))
    kept, thresholds = cheapest_intervals(levels, bits, lambda_, None)
    assert (np.diff(thresholds) >= 0).all()
    points = np.linspace(-8, 8, 401)
    cost = (points[:, None] - levels) ** 2 + lambda_ * bits
    chosen = kept[np.searchsorted(thresholds, points, side="left")]
    np.testing.assert_allclose(cost[np.arange(401), chosen], cost.min(axis=1), atol=1e-9)


def test_zero_survives_however_rare_it_is():
    generator = np.random.default_rng(1)
    weights = (3 + generator.normal(size=20_000)).astype(np.float32)
    weights[:3] = 0
    for parameters in ({}, {"lambda_": 1.0}, {"bits_per_weight": 0.5}, {"levels": 3}):
        quantizer = EntropyConstrainedQuantizer(16, **parameters).fit(weights, keep_zero=True)
        assert quantizer.codebook_.zero is not None
        assert (quantizer.assign(weights)[:3] == quantizer.codebook_.zero).all()


def test_pruned_weights_make_zero_cheap():
    generator = np.random.default_rng(2)
    weights = generator.laplace(size=100_000).astype(np.float32)
    weights[np.abs(weights) < np.quantile(np.abs(weights), 0.8)] = 0
    report = measure(EntropyConstrainedQuantizer(32, bits_per_weight=1.2), weights, keep_zero=True)
    assert 1.1 < report.entropy_bits <= 1.2005 and report.sqnr_db > 10


@pytest.mark.parametrize(("parameters", "message"), [
    ({"lambda_": -1.0}, "lambda_ must be 0 or more, received -1.0"),
    ({"bits_per_weight": 0}, "bits_per_weight must be above 0, received 0"),
    ({"levels": 300}, "levels must be 1 to k=256, received 300"),
    ({"tolerance": 0}, "tolerance must lie between 0 and 1, received 0"),
    ({"lambda_": 0, "levels": 3}, "one target, received lambda_ and levels"),
])
def test_bad_parameters(parameters, message):
    with pytest.raises(InputError, match=message):
        EntropyConstrainedQuantizer(**parameters).fit(np.arange(9.0))


def test_one_level_kept_for_zero_is_refused():
    with pytest.raises(InputError, match="would make every weight 0"):
        EntropyConstrainedQuantizer(8, levels=1).fit(np.arange(9.0), keep_zero=True)
