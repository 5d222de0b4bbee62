"""Masks as data: exact sparsity, monotone, refused where a layer would be left empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxcompress.errors import InputError
from cxcompress.pruning import (
    apply,
    check_dense,
    groups,
    magnitude,
    masks_of,
    nonzeros,
    prunable_kernels,
    prune,
    random,
    read_masks,
    sparsity,
    taylor,
    write_masks,
)
from cxcompress.training import PartBatches


@given(steps=st.lists(st.floats(0, 0.9), min_size=1, max_size=4), seed=st.integers(0, 50),
       scope=st.sampled_from(["global", "layer"]))
def test_sparsity_is_exact_and_only_grows(steps, seed, scope):
    rng = np.random.default_rng(seed)
    scores = {"a/kernel": rng.random((3, 3, 2, 10)), "b/kernel": rng.random((20, 10))}
    chosen = {"all": list(scores)} if scope == "global" else {path: [path] for path in scores}
    masks, reached = {}, 0.0
    for target in steps:
        before = masks
        masks = prune(scores, target, chosen, before)
        reached = max(reached, target)
        for paths in chosen.values():
            total = sum(scores[path].size for path in paths)
            left = sum(int(masks[path].sum()) for path in paths)
            assert left == total - round(reached * total)
        for path in before:
            assert not (masks[path] & ~before[path]).any()


def test_scopes_put_the_threshold_where_they_say(network):
    model = network()
    kernels = prunable_kernels(model)
    scores = magnitude(model, kernels)
    scores["conv1/kernel"] = scores["conv1/kernel"] / 1.8
    everywhere = prune(scores, 0.4, groups(kernels, "global"))
    each = prune(scores, 0.4, groups(kernels, "layer"))
    assert np.mean(everywhere["conv1/kernel"]) < 0.5 < 0.6 < np.mean(each["conv1/kernel"]) + 0.02
    assert all(abs(np.mean(mask) - 0.6) <= 1 / mask.size for mask in each.values())
    assert sparsity(everywhere) == pytest.approx(0.4, abs=1e-3)
    assert nonzeros(everywhere) == sum(mask.sum() for mask in everywhere.values())


def test_groups_are_the_blocks_of_the_published_networks():
    from cxcompress import models

    kernels = prunable_kernels(models.build("densenet121", (32, 32, 1), 5))
    # The nine groups of the study: stem, four dense blocks, three transitions, classifier.
    assert list(groups(kernels, "group")) == [
        "conv1", "conv2", "pool2", "conv3", "pool3", "conv4", "pool4", "conv5", "predictions"]


def test_an_emptied_layer_is_named(network):
    model = network()
    kernels = prunable_kernels(model)
    scores = magnitude(model, kernels)
    scores["conv1/kernel"] = scores["conv1/kernel"] * 1e-6
    with pytest.raises(InputError, match="conv1/kernel: would lose all its 72 weights"):
        prune(scores, 0.5, groups(kernels, "global"))


@pytest.mark.parametrize("wanted", [-0.1, 1.0, 90, float("nan")])
def test_sparsity_outside_its_range(wanted):
    with pytest.raises(InputError, match="must be 0 or more and below 1"):
        prune({"a/kernel": np.ones(4)}, wanted, {"all": ["a/kernel"]})


def test_layers_that_do_not_exist(network):
    with pytest.raises(InputError, match="--exclude conv9: no layer .* conv1, conv2"):
        prunable_kernels(network(), ["conv9"])
    with pytest.raises(InputError, match="nothing is left"):
        prunable_kernels(network(), ["conv", "dense"])
    assert [kernel.path for kernel in prunable_kernels(network(), ["conv1", "hidden/kernel"])] == [
        "conv2/kernel", "predictions/kernel"]


def test_pruned_and_quantised_models_are_told_from_dense_ones(network):
    model = network("chain")
    kernels = prunable_kernels(model)
    check_dense(kernels)
    masks = prune(magnitude(model, kernels), 0.5, groups(kernels, "layer"))
    apply(model, masks)
    with pytest.raises(InputError, match="so it is pruned already"):
        check_dense(kernels, "net.h5")
    for path, mask in masks_of(model).items():
        np.testing.assert_array_equal(mask, masks[path])
    quantised = network("chain")
    hidden = quantised.get_layer("hidden").kernel
    hidden.assign(np.round(np.asarray(hidden) * 20) / 20 + 1)
    check_dense(prunable_kernels(quantised, ["conv", "predictions"]))  # too small to tell
    import keras

    wide = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="wide")])
    values = np.random.default_rng(0).choice(np.linspace(-1, 1, 17) + 2, (64, 64))
    wide.layers[0].kernel.assign(values)
    with pytest.raises(InputError, match="17 distinct values, so it is quantised already"):
        check_dense(prunable_kernels(wide))


def test_files_bring_masks_back(tmp_path, network):
    model = network("residual")
    kernels = prunable_kernels(model)
    masks = prune(random(1)(model, kernels), 0.7, groups(kernels, "global"))
    write_masks(tmp_path / "masks.npz", masks, {"step": 7})
    found, about = read_masks(tmp_path / "masks.npz")
    assert about == {"step": 7} and found.keys() == masks.keys()
    for path, mask in masks.items():
        np.testing.assert_array_equal(found[path], mask)
    with pytest.raises(InputError, match="belong to another model"):
        apply(network("chain"), masks)
    (tmp_path / "masks.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="masks.npz: holds no masks"):
        read_masks(tmp_path / "masks.npz")


def test_taylor_scores_predict_what_removing_a_weight_does(network, images):
    """To first order the loss moves by |w·g|: exactly so in a network that is linear in w."""
    import keras

    from cxcompress.data.collection import Part
    from cxcompress.images import Preprocessing

    x, y = images
    names = np.arange(len(x)).astype(str)
    batches = PartBatches(Part((x * 255).astype(np.uint8), y, names, names),
                          Preprocessing((8, 8), 1), len(x))
    model = network("chain")
    kernels = prunable_kernels(model)
    scores = taylor(batches, "multiclass")(model, kernels)
    inputs, labels = batches[0]
    loss = keras.losses.CategoricalCrossentropy()

    def value():
        return float(loss(labels, model(inputs, training=False)))

    hidden = model.get_layer("hidden").kernel
    array = np.asarray(hidden).copy()
    before = value()
    for place in [(3, 2), (20, 7)]:
        changed = array.copy()
        changed[place] *= 1 - 1e-2
        hidden.assign(changed)
        assert abs(value() - before) == pytest.approx(
            1e-2 * scores["hidden/kernel"][place], rel=0.2, abs=2e-6)
        hidden.assign(array)
