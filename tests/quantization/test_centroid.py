"""CWS against independent optima of 1-D k-means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxcompress.quantization import CentroidQuantizer, optimal_clustering, quality
from cxcompress.quantization.weight_distribution import SortedWeights, midpoints


def textbook_optimum(points, mass, k, fixed_zero=False):
    """Least weighted squared error with k groups: the plain O(k n^2) recurrence.

    With `fixed_zero`, one of the k representatives is 0; its group is contiguous, as every
    nearest-value group on a line is.
    """
    order = np.argsort(points, kind="stable")
    points, mass = points[order].astype(np.float64), mass[order].astype(np.float64)
    n = points.size

    def group_cost(i, j, centre=None):
        weight = mass[i:j].sum()
        if weight == 0:
            return 0.0
        mean = (mass[i:j] * points[i:j]).sum() / weight if centre is None else centre
        return float((mass[i:j] * (points[i:j] - mean) ** 2).sum())

    free = np.array([[group_cost(i, j) for j in range(n + 1)] for i in range(n + 1)])
    best = [np.full(n + 1, np.inf)]
    best[0][0] = 0.0
    for _ in range(k):
        last = best[-1]
        best.append(np.array([min(last[i] + free[i, j] for i in range(j + 1))
                              for j in range(n + 1)]))
    if not fixed_zero:
        return best[k][n]
    from_right = [np.full(n + 1, np.inf)]
    from_right[0][n] = 0.0
    for _ in range(k):
        last = from_right[-1]
        from_right.append(np.array([min(free[i, j] + last[j] for j in range(i, n + 1))
                                    for i in range(n + 1)]))
    return min(best[left][i] + group_cost(i, j, 0.0) + from_right[k - 1 - left][j]
               for left in range(k) for i in range(n + 1) for j in range(i, n + 1))


values = st.one_of(st.integers(-6, 6).map(float), st.floats(-3, 3, width=32),
                   st.floats(100, 101, width=32))


@settings(max_examples=80)
@given(points=st.lists(values, min_size=1, max_size=22), k=st.integers(1, 7),
       keep_zero=st.booleans(), data=st.data())
def test_error_is_the_exact_optimum(points, k, keep_zero, data):
    weights = np.float32(points)
    mass = np.asarray(data.draw(st.lists(st.integers(1, 5), min_size=weights.size,
                                         max_size=weights.size)))
    if keep_zero and k == 1:
        k = 2
    quantizer = CentroidQuantizer(k).fit(weights, sample_weight=mass, keep_zero=keep_zero)
    decoded = quantizer.codebook_.values[quantizer.assign(weights)].astype(np.float64)
    error = float(mass @ (weights - decoded) ** 2)
    optimum = textbook_optimum(weights, mass, k, keep_zero)
    float32_rounding = mass.sum() * (2.0**-23 * np.abs(weights).max()) ** 2
    assert error <= optimum * (1 + 1e-5) + float32_rounding
    assert error >= optimum * (1 - 1e-5) - float32_rounding


@pytest.mark.parametrize("k", [2, 3, 40, 199, 300])
def test_exact_on_a_few_hundred_weights_of_every_k(k):
    weights = np.random.default_rng(1).standard_t(2, size=300).astype(np.float32)
    quantizer = CentroidQuantizer(k).fit(weights)
    error = quality(weights, quantizer.assign(weights), quantizer.codebook_).mse * 300
    sums = np.concatenate(([0], np.cumsum(np.sort(weights).astype(np.float64))))
    squares = np.concatenate(([0], np.cumsum(np.sort(weights).astype(np.float64) ** 2)))
    i, j = np.meshgrid(np.arange(301), np.arange(301), indexing="ij")
    size = np.maximum(j - i, 1)
    cost = np.where(j > i, squares[j] - squares[i] - (sums[j] - sums[i]) ** 2 / size, np.inf)
    best = np.full(301, np.inf)
    best[0] = 0.0
    for _ in range(k):
        best = np.minimum.reduce(best[:, None] + cost, axis=0)
    assert error == pytest.approx(best[300], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("sample", "k"), [
    ("mixture", 4), ("pruned", 32),
    *(pytest.param(sample, k, marks=pytest.mark.slow)
      for sample in ("normal", "laplace", "mixture", "pruned", "heavy") for k in (6, 64)),
])
def test_within_one_percent_of_the_best_of_ten_kmeans(sample, k):
    cluster = pytest.importorskip("sklearn.cluster")
    generator = np.random.default_rng(2)
    weights = {
        "normal": generator.normal(size=20_000),
        "laplace": generator.laplace(size=20_000),
        "mixture": np.concatenate([generator.normal(m, 0.01, 4_000) for m in (-3, 0, 0.2, 5, 9)]),
        "pruned": np.where(generator.random(20_000) < 0.8, 0, generator.normal(size=20_000)),
        "heavy": generator.standard_t(2, size=20_000),
    }[sample].astype(np.float32)
    peer = cluster.KMeans(k, n_init=10, random_state=0).fit(weights[:, None])
    quantizer = CentroidQuantizer(k).fit(weights)
    ours = quality(weights, quantizer.assign(weights), quantizer.codebook_)
    assert ours.levels_used == k
    assert ours.mse <= 1.001 * peer.inertia_ / weights.size


@pytest.mark.parametrize("draw", ["standard_cauchy", "standard_normal"])
def test_within_one_percent_where_the_exact_program_is_not_run(draw):
    weights = getattr(np.random.default_rng(11), draw)(40_000).astype(np.float32)
    distribution = SortedWeights.of(weights)
    assert distribution.distinct > optimal_clustering.MOST_POINTS
    exact = optimal_clustering._program(
        distribution, midpoints(distribution.distinct_values()), 64, False)
    mass, mean = distribution.cells(midpoints(exact))
    optimum = distribution.squared_error(mass, mean, exact) / weights.size
    quantizer = CentroidQuantizer(64).fit(weights)
    report = quality(weights, quantizer.assign(weights), quantizer.codebook_)
    assert report.mse <= 1.01 * optimum


def test_reaches_the_asymptotic_optimum_of_a_normal_density():
    weights = np.random.default_rng(3).normal(size=2_000_000).astype(np.float32)
    quantizer = CentroidQuantizer(256).fit(weights)
    mse = quality(weights, quantizer.assign(weights), quantizer.codebook_).mse
    panter_dite = np.sqrt(3) * np.pi / 2 / 256**2
    assert 0.97 * panter_dite < mse < 1.0 * panter_dite


@pytest.mark.parametrize("shape", ["few", "skewed", "clumped"])
def test_all_levels_are_used_on_awkward_weights(shape):
    generator = np.random.default_rng(9)
    weights = {
        "few": np.repeat(np.arange(5_000), 3),
        "skewed": np.exp(generator.normal(0, 3, size=50_000)),
        "clumped": np.concatenate([generator.normal(m, 1e-4, 300) for m in range(100)]),
    }[shape].astype(np.float32)
    for k in (50, 1_500):
        quantizer = CentroidQuantizer(k).fit(weights)
        report = quality(weights, quantizer.assign(weights), quantizer.codebook_)
        assert report.levels_used == report.k == k


def test_an_optimum_is_a_fixed_point():
    weights = np.random.default_rng(10).normal(size=100_000).astype(np.float32)
    first = CentroidQuantizer(16).fit(weights)
    decoded = first.codebook_.values[first.assign(weights)]
    again = CentroidQuantizer(16).fit(decoded)
    np.testing.assert_array_equal(again.codebook_.values, first.codebook_.values)
    means = [weights[first.assign(weights) == t].mean(dtype=np.float64) for t in range(16)]
    np.testing.assert_allclose(first.codebook_.values, means, rtol=1e-3, atol=1e-3)
