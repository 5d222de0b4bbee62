"""Laws of training shared values: the step, the accumulation, the levels, the pruned weights."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.quantization import Compression, prune_masks
from cxcompress.training import SharedWeightsTrainer

SGD = keras.optimizers.SGD


@pytest.fixture
def images_and_labels():
    rng = np.random.default_rng(4)
    return (rng.random((24, 8, 8, 1)).astype(np.float32),
            np.eye(3, dtype=np.float32)[rng.integers(0, 3, 24)])


def trained(model, shared, data, *, epochs=5, optimizers=None, compile_with=None, **arguments):
    trainer = SharedWeightsTrainer(model, shared, **arguments)
    optimizer, codebook_optimizer = optimizers or (keras.optimizers.Adam(0.01),
                                                   keras.optimizers.Adam(0.01))
    trainer.compile(optimizer=optimizer, codebook_optimizer=codebook_optimizer,
                    loss="categorical_crossentropy", **(compile_with or {}))
    trainer.fit(*data, epochs=epochs, batch_size=8, verbose=0, shuffle=False)
    return trainer


def cross_entropy(model, images, labels) -> float:
    probabilities = np.asarray(model(images, training=True), np.float64)
    return float(-np.log(probabilities[labels.astype(bool)]).mean())


@pytest.mark.parametrize("name", ["uUQ", "CWS", "pruCWS"])
def test_one_step_is_the_learning_rate_times_the_sum_of_the_members_gradients(
        small_network, share, images_and_labels, name):
    model = small_network(dtype="float64", dropout=0.0)
    flags = {"prcnn": 40, "prfc": 40} if name.startswith("pr") else {}
    shared = share(model, name, k=4, **flags)
    # The slope of the loss along each shared value, in float64, is what the sum must be.
    models.set_weights(model, shared.weights())
    slopes, width = {}, 1e-4
    for book, codebook in shared.codebooks.items():
        slopes[book] = np.zeros(codebook.k)
        for level in range(codebook.k):
            if level == codebook.zero:  # reserved for pruned weights: it does not train
                continue
            losses = []
            for sign in (1, -1):
                moved = dict(shared.weights())
                for path, kernel in shared.kernels.items():
                    if kernel.codebook == book:
                        moved[path] = moved[path] + sign * width * (kernel.indices == level)
                models.set_weights(model, moved)
                losses.append(cross_entropy(model, *images_and_labels))
            slopes[book][level] = (losses[0] - losses[1]) / (2 * width)
    models.set_weights(model, shared.weights())

    trainer = SharedWeightsTrainer(model, shared, grid="free", distill=False)
    trainer.compile(optimizer=SGD(0.0), codebook_optimizer=SGD(0.01),
                    loss="categorical_crossentropy")
    trainer.train_on_batch(*images_and_labels)
    for path, kernel in shared.kernels.items():
        expected = shared.codebooks[kernel.codebook].values - 0.01 * slopes[kernel.codebook]
        assert np.abs(slopes[kernel.codebook]).max() > 0.01
        now = np.asarray(models.variables_by_path(model)[path])
        np.testing.assert_allclose(now, expected[kernel.indices], atol=2e-6)


def test_updates_add_up_over_steps_and_epochs(small_network, share, images_and_labels):
    model = small_network(dropout=0.0)
    data = [array[:8] for array in images_and_labels]
    by_hand = SharedWeightsTrainer(model, share(model), grid="free", distill=False)
    start = by_hand.codebook_variables[0].numpy()
    by_hand.compile(optimizer=SGD(0.0), codebook_optimizer=SGD(0.01),
                    loss="categorical_crossentropy")
    moves, last = [], start
    for _ in range(4):
        by_hand.train_on_batch(*data)
        moves.append(by_hand.codebook_variables[0].numpy() - last)
        last = by_hand.codebook_variables[0].numpy()
    again = small_network(dropout=0.0)
    by_fit = trained(again, share(again), data, epochs=4, grid="free", distill=False,
                     optimizers=(SGD(0.0), SGD(0.01)))
    np.testing.assert_allclose(by_fit.codebook_variables[0], last, rtol=1e-5)
    # Four steps lead about four times as far as one; lost updates would lead as far as one.
    assert np.linalg.norm(last - start) > 2.5 * np.linalg.norm(moves[0])


@pytest.mark.parametrize("name, assign", [
    ("uUQ", "fixed"), ("UQ", "learned"), ("uCWS", "learned"), ("PWS", "fixed"),
    ("uECSQ", "fixed"), ("pruUQ", "learned"), ("prCWS", "fixed")])
def test_after_five_epochs_there_are_at_most_k_values_and_the_container_holds_them(
        small_network, share, images_and_labels, name, assign):
    model = small_network()
    pruned = {"prcnn": 40, "prfc": 40} if "pr" in name else {}
    shared = share(model, name, k=5, **pruned)
    before = models.weights(model)
    trainer = trained(model, shared, images_and_labels, assign=assign)
    result = trainer.shared_weights()  # its types check order, distinctness and grid
    now = models.weights(model)
    assert set(result.codebooks) == set(shared.codebooks)
    for path, kernel in result.kernels.items():
        np.testing.assert_array_equal(result.kernel(path), now[path])
        codebook, was = result.codebooks[kernel.codebook], shared.codebooks[kernel.codebook]
        assert codebook.k <= was.k
        assert (codebook.step is None) == (was.step is None)
        assert not np.array_equal(now[path], shared.kernel(path))
        if was.zero is not None:
            assert codebook.values[codebook.zero] == 0
    for path in ("dense1/bias", "norm/gamma", "norm/moving_mean"):
        assert not np.array_equal(result.unshared[path], before[path]), path


@pytest.mark.parametrize("assign", ["fixed", "learned"])
@pytest.mark.parametrize("grid", ["int8", "free"])
def test_pruned_weights_stay_exactly_zero_under_momentum(
        small_network, share, images_and_labels, assign, grid):
    model = small_network()
    shared = share(model, "pruCWS", k=6, prcnn=50, prfc=70)
    trainer = trained(model, shared, images_and_labels, assign=assign, grid=grid)
    result = trainer.shared_weights()
    for path, kernel in shared.kernels.items():
        pruned = kernel.indices == shared.codebooks[kernel.codebook].zero
        assert pruned.any()
        assert not np.asarray(models.variables_by_path(model)[path])[pruned].any()
        assert (result.kernels[path].indices[pruned]
                == result.codebooks[kernel.codebook].zero).all()


def test_weights_that_are_merely_nearest_to_zero_may_leave_it(
        small_network, share, images_and_labels):
    model = small_network()
    flags = {"prcnn": 30, "prfc": 30}
    shared = share(model, "pruUQ", k=4, **flags)
    masks = prune_masks(
        {kernel.path: (np.asarray(kernel.variable), kernel.family)
         for kernel in models.kernels(model)},
        Compression.parse("pruUQ", clustercnn=4, clusterfc=4, **flags))
    result = trained(model, shared, images_and_labels, assign="learned", pruned=masks)
    left = 0
    for path, latent in result.latent_weights().items():
        assert masks[path].mean() == pytest.approx(0.3, abs=0.05)
        now = models.weights(model)[path]
        assert not now[masks[path]].any() and not latent[masks[path]].any()
        assert latent[~masks[path]].all()
        at_zero = shared.kernels[path].indices == shared.codebooks[
            shared.kernels[path].codebook].zero
        left += np.count_nonzero(now[at_zero & ~masks[path]])
    assert left > 0


def test_fixed_keeps_every_index_and_learned_does_not(small_network, share, images_and_labels):
    for assign in ("fixed", "learned"):
        model = small_network()
        shared = share(model, "uCWS", k=6)
        result = trained(model, shared, images_and_labels, assign=assign, epochs=3,
                         optimizers=(keras.optimizers.Adam(0.01), SGD(1e-5))).shared_weights()
        same = all(np.array_equal(kernel.indices, result.kernels[path].indices)
                   for path, kernel in shared.kernels.items())
        assert same == (assign == "fixed")


def test_learned_levels_are_those_nearest_to_the_latent_weights(
        small_network, share, images_and_labels):
    model = small_network()
    trainer = trained(model, share(model, "uCWS", k=7), images_and_labels, assign="learned")
    values = trainer.shared_weights().codebooks["conv"].values
    latent = trainer.latent_variables[0].numpy()
    nearest = np.abs(latent[..., None] - values).min(-1)
    now = np.asarray(model.get_layer("conv1").kernel)
    np.testing.assert_allclose(np.abs(latent - now), nearest, atol=1e-6)


def test_before_the_first_step_the_model_is_the_compressed_one(small_network, share):
    for name in ("PWS", "uUQ"):
        model = small_network()
        shared = share(model, name, k=4)
        trainer = SharedWeightsTrainer(model, shared, assign="learned")
        for path in shared.kernels:
            np.testing.assert_allclose(models.weights(model)[path], shared.kernel(path), rtol=1e-6)
        assert trainer.shared_weights().kernels.keys() == shared.kernels.keys()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_without_labels_the_originals_outputs_teach(small_network, share, activation):
    images = np.random.default_rng(0).random((32, 8, 8, 1)).astype(np.float32)
    model = small_network(activation, dropout=0.0)

    def answers():
        outputs = np.asarray(model(images))
        return outputs if activation else np.asarray(keras.ops.softmax(outputs))

    original = answers()
    loss = {"softmax": "categorical_crossentropy", "sigmoid": "binary_crossentropy",
            None: keras.losses.CategoricalCrossentropy(from_logits=True)}[activation]
    trainer = SharedWeightsTrainer(model, share(model, k=3), assign="learned")
    trainer.compile(optimizer=keras.optimizers.Adam(3e-3),
                    codebook_optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    far = np.abs(answers() - original).mean()
    start = trainer.evaluate(images, verbose=0)
    trainer.fit(images, epochs=25, batch_size=8, verbose=0)
    assert np.abs(answers() - original).mean() < 0.7 * far
    assert trainer.evaluate(images, verbose=0) < start


def test_given_soft_targets_and_the_frozen_copy_teach_the_same(
        small_network, share, images_and_labels):
    images, labels = images_and_labels
    results = []
    for distill in (True, "given"):
        model = small_network(dropout=0.0)
        soft = model.predict(images, verbose=0)
        targets = {"labels": labels, "soft_targets": soft} if distill == "given" else labels
        results.append(trained(model, share(model, grid="free"), (images, targets),
                               distill=distill))
    for one, other in zip(*(trainer.weights for trainer in results), strict=True):
        # Before BatchNormalization a bias has no gradient but rounding, which Adam scales up, and
        # the moving mean follows it.
        if not one.path.endswith(("conv1/bias", "norm/moving_mean")):
            np.testing.assert_allclose(one, other, atol=2e-3)


def test_callbacks_metrics_and_restored_weights_are_those_of_keras(
        small_network, share, images_and_labels):
    model = small_network()
    trainer = SharedWeightsTrainer(model, share(model), assign="learned")
    trainer.compile(optimizer=keras.optimizers.Adam(0.3), codebook_optimizer="adam",
                    loss="categorical_crossentropy", metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True,
                                         start_from_epoch=0)
    history = trainer.fit(*images_and_labels, validation_data=images_and_labels, epochs=8,
                          batch_size=8, verbose=0, callbacks=[stop]).history
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history)
    now = trainer.evaluate(*images_and_labels, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(now, min(history["val_loss"]), rtol=1e-5)
    # Levels, codebooks and kernels were restored together.
    shared = trainer.shared_weights()
    for path in shared.kernels:
        np.testing.assert_array_equal(shared.kernel(path), models.weights(model)[path])


def test_frozen_layers_keep_indices_but_their_shared_values_follow_all_members(
        small_network, share, images_and_labels):
    model = small_network()
    model.get_layer("dense1").trainable = False
    shared = share(model, "uUQ")
    result = trained(model, shared, images_and_labels, assign="learned").shared_weights()
    np.testing.assert_array_equal(result.unshared["dense1/bias"], shared.unshared["dense1/bias"])
    unique = np.unique(shared.kernels["dense1/kernel"].indices)
    assert len(np.unique(result.kernel("dense1/kernel"))) <= len(unique)
    model = small_network()
    model.get_layer("dense1").trainable = False
    shared = share(model, "UQ")
    result = trained(model, shared, images_and_labels).shared_weights()
    np.testing.assert_allclose(result.kernel("dense1/kernel"), shared.kernel("dense1/kernel"),
                               rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_policies_train(small_network, share, images_and_labels, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = small_network(dtype=policy)
        shared = share(model, "pruUQ", prcnn=30, prfc=30)
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), 8.0) \
            if policy == "mixed_float16" else keras.optimizers.Adam(0.01)
        trainer = trained(model, shared, images_and_labels, assign="learned", epochs=8,
                          optimizers=(optimizer, keras.optimizers.Adam(0.01)), distill=False)
        result = trainer.shared_weights()
    finally:
        keras.config.set_dtype_policy("float32")
    losses = trainer.history.history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert all(result.codebooks[name].k <= book.k for name, book in shared.codebooks.items())


def test_a_mixed_model_from_a_file_has_its_loss_scaled(
        small_network, share, images_and_labels, tmp_path):
    small_network(dtype="mixed_float16").save(tmp_path / "mixed.keras")
    model = keras.models.load_model(tmp_path / "mixed.keras")
    shared = share(model)
    trainer = trained(model, shared, images_and_labels, epochs=8, distill=False)
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = trainer.history.history["loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_a_scaled_loss_moves_the_codebooks_by_the_unscaled_gradient(
        small_network, share, images_and_labels):
    moved = []
    for optimizer in (SGD(0.0), keras.optimizers.LossScaleOptimizer(SGD(0.0), 1024.0)):
        model = small_network(dropout=0.0)
        moved.append(trained(model, share(model), images_and_labels, epochs=1, grid="free",
                             optimizers=(optimizer, SGD(0.1)), distill=False))
    np.testing.assert_allclose(*(trainer.codebook_variables[0] for trainer in moved), rtol=1e-4)


def test_it_trains_under_a_mirrored_strategy(small_network, share, images_and_labels):
    def train(assign, epochs=2):
        # Adam would blow the rounding of a gradient that is 0 (a bias before a normalisation)
        # up to a whole step; plain gradient descent leaves it rounding.
        model = small_network(dropout=0.0)
        weights = trained(model, share(model), images_and_labels, assign=assign, epochs=epochs,
                          optimizers=(SGD(0.05), SGD(0.01))).get_weights()
        return np.concatenate([np.ravel(array) for array in weights])

    for assign in ("fixed", "learned"):
        start, alone = train(assign, epochs=0), train(assign)
        with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
            mirrored = train(assign)
        # Rounding moves a learned weight near a border to the next value, so not bit for bit.
        apart, moved = np.linalg.norm(mirrored - alone), np.linalg.norm(alone - start)
        assert moved > 0.05 and apart < 0.05 * moved


@pytest.mark.slow
def test_the_training_step_compiles_with_xla(small_network, share, images_and_labels):
    model = small_network()
    trainer = trained(model, share(model, "uCWS", k=40), images_and_labels, assign="learned",
                      epochs=1, compile_with={"jit_compile": True})
    assert trainer.shared_weights().codebooks["conv"].k <= 40


def test_what_cannot_be_trained_is_refused(small_network, share, images_and_labels):
    model = small_network()
    shared = share(model)
    image = keras.Input((8, 8, 1))
    two = keras.Model([image, keras.Input((1,))], model(image))
    with pytest.raises(InputError, match="2 inputs"):
        SharedWeightsTrainer(two, shared)
    model.trainable = False
    with pytest.raises(InputError, match="frozen"):
        SharedWeightsTrainer(model, shared)
    model.trainable = True
    other = replace(shared, kernels=shared.kernels | {"conv9/kernel": shared.kernels["conv1/kernel"]})  # noqa: E501
    with pytest.raises(InputError, match="another model"):
        SharedWeightsTrainer(model, other)
    for wrong in ({"assign": "free"}, {"distill": "yes"}, {"label_weight": 2.0}):
        with pytest.raises(ValueError, match="Received"):
            SharedWeightsTrainer(model, shared, **wrong)
    with pytest.raises(InputError, match="one-hot"):
        trained(model, shared, (images_and_labels[0], np.zeros((24, 1))))
    with pytest.raises(InputError, match="neither labels nor soft"):
        trained(model, shared, (images_and_labels[0],), distill=False)
