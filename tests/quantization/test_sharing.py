import numpy as np
import pytest

from cxcompress.errors import InputError
from cxcompress.quantization import Compression, prune_percentile, share_weights


@pytest.fixture
def kernels():
    generator = np.random.default_rng(0)
    shapes = {"stem/kernel": ((3, 3, 3, 16), "conv"), "block/conv/kernel": ((3, 3, 16, 32), "conv"),
              "block/depthwise/kernel": ((3, 3, 32, 1), "depthwise"),
              "head/kernel": ((128, 10), "dense")}
    return {path: (generator.normal(size=shape).astype(np.float32), family)
            for path, (shape, family) in shapes.items()}


def test_unified_scope_shares_one_codebook_a_family(kernels):
    steps = []
    shared = share_weights(kernels, Compression.parse("uCWS", clustercnn=16, clusterfc=4),
                           progress=lambda *step: steps.append(step))
    assert {name: codebook.k for name, codebook in shared.codebooks.items()} == {
        "conv": 16, "depthwise": 16, "dense": 4}
    assert shared.kernels["stem/kernel"].codebook == shared.kernels["block/conv/kernel"].codebook
    assert steps == [("conv", 0, 3), ("depthwise", 1, 3), ("dense", 2, 3)]
    for path, (array, _) in kernels.items():
        assert shared.kernel(path).shape == array.shape
        assert np.abs(shared.kernel(path) - array).mean() < 0.3
        assert shared.kernels[path].indices.base is None


def test_layer_scope_gives_every_kernel_its_own(kernels):
    shared = share_weights(kernels, Compression.parse("CWS", clustercnn=8, clusterfc=8))
    assert set(shared.codebooks) == set(kernels) == set(shared.kernels)


def test_a_family_of_no_levels_and_named_layers_stay_float(kernels):
    compression = Compression.parse("uUQ", clusterfc=0, keep_float=("stem", "depthwise"))
    shared = share_weights(kernels, compression)
    assert set(shared.kernels) == {"block/conv/kernel"}
    assert set(shared.unshared) == {"stem/kernel", "block/depthwise/kernel", "head/kernel"}
    np.testing.assert_array_equal(shared.unshared["stem/kernel"], kernels["stem/kernel"][0])
    assert shared.codebooks["conv"].step is not None


@pytest.mark.parametrize("quantizer", ["UQ", "CWS", "PWS", "ECSQ"])
@pytest.mark.parametrize("scope", ["", "u"])
def test_pruned_weights_have_the_index_of_zero(kernels, quantizer, scope):
    compression = Compression.parse(f"pr{scope}{quantizer}", prcnn=50, prfc=80, clustercnn=16,
                                    clusterfc=16)
    shared = share_weights(kernels, compression)
    for path, (array, family) in kernels.items():
        codebook = shared.codebooks[shared.kernels[path].codebook]
        dropped = ~prune_percentile(array, 80 if family == "dense" else 50)
        assert (shared.kernels[path].indices[dropped] == codebook.zero).all()
        assert (shared.kernel(path)[dropped] == 0).all()


def test_pruning_alone_shares_nothing(kernels):
    shared = share_weights(kernels, Compression.parse("pr", prcnn=60))
    assert not shared.codebooks and not shared.kernels
    assert np.mean(shared.unshared["block/conv/kernel"] == 0) == pytest.approx(0.6, abs=0.01)
    np.testing.assert_array_equal(shared.unshared["head/kernel"], kernels["head/kernel"][0])


def test_random_rounding_is_seeded_and_differs_between_equal_kernels():
    kernel = np.random.default_rng(1).normal(size=(50, 50)).astype(np.float32)
    kernels = {"a/kernel": (kernel, "dense"), "b/kernel": (kernel, "dense")}
    for name in ("uPWS", "PWS"):
        compression = Compression.parse(name, clusterfc=8)
        first, again = (share_weights(kernels, compression, seed=3) for _ in range(2))
        other = share_weights(kernels, compression, seed=4)
        np.testing.assert_array_equal(first.kernel("a/kernel"), again.kernel("a/kernel"))
        assert (first.kernel("a/kernel") != first.kernel("b/kernel")).any()
        assert (first.kernel("a/kernel") != other.kernel("a/kernel")).any()


def test_important_weights_are_kept_closer(kernels):
    importance = np.ones((128, 10))
    importance[:, 0] = 1e4
    compression = Compression.parse("uCWS", clustercnn=0, clusterfc=4)
    array = kernels["head/kernel"][0]

    def error(shared):
        return float(np.square(shared.kernel("head/kernel") - array)[:, 0].sum())

    weighted = share_weights(kernels, compression, sample_weight={"head/kernel": importance})
    assert error(weighted) < error(share_weights(kernels, compression))
    with pytest.raises(InputError, match="head/kernel: sample_weight has shape"):
        share_weights(kernels, compression, sample_weight={"head/kernel": np.ones(3)})


def test_errors_name_the_kernel(kernels):
    broken = kernels["stem/kernel"][0].copy()
    broken.flat[:3] = np.nan
    with pytest.raises(InputError, match="^stem/kernel: 3 of 432 weights are NaN or infinite"):
        share_weights(kernels | {"stem/kernel": (broken, "conv")}, Compression.parse("uCWS"))
    with pytest.raises(InputError, match="--keep_float stme: no kernel .* stem/kernel"):
        share_weights(kernels, Compression.parse("uCWS", keep_float=("stme",)))
    with pytest.raises(ValueError, match="family is one of"):
        share_weights({"a": (np.ones(3), "bias")}, Compression.parse("uCWS"))


def test_kernels_that_came_pruned_keep_an_exact_zero():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(40, 30)).astype(np.float32) + 0.3
    weights[rng.random((40, 30)) < 0.3] = 0
    for name in ("uCWS", "UQ", "uPWS", "uECSQ"):
        shared = share_weights({"a/kernel": (weights, "conv")},
                               Compression.parse(name, clustercnn=6, clusterfc=6))
        (codebook,) = shared.codebooks.values()
        assert codebook.zero is not None and codebook.values[codebook.zero] == 0
        assert (shared.kernels["a/kernel"].indices[weights == 0] == codebook.zero).all()
    dense = np.where(weights == 0, np.float32(0.1), weights)
    dense[0, 0] = 0  # one weight that happens to be 0 prunes nothing
    shared = share_weights({"a/kernel": (dense, "conv")}, Compression.parse("uCWS", clustercnn=6))
    assert shared.codebooks["conv"].zero is None
