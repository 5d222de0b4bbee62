"""Laws that every quantizer keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cxcompress import quantization
from cxcompress.errors import InputError
from cxcompress.quantization import quality
from cxcompress.representation.types import index_dtype

NAMES = ("CWS", "ECSQ", "PWS", "UQ")
"""Those that give a weight the same value wherever it stands; TCQ has a file of its own."""
weights_strategy = arrays(
    np.float32, array_shapes(max_dims=4, max_side=8),
    elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)
    | st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0]))


def test_the_names():
    assert quantization.names() == tuple(sorted((*NAMES, "TCQ")))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(weights=weights_strategy, k=st.integers(1, 300), keep_zero=st.booleans())
def test_codebook_and_index_map_hold_their_promises(name, weights, k, keep_zero):
    quantizer = quantization.get(name, k=k)
    if keep_zero and k == 1 and np.any(weights):
        with pytest.raises(InputError, match="would make every weight 0"):
            quantizer.fit(weights, keep_zero=True)
        return
    before = weights.copy()
    assert quantizer.fit(weights, keep_zero=keep_zero) is quantizer
    indices = quantizer.assign(weights)
    codebook = quantizer.codebook_

    np.testing.assert_array_equal(weights, before)
    assert 1 <= codebook.k <= min(k, 255 if name == "UQ" and k == 256 else k)
    assert indices.shape == weights.shape and indices.dtype == index_dtype(codebook.k)
    assert indices.max() < codebook.k
    assert codebook.values.dtype == np.float32 and (np.diff(codebook.values) > 0).all()
    assert quantizer.thresholds_.shape == (codebook.k - 1,)
    assert (codebook.zero is not None) == keep_zero
    if keep_zero:
        assert (indices[weights == 0] == codebook.zero).all()
    np.testing.assert_array_equal(quantizer.assign(weights), indices)
    if name != "UQ":
        assert codebook.values.min() >= min(weights.min(), 0 if keep_zero else np.inf)
        assert codebook.values.max() <= max(weights.max(), 0 if keep_zero else -np.inf)


@pytest.mark.parametrize("name", ["CWS", "UQ"])
@settings(max_examples=40)
@given(weights=weights_strategy, k=st.integers(1, 40), keep_zero=st.booleans())
def test_assigned_value_is_a_nearest_one(name, weights, k, keep_zero):
    k += keep_zero
    quantizer = quantization.get(name, k=k).fit(weights, keep_zero=keep_zero)
    values = quantizer.codebook_.values.astype(np.float64)
    chosen = np.abs(values[quantizer.assign(weights)] - weights)
    nearest = np.abs(values - weights.astype(np.float64)[..., None]).min(axis=-1)
    assert (chosen <= nearest * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", ["CWS", "PWS", "ECSQ"])
@pytest.mark.parametrize("keep_zero", [False, True])
def test_enough_levels_lose_nothing(name, keep_zero, caplog):
    weights = np.float32([0.1, 0.1, -2.0, 0.1, 3.5, -2.0])
    parameters = {"lambda_": 0.0} if name == "ECSQ" else {}
    quantizer = quantization.get(name, k=256, **parameters)
    with caplog.at_level("INFO", logger="cxcompress"):
        indices = quantizer.fit(weights, keep_zero=keep_zero).assign(weights)
    codebook = quantizer.codebook_
    np.testing.assert_array_equal(codebook.values[indices], weights)
    assert codebook.k == 3 + keep_zero
    if name != "ECSQ":
        assert "only 3 distinct weights" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_one_level(name):
    weights = np.random.default_rng(0).normal(size=500).astype(np.float32)
    quantizer = quantization.get(name, k=1).fit(weights)
    assert quantizer.codebook_.k == 1 and not quantizer.assign(weights).any()
    if name in ("CWS", "PWS", "ECSQ"):
        np.testing.assert_allclose(quantizer.codebook_.values[0], weights.mean(), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_all_weights_pruned(name):
    weights = np.zeros((3, 4), np.float32)
    quantizer = quantization.get(name, k=16).fit(weights, keep_zero=True)
    np.testing.assert_array_equal(quantizer.codebook_.values, [0.0])
    assert quantizer.codebook_.zero == 0 and not quantizer.assign(weights).any()


@pytest.mark.parametrize("name", NAMES)
def test_bad_weights_give_one_clear_line(name):
    broken = np.ones(100, np.float32)
    broken[[3, 5]] = np.nan
    broken[7] = np.inf
    quantizer = quantization.get(name)
    with pytest.raises(InputError, match="3 of 100 weights are NaN or infinite; "):
        quantizer.fit(broken)
    with pytest.raises(InputError, match="1 of 1 weights"):
        quantizer.fit(np.float64([1e300]))
    with pytest.raises(InputError, match="holds no weights"):
        quantizer.fit(np.empty((0, 3)))
    with pytest.raises(InputError, match="must be real numbers"):
        quantizer.fit(np.array(["a"]))
    with pytest.raises(InputError, match="sample_weight has shape"):
        quantizer.fit(np.ones(3), sample_weight=np.ones(4))
    for bad in ([-1.0, 1.0], [0.0, 0.0], [np.nan, 1.0]):
        with pytest.raises(InputError, match="sample_weight must be finite"):
            quantizer.fit(np.float32([1, 2]), sample_weight=bad)
    with pytest.raises(ValueError, match="call fit before assign"):
        quantizer.assign(np.ones(3))
    quantizer.fit(np.arange(3.0))
    with pytest.raises(InputError, match="3 of 100"):
        quantizer.assign(broken)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [0, -1, 65_537, 2.5, "16", True])
def test_k_out_of_range(name, k):
    with pytest.raises(InputError, match="k must be .*received"):
        quantization.get(name, k=k).fit(np.arange(10.0))


@pytest.mark.parametrize("name", ["CWS", "PWS", "ECSQ"])
def test_integer_sample_weights_are_repetitions(name):
    generator = np.random.default_rng(4)
    weights = generator.normal(size=300).astype(np.float32)
    times = generator.integers(0, 4, size=300)
    # Quantiles interpolate between weights, so only the mean of k = 1 is the same thing.
    k = 1 if name == "PWS" else 7
    weighted = quantization.get(name, k=k).fit(weights, sample_weight=times)
    repeated = quantization.get(name, k=k).fit(np.repeat(weights, times))
    np.testing.assert_allclose(
        weighted.codebook_.values, repeated.codebook_.values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_equal_sample_weights_change_nothing(name):
    weights = np.random.default_rng(5).laplace(size=(20, 30)).astype(np.float32)
    plain = quantization.get(name, k=9).fit(weights)
    weighted = quantization.get(name, k=9).fit(weights, sample_weight=np.full((20, 30), 0.1))
    np.testing.assert_allclose(weighted.codebook_.values, plain.codebook_.values, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_by_name_instance_and_configuration(name):
    quantizer = quantization.get(name, k=12)
    assert quantization.get(quantizer) is quantizer
    again = quantization.get(quantizer.get_config())
    assert type(again) is type(quantizer) and again.get_config() == quantizer.get_config()
    assert repr(again) == repr(quantizer)


def test_unknown_names_and_parameters_are_listed():
    with pytest.raises(InputError, match="'cws'; choose one of CWS, ECSQ, PWS, TCQ, UQ"):
        quantization.get("cws")
    with pytest.raises(InputError, match="CWS has no parameter 'lambda_'; it has k"):
        quantization.get("CWS", lambda_=1.0)
    with pytest.raises(ValueError, match="parameters go with a name only"):
        quantization.get(quantization.CentroidQuantizer(), k=3)


@pytest.mark.parametrize("name", NAMES)
def test_other_real_types(name):
    weights = np.random.default_rng(6).normal(size=200).astype(np.float16)
    as_half = quantization.get(name, k=8).fit(weights)
    as_double = quantization.get(name, k=8).fit(weights.astype(np.float64))
    np.testing.assert_array_equal(as_half.codebook_.values, as_double.codebook_.values)
    assert quantization.get(name, k=3).fit(np.arange(-5, 5)).codebook_.k <= 3
    strided = weights.astype(np.float32).reshape(20, 10).T[::2]
    assert quantization.get(name, k=8).fit(strided).assign(strided).shape == strided.shape


@pytest.mark.parametrize("name", NAMES)
def test_many_levels(name):
    weights = np.random.default_rng(7).normal(size=200_000).astype(np.float32)
    quantizer = quantization.get(name, k=5_000).fit(weights)
    indices = quantizer.assign(weights)
    report = quality(weights, indices, quantizer.codebook_)
    assert indices.dtype == np.uint16 and report.k <= 5_000
    assert report.levels_used >= 0.99 * report.k and report.k >= 4_000
    assert report.sqnr_db > (40 if name == "PWS" else 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_most_levels(name):
    weights = np.random.default_rng(8).normal(size=1_000_000).astype(np.float32)
    quantizer = quantization.get(name, k=65_536).fit(weights)
    report = quality(weights, quantizer.assign(weights), quantizer.codebook_)
    assert 50_000 < report.k <= 65_536
    assert report.sqnr_db > (50 if name == "PWS" else 80)
