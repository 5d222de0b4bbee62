"""Schedules in `model.fit`: exact sparsity, masks that nothing revives, resumption."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.errors import InputError
from cxcompress.pruning import (
    HoldMasks,
    PruneDuringTraining,
    PruneInStages,
    gradually,
    groups,
    magnitude,
    masks_of,
    prunable_kernels,
    prune,
    sparsity,
    stages,
)

HALF_AT_ONCE = lambda step: (step == 0, 0.5)  # noqa: E731


def zeros(model) -> float:
    return sparsity(masks_of(model))


def compiled(model, optimizer=None):
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    return model


class Watch(keras.callbacks.Callback):
    """The share of zeros after every step, and whether any zero came back."""

    def __init__(self):
        super().__init__()
        self.shares, self.revived, self._zero = [], False, None

    def on_train_batch_end(self, batch, logs=None):
        zero = {path: ~mask for path, mask in masks_of(self.model).items()}
        if self._zero is not None:
            self.revived |= any((self._zero[path] & ~zero[path]).any() for path in zero)
        self._zero = zero
        self.shares.append(zeros(self.model))


@pytest.fixture
def tfmot_schedules():
    return pytest.importorskip("tensorflow_model_optimization").sparsity.keras


def test_polynomial_decay_of_tfmot_on_a_keras_3_model(network, images, tfmot_schedules):
    schedule = tfmot_schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=11, frequency=4)
    model, watch = compiled(network()), Watch()
    model.fit(*images, batch_size=16, epochs=5, verbose=0,
              callbacks=[PruneDuringTraining(schedule, exclude=["predictions"]), watch])
    total = sum(kernel.variable.numpy().size for kernel in prunable_kernels(model, ["predictions"]))
    left = sum(np.count_nonzero(kernel.variable.numpy())
               for kernel in prunable_kernels(model, ["predictions"]))
    assert total - left == round(0.9 * total)  # though 11 is no turn of every fourth step from 2
    assert not watch.revived
    assert watch.shares[0] == watch.shares[1] == 0 < watch.shares[2]
    assert np.all(np.diff(watch.shares) >= 0)
    assert np.count_nonzero(model.get_layer("predictions").kernel.numpy() == 0) == 0


def test_constant_sparsity_of_tfmot_and_its_begin(network, images, tfmot_schedules):
    model, watch = compiled(network()), Watch()
    model.fit(*images, batch_size=16, epochs=2, verbose=0, callbacks=[
        PruneDuringTraining(tfmot_schedules.ConstantSparsity(0.5, 3, frequency=2)), watch])
    assert watch.shares[2] == 0 and watch.shares[3] == pytest.approx(0.5, abs=1e-3)
    untouched = compiled(network())
    untouched.fit(*images, batch_size=16, epochs=1, verbose=0, callbacks=[
        PruneDuringTraining(tfmot_schedules.ConstantSparsity(0.5, 100))])
    assert zeros(untouched) == 0


OPTIMISERS = {
    "adamw-ema": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True,
                                                ema_momentum=0.9),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, clipnorm=1.0),
    "lion": lambda: keras.optimizers.Lion(0.001),
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize("name", ["adamw-ema", *(
    pytest.param(name, marks=pytest.mark.slow) for name in list(OPTIMISERS)[1:])])
def test_no_optimiser_revives_a_pruned_weight(network, images, name):
    model = compiled(network(), OPTIMISERS[name]())
    model.fit(*images, batch_size=16, epochs=2, verbose=0)  # momenta of every weight are in motion
    callback, watch = PruneDuringTraining(HALF_AT_ONCE, scope="layer"), Watch()
    model.fit(*images, batch_size=16, epochs=3, verbose=0, callbacks=[callback, watch])
    assert not watch.revived
    for path, mask in masks_of(model).items():
        np.testing.assert_array_equal(mask, callback.masks[path])
        assert mask.size - mask.sum() == round(0.5 * mask.size)


def test_masks_hold_in_mixed_precision_and_over_several_steps_an_execution(images):
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential([
            keras.Input((8, 8, 1)), layers.Conv2D(6, 3, name="conv1", activation="relu"),
            layers.Flatten(), layers.Dense(3, activation="softmax", dtype="float32")])
        model.compile(keras.optimizers.Adam(0.01), loss="categorical_crossentropy",
                      steps_per_execution=2)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        callback, watch = PruneDuringTraining(lambda step: (step == 3, 0.8)), Watch()
        model.fit(*images, batch_size=8, epochs=2, verbose=0, callbacks=[callback, watch])
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert callback.step == 12
    assert not watch.revived and zeros(model) == pytest.approx(0.8, abs=0.01)
    assert watch.shares[0] == 0 < watch.shares[2]


MIRRORED = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from cxcompress.pruning import PruneDuringTraining, masks_of, sparsity

rng = np.random.default_rng(0)
x, y = rng.random((32, 8, 8, 1), np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, 32)]
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
assert model.distribute_strategy.num_replicas_in_sync == 2
shares = []
watch = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: shares.append(sparsity(masks_of(model))))
model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[
    PruneDuringTraining(lambda step: (step in (0, 2), 0.25 if step < 2 else 0.5)), watch])
print(*shares)
"""


@pytest.mark.slow
def test_masks_hold_under_a_mirrored_strategy_of_two_devices():
    said = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr[-2000:]
    shares = [float(share) for share in said.stdout.split()]
    assert shares == pytest.approx([0.25] * 2 + [0.5] * 4, abs=0.01)


def test_the_model_is_an_ordinary_one_again(network, images, tmp_path):
    model = compiled(network())
    kernel = model.get_layer("conv1").kernel
    kernel.constraint = norm = keras.constraints.MaxNorm(1.0)
    masks = prune(magnitude(model, prunable_kernels(model)), 0.6,
                  groups(prunable_kernels(model), "layer"))
    hold = HoldMasks(masks)
    model.fit(*images, batch_size=16, epochs=2, verbose=0, callbacks=[hold])
    for path, mask in masks_of(model).items():
        np.testing.assert_array_equal(mask, masks[path])
    assert np.linalg.norm(kernel.numpy().reshape(-1, 8), axis=0).max() <= np.linalg.norm([1.0]) + 9
    assert kernel.constraint is norm
    model.save(tmp_path / "model.keras")
    again = models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(images[0], verbose=0),
                                  model.predict(images[0], verbose=0))
    model.fit(*images, batch_size=16, epochs=1, verbose=0)  # and trains freely
    assert zeros(model) < 0.1


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_training_ends_as_an_uninterrupted_one(network, images, tmp_path):
    def schedule(step):
        return step % 2 == 0, min(0.1 * step, 0.8)

    def run(*more, folder):
        model = compiled(network(seed=3))
        model.fit(*images, batch_size=16, epochs=4, verbose=0, shuffle=False, callbacks=[
            keras.callbacks.BackupAndRestore(str(folder / "backup")),
            PruneDuringTraining(schedule, state_file=folder / "masks.npz"), *more])
        return models.weights(model)

    whole = run(folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Interrupt(), folder=tmp_path / "cut")
    assert (tmp_path / "cut" / "masks.npz").exists()
    resumed = run(folder=tmp_path / "cut")
    for path, array in whole.items():
        np.testing.assert_array_equal(resumed[path], array)
    assert not (tmp_path / "cut" / "masks.npz").exists()
    with pytest.raises(KeyboardInterrupt):
        run(Interrupt(), folder=tmp_path / "cut")
    model = compiled(network(seed=3))
    state = tmp_path / "cut" / "masks.npz"
    with pytest.raises(InputError, match="after 6 steps of the optimiser, which is at 0"):
        model.fit(*images, batch_size=16, epochs=4, verbose=0,
                  callbacks=[PruneDuringTraining(schedule, state_file=state)])
    with pytest.raises(InputError, match="with another scope"):
        model.fit(*images, verbose=0,
                  callbacks=[PruneDuringTraining(schedule, scope="layer", state_file=state)])


def test_an_interrupted_training_leaves_no_mask_for_ever(network, images):
    model = compiled(network())
    with pytest.raises(KeyboardInterrupt):
        model.fit(*images, batch_size=16, epochs=3, verbose=0,
                  callbacks=[PruneDuringTraining(HALF_AT_ONCE), Interrupt()])
    model.fit(*images, batch_size=16, epochs=1, verbose=0,
              callbacks=[PruneDuringTraining(HALF_AT_ONCE)])
    assert all(kernel.variable.constraint is None for kernel in prunable_kernels(model))
    model.fit(*images, batch_size=16, epochs=1, verbose=0)
    assert zeros(model) < 0.1


def test_schedules_that_cannot_be_are_refused(tfmot_schedules):
    class Backwards:
        begin_step, end_step = 10, 5

        def __call__(self, step):
            return True, 0.5

    with pytest.raises(InputError, match="ends at step 5 before it begins at 10"):
        PruneDuringTraining(Backwards())
    with pytest.raises(InputError, match="begins and ends at step 4"):
        PruneDuringTraining(tfmot_schedules.PolynomialDecay(0, 0.5, 4, 4))
    with pytest.raises(InputError, match="no score is named"):
        PruneDuringTraining(HALF_AT_ONCE, score="size")


def test_a_schedule_that_leaves_its_range_or_empties_a_layer_stops(network, images):
    model = compiled(network())
    with pytest.raises(InputError, match="--sparsity 1.0: must be 0 or more and below 1"):
        model.fit(*images, verbose=0, callbacks=[PruneDuringTraining(lambda step: (True, 1.0))])
    model.get_layer("conv1").kernel.assign(np.full((3, 3, 1, 8), 1e-9))
    with pytest.raises(InputError, match="conv1/kernel: would lose all its 72 weights"):
        model.fit(*images, verbose=0, callbacks=[PruneDuringTraining(HALF_AT_ONCE)])
    with pytest.raises(InputError, match="--scope block: choose one of"):
        model.fit(*images, verbose=0,
                  callbacks=[PruneDuringTraining(HALF_AT_ONCE, scope="block")])


@pytest.mark.parametrize("strategy, gradual", [("iterative", False), *(
    pytest.param(*other, marks=pytest.mark.slow) for other in (
        ("oneshot", False), ("layerwise", False), ("oneshot", True), ("iterative", True),
        ("layerwise", True)))])
def test_strategies_reach_the_sparsity_within_the_steps(network, images, strategy, gradual):
    model, watch = compiled(network("residual")), Watch()
    kernels = prunable_kernels(model)
    plan = stages(strategy, 0.65, 18, kernels)
    assert sum(stage.steps for stage in plan) == 18
    if gradual:
        pytest.importorskip("tensorflow_model_optimization")
        plan = gradually(plan)
    callback = PruneInStages(plan)
    model.fit(*images, batch_size=16, epochs=6, verbose=0, callbacks=[callback, watch])
    assert callback.complete and callback.step == 18
    total = sum(kernel.variable.numpy().size for kernel in kernels)
    wanted = (sum(round(0.65 * kernel.variable.numpy().size) for kernel in kernels)
              if strategy == "layerwise" else round(0.65 * total))
    assert total - sum(mask.sum() for mask in callback.masks.values()) == wanted
    assert not watch.revived and watch.shares[-1] == pytest.approx(0.65, abs=0.01)
    if not gradual:
        expected = {"oneshot": 1, "iterative": 7, "layerwise": len(kernels)}[strategy]
        assert len(set(watch.shares)) == expected
    if strategy == "layerwise":
        first = watch.shares[0] if not gradual else None
        assert first is None or first == pytest.approx(
            0.65 * kernels[0].variable.numpy().size / total, abs=0.01)


def test_stages_refuse_what_cannot_be(network):
    kernels = prunable_kernels(network())
    with pytest.raises(InputError, match="--strategy twice: choose one of oneshot"):
        stages("twice", 0.5, 10, kernels)
    with pytest.raises(InputError, match="9 stages, more than the 5 training steps"):
        stages("iterative", 0.9, 5, kernels)
    with pytest.raises(InputError, match="--sparsity 90: .* e.g. 0.9"):
        stages("oneshot", 90, 10, kernels)
