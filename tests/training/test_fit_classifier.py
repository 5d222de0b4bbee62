"""Training: what is best on validation is kept, and an interruption leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.data.augmentation import Augmentation
from cxcompress.data.collection import Collection, Part
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.training import fit_classifier
from cxcompress.training.adaptive import ChainSettings, Stage, budget_epochs, run_chain
from cxcompress.training.transfer import freeze_backbone, transfer

GREY = Preprocessing.preset("0-1", (16, 16), 1)


def part(count, seed, unknown=0.2):
    """Class 0: bright on the left; class 1: bright on top."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 2)) < 0.5).astype(np.float32)
    images = rng.normal(100, 40, (count, 16, 16, 1))
    images[:, :, :8, 0] += 60 * labels[:, 0, None, None]
    images[:, :8, :, 0] += 60 * labels[:, 1, None, None]
    labels[rng.random(labels.shape) < unknown] = np.nan
    ids = np.array([f"{seed}-{number}" for number in range(count)])
    return Part(images.clip(0, 255).astype(np.uint8), labels, ids, ids)


@pytest.fixture(scope="module")
def collection():
    return Collection("made", "multilabel", ("left", "top"), part(96, 0), part(40, 1), part(60, 2))


def network(classes=2, activation="sigmoid"):
    keras.utils.set_random_seed(0)
    images = keras.Input((16, 16, 1), name="image")
    x = keras.layers.Conv2D(6, 3, strides=2, name="conv")(images)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Dropout(0.2)(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(images, keras.layers.Dense(classes, activation=activation,
                                                  name="predictions")(x))


SETTINGS = {"learning_rate": 3e-3, "batch_size": 16, "seed": 5, "augmentation": Augmentation()}


@pytest.mark.parametrize("watched", ["val_loss", "val_macro_ap"])
def test_the_best_epoch_is_kept(collection, watched):
    model = network()
    fitted = fit_classifier(model, collection, GREY, epochs=5, watched=watched, **SETTINGS)
    values = fitted[watched]
    best = np.argmin(values) if watched == "val_loss" else np.argmax(values)
    assert fitted.best_epoch == best
    again = model.evaluate(GREY.batch(collection.val.images), collection.val.labels, verbose=0,
                           batch_size=64)
    assert again == pytest.approx(fitted["val_loss"][best], rel=0.05)


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(collection, tmp_path):
    whole = network()
    expected = fit_classifier(whole, collection, GREY, epochs=4, **SETTINGS)
    state = tmp_path / "state.npz"
    files = {"state": state, "table": tmp_path / "history.csv", "about": {"a": 1}}

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(model, **more):
        return fit_classifier(model, collection, GREY, epochs=4, **SETTINGS, **files | more)

    original = keras.Model.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", lambda self, *args, callbacks, **more: original(
            self, *args, callbacks=[*callbacks, Interrupt()], **more))
        with pytest.raises(KeyboardInterrupt):
            fit(network())
    assert state.exists() and len((tmp_path / "history.csv").read_text().splitlines()) == 3
    with pytest.raises(InputError, match="another training"):
        fit(network(), about={"a": 2})
    resumed = network()
    found = fit(resumed)
    assert not state.exists()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, err_msg=name)
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-4)


def test_a_damaged_state_is_refused(collection, tmp_path):
    (tmp_path / "state.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match="--overwrite"):
        fit_classifier(network(), collection, GREY, epochs=1, state=tmp_path / "state.npz")


def test_it_stops_when_validation_no_longer_improves(collection):
    fitted = fit_classifier(network(), collection, GREY, epochs=40, patience=2, learning_rate=0.05,
                            batch_size=16, seed=0)
    epochs = len(fitted["loss"])
    assert epochs < 40 and epochs == fitted.best_epoch + 1 + 2
    assert fitted["learning_rate"][-1] < 0.05


def test_tensorboard_reads_every_epoch(collection, tmp_path):
    import tensorflow as tf

    fitted = fit_classifier(network(), collection, GREY, epochs=2, tensorboard=tmp_path, **SETTINGS)
    file = next(tmp_path.glob("events.out.tfevents*"))
    found = {}
    for raw in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(raw)
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name in ("scalars", "")
            found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    for name in ("loss", "val_loss"):
        for number, expected in enumerate(fitted[name]):
            assert found[f"epoch_{name}", number] == pytest.approx(expected, rel=1e-5)


def test_losses_of_multilabel_collections_only(collection):
    labels = np.eye(2, dtype=np.float32)
    exclusive = replace(collection, task="multiclass",
                        train=replace(collection.train, labels=np.tile(labels, (48, 1))),
                        val=replace(collection.val, labels=np.tile(labels, (20, 1))))
    fitted = fit_classifier(network(activation="softmax"), exclusive, GREY, epochs=1)
    assert np.isfinite(fitted["loss"]).all()
    with pytest.raises(InputError, match="exclude each other"):
        fit_classifier(network(), exclusive, GREY, epochs=1, loss="focal")


def test_transfer_takes_all_but_the_head_and_freezing_keeps_it(collection):
    source, target = network(), network(classes=5)
    for variable in source.weights:
        variable.assign(np.full(variable.shape, 0.5))
    taken = transfer(source, target)
    assert "conv/kernel" in taken and not any(path.startswith("predictions") for path in taken)
    np.testing.assert_array_equal(target.get_layer("conv").kernel, 0.5)
    assert not np.array_equal(target.get_layer("predictions").kernel, source.get_layer(
        "predictions").kernel[:, :1])
    freeze_backbone(target)
    assert [variable.path.split("/")[0] for variable in target.trainable_variables] == [
        "predictions", "predictions"]
    other = models.build("resnet18", (32, 32, 1), 2, activation="sigmoid")
    with pytest.raises(InputError, match="same architecture"):
        transfer(other, target)


def test_a_chain_hands_its_backbone_on_and_heads_are_new(collection):
    single = replace(collection, task="multiclass", classes=("No Finding", "left"), **{
        name: replace(some, labels=np.eye(2, dtype=np.float32)[
            (np.nan_to_num(some.labels[:, 0]) == 1).astype(int)])
        for name, some in collection.parts.items()})
    stages = [Stage("one", single, 2), Stage("two", collection, 1, frozen=True)]
    assert budget_epochs(stages) == 3
    made = []

    def build(classes, activation):
        made.append(network(classes, activation))
        return made[-1]

    model, fitted = run_chain(build, stages, GREY, ChainSettings(3e-3, 16))
    assert model is made[1] and set(fitted) == {"one", "two"}
    np.testing.assert_array_equal(made[0].get_layer("conv").kernel,
                                  made[1].get_layer("conv").kernel)
    assert all(layer.trainable for layer in model.layers)
