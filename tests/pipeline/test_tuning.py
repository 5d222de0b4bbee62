"""Fine-tuning on the road: what is tuned, on which images, and what the result says of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

import cxcompress.quantization
from cxcompress import FineTuning, models
from cxcompress.data import open_collection
from cxcompress.data.collection import Part
from cxcompress.errors import InputError
from cxcompress.pipeline import tuning
from cxcompress.pipeline.inputs import open_study
from cxcompress.pipeline.tuning import batches, joined, stages
from cxcompress.training.fine_tuning import loss_on
from tests.pipeline.test_compressing import collection, compress, network


@pytest.fixture(scope="module")
def trained():
    """A network that tells the noise images' classes apart."""
    model = network()
    part = collection().train
    model.compile("adam", "categorical_crossentropy")
    model.fit(part.images / 255.0, part.labels, epochs=30, verbose=0)
    return model


def tuned(model, **settings):
    return compress(
        model, collection(parts=("train", "val", "test")), "uUQ", k=3, preprocessing="0-1",
        sensitivity=False, fine_tuning=FineTuning(
            **{"epochs": 3, "batch_size": 10, "learning_rate": 3e-3, "lr_cumulative": 3e-3}
            | settings))


@pytest.mark.parametrize("assign", ["fixed", "learned"])
def test_the_tuned_weights_are_what_is_judged_and_stored(trained, assign, tmp_path):
    before = {path: value.copy() for path, value in models.weights(trained).items()}
    result = tuned(trained, assign=assign)
    assert list(result.stages) == ["original", "after quantisation", "after fine-tuning"]
    assert len(result.tuned.history["val_loss"]) >= 2
    assert max(book.k for book in result.container.shared.codebooks.values()) <= 3
    result.save(tmp_path / "tuned.h5")
    part = collection(parts=("train", "val", "test")).test
    outputs = models.load_model(tmp_path / "tuned.h5").predict(
        (part.images / np.float32(255)).astype(np.float32), verbose=0)
    np.testing.assert_allclose(outputs, result.compressed.score, atol=1e-5)
    assert result.container.card.provenance["fine_tuning"]["assign"] == assign
    for path, value in models.weights(trained).items():
        np.testing.assert_array_equal(value, before[path])


def test_training_again_uses_validation_images_too(trained, monkeypatch):
    fine_tune, asked = tuning.fine_tune, []
    monkeypatch.setattr(tuning, "fine_tune", lambda *arrays, **settings: (
        asked.append(settings) or fine_tune(*arrays, **settings)))
    once, again = tuned(trained), tuned(trained, retrain=True)
    # Rates fall as in the training whose best epoch it repeats.
    assert len(asked) == 3 and asked[2]["schedule_epochs"] == asked[1]["epochs"] == 3
    assert once.tuned.best_epoch == again.tuned.best_epoch > 0
    # Threads add floats in an order of their own: repeats agree to rounding, not to the bit.
    for losses in ("loss", "val_loss"):
        np.testing.assert_allclose(
            once.tuned.history[losses], again.tuned.history[losses], rtol=1e-3, equal_nan=True)
    assert any("trained again" in note for note in again.notes)
    assert not np.array_equal(once.compressed.score, again.compressed.score)


def test_gradual_quantisation_ends_at_the_shared_values_asked_for(trained):
    result = tuned(trained, gradual=True, epochs=4)
    assert max(book.k for book in result.container.shared.codebooks.values()) <= 3
    assert [note.split(",")[0] for note in result.notes if note.startswith("gradually")] == [
        "gradually: k = 48", "gradually: k = 12"]
    losses = result.tuned.history["val_loss"]
    assert len(losses) == 3 and min(losses) < tuned(trained, epochs=1).tuned.history["val_loss"][0]
    # UQ's stages give many weights the value 0: they were not pruned, and may leave it.
    assert any((book.values == 0).any() for book in result.container.shared.codebooks.values())
    assert all(book.zero is None for book in result.container.shared.codebooks.values())


def test_gradual_quantisation_that_only_harms_gives_back_what_came_in(trained):
    settings = {"epochs": 4, "learning_rate": 1.0, "lr_cumulative": 1.0}
    result = tuned(trained, gradual=True, **settings)
    assert result.tuned.best_epoch == 0
    quantised = compress(trained, collection(parts=("train", "val", "test")), "uUQ", k=3,
                         preprocessing="0-1", sensitivity=False)
    np.testing.assert_allclose(result.compressed.score, quantised.compressed.score, atol=1e-6)


def test_too_few_epochs_for_stages_are_trained_without_them(trained):
    result = tuned(trained, gradual=True, epochs=1)
    assert not any(note.startswith("gradually") for note in result.notes)
    assert any("1 epochs are too few to share out" in note and "--epochs 4" in note
               for note in result.notes)
    assert len(result.tuned.history["loss"]) == 2


def test_training_again_that_diverges_keeps_what_training_gave(trained, monkeypatch):
    fine_tune = tuning.fine_tune

    def diverging(model, shared, weights, train, val, **settings):
        if val is None:
            settings |= {"learning_rate": 1e38, "lr_cumulative": 1e38}
        return fine_tune(model, shared, weights, train, val, **settings)

    monkeypatch.setattr(tuning, "fine_tune", diverging)
    result = tuned(trained, retrain=True)
    losses = result.tuned.history["val_loss"]
    assert result.tuned.best_epoch > 0
    assert any("again on training and validation images together diverged" in note
               for note in result.notes)
    study = open_study(trained, None, collection(parts=("train", "val", "test")), None, "0-1", 0,
                       [])
    weights = models.weights(trained)
    models.set_weights(trained, result.tuned.shared.weights())
    judged = loss_on(trained, batches(study, study.collection.val, 30), "multiclass")
    models.set_weights(trained, weights)
    assert judged == pytest.approx(losses[result.tuned.best_epoch], rel=1e-4)


def test_kernels_of_frozen_layers_are_named(trained):
    trained.layers[0].trainable = False
    try:
        result = tuned(trained, epochs=1)
    finally:
        trained.layers[0].trainable = True
    path = models.kernels(trained)[0].path
    assert [note for note in result.notes if note.startswith(
        f"1 of 2 kernels are of frozen layers (the first: {path})")]


@pytest.mark.parametrize(("k", "expected"), [(3, [48, 12]), (64, [256]), (256, []), (300, [])])
def test_stages_of_gradual_quantisation_have_at_most_256_values(k, expected):
    compression = cxcompress.quantization.Compression.parse("uUQ", clustercnn=k, clusterfc=0)
    found = stages(compression)
    assert [stage.k["conv"] for stage in found] == expected
    assert all(stage.k["dense"] == 0 for stage in found)


def test_a_folder_of_images_without_labels_is_enough(trained, tmp_path):
    for number, image in enumerate(collection().train.images[:24]):
        Image.fromarray(image[..., 0]).save(tmp_path / f"image{number:02d}.png")
    result = compress(
        trained, tmp_path, "uUQ", k=3, sensitivity=False, preprocessing="0-1",
        fine_tuning=FineTuning(epochs=4, batch_size=6, learning_rate=3e-3, lr_cumulative=3e-3))
    losses = result.tuned.history["val_loss"]
    assert min(losses) < losses[0]
    assert not result.stages and result.comparison is None
    assert any("no labels: not evaluated" in note for note in result.notes)


def test_parts_are_joined_in_order_whether_in_memory_or_lazy():
    one, other = collection().train, collection().test
    both = joined(one, other)
    assert len(both) == len(one) + len(other)
    np.testing.assert_array_equal(both.images[len(one)], other.images[0])
    lazy = joined(Part(list(one.images), one.labels, one.image_id, one.patient_id), other)
    for row in (0, len(one) - 1, len(one), len(both) - 1):
        np.testing.assert_array_equal(lazy.images[row], both.images[row])
    np.testing.assert_array_equal(lazy.labels, both.labels)


@pytest.mark.parametrize(("compression", "settings", "expected"), [
    ("pr", {}, "nothing to fine-tune"),
    ("uUQ", {"epochs": -1}, "--epochs -1"),
    ("uUQ", {"learning_rate": 0.0}, "--learning_rate 0"),
    ("uUQ", {"batch_size": 0}, "--minibatch 0"),
    ("uUQ", {"gradual": True, "assign": "fixed"}, "--gradual"),
    ("uUQ", {"crop": 4}, "--crop 4: for fields of nuclei"),
])
def test_what_cannot_be_tuned_is_refused(trained, compression, settings, expected):
    with pytest.raises(InputError, match=expected):
        settings = FineTuning(**{"epochs": 1} | settings)
        compress(
            trained, collection(), cxcompress.quantization.Compression.parse(
                compression, clustercnn=4, clusterfc=4, prcnn=50 * (compression == "pr"),
                prfc=50 * (compression == "pr")),
            preprocessing="0-1", sensitivity=False, fine_tuning=settings)


def test_augmented_images_get_the_originals_answers_to_them(trained, monkeypatch):
    """Soft targets of the stored images would be wrong for images that are changed."""
    from cxcompress.training import shared_values

    asked = []
    copy = shared_values._frozen_copy
    monkeypatch.setattr(shared_values, "_frozen_copy", lambda model: asked.append(1) or copy(model))
    plain = tuned(trained, epochs=2)
    assert not asked
    augmented = tuned(trained, epochs=2, augment=True)
    assert asked
    assert plain.tuned.history["val_loss"][0] == pytest.approx(
        augmented.tuned.history["val_loss"][0], rel=1e-5)
    assert plain.tuned.history["loss"][1] != pytest.approx(
        augmented.tuned.history["loss"][1], rel=1e-3)


def test_a_network_of_maps_is_tuned_on_squares_and_judged_on_whole_fields():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((64, 64, 3)),
        keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first"),
        keras.layers.Conv2D(3, 1, activation="relu", name="density")])
    fields = open_collection("synthetic:ki67_64", count=24)
    settings = {"epochs": 2, "batch_size": 4, "crop": 32, "learning_rate": 1e-2}
    original = models.weights(model)
    result = compress(model, fields, "uUQ", k=4, preprocessing="0-1", sensitivity=False,
                      fine_tuning=FineTuning(**settings))
    assert result.tuned.best_epoch > 0
    study = open_study(model, None, fields, None, "0-1", 0, [])
    models.set_weights(model, result.tuned.shared.weights())
    judged = loss_on(model, batches(study, fields.val, 3), "nuclei")
    assert judged == pytest.approx(
        result.tuned.history["val_loss"][result.tuned.best_epoch], rel=1e-4)
    models.set_weights(model, original)
    assert models.model_from_container(result.container).input_shape == (None, 64, 64, 3)
    with pytest.raises(InputError, match="--crop 65: the network's fields have 64 pixels"):
        compress(model, fields, "uUQ", k=4, preprocessing="0-1", sensitivity=False,
                 fine_tuning=FineTuning(**settings | {"crop": 65}))


def test_pruned_floats_are_not_grown_back(trained):
    compression = cxcompress.quantization.Compression.parse(
        "pruCWS", clustercnn=4, clusterfc=0, prcnn=50, prfc=50)
    with pytest.raises(InputError, match="grow back"):
        compress(trained, collection(), compression, preprocessing="0-1",
                            sensitivity=False, fine_tuning=FineTuning(epochs=1))


def test_without_training_images_it_says_so(trained):
    with pytest.raises(InputError, match="no train part"):
        compress(trained, collection(parts=("test",)), "uUQ", k=4,
                            preprocessing="0-1", sensitivity=False,
                            fine_tuning=FineTuning(epochs=1))
