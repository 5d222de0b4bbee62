"""Fine-tuning keeps the best epoch, repeats itself, resumes, and stops on NaN."""

from __future__ import annotations

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from cxcompress import models
from cxcompress.data import open_collection, with_validation
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.training import PartBatches, fine_tune
from cxcompress.training.density_fitting import DensityBatches

RATES = {"learning_rate": 3e-3, "lr_cumulative": 3e-3, "task": "multiclass"}


@pytest.fixture
def taught(small_network, stripes):
    """A network that knows the stripes, and its weights."""
    model = small_network()
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy")
    model.fit(stripes(96, seed=5), epochs=12, shuffle=False, verbose=0)
    return model


def cross_entropy(model, shared, batches) -> float:
    weights = models.weights(model)
    models.set_weights(model, shared.weights())
    losses = []
    for position in range(len(batches)):
        inputs, labels = batches[position]
        outputs = np.asarray(model(inputs), float)
        losses.append(-np.log(outputs[labels.astype(bool)]))
    models.set_weights(model, weights)
    return float(np.concatenate(losses).mean())


def equal(one, other) -> bool:
    """To the last bit."""
    return all(np.array_equal(array, other.weights()[path])
               for path, array in one.weights().items())


@pytest.mark.parametrize("assign", ["fixed", "learned"])
def test_the_best_epoch_on_validation_is_what_comes_back(taught, share, stripes, assign):
    shared, weights = share(taught, "uUQ", k=3), models.weights(taught)
    val = stripes(32, seed=2, shuffled=None)
    tuned = fine_tune(taught, shared, weights, stripes(), val, epochs=6, patience=6,
                      assign=assign, **RATES)
    losses = tuned.history["val_loss"]
    assert len(losses) == len(tuned.history["loss"]) == 7 and math.isnan(tuned.history["loss"][0])
    assert tuned.best_epoch == int(np.argmin(losses)) > 0
    assert losses[0] == pytest.approx(cross_entropy(taught, shared, val), rel=1e-4)
    assert losses[tuned.best_epoch] == pytest.approx(
        cross_entropy(taught, tuned.shared, val), rel=1e-4)
    assert losses[tuned.best_epoch] < 0.9 * losses[0]
    assert tuned.shared.codebooks["conv"].step is not None and not tuned.notes
    for path, array in models.weights(taught).items():
        np.testing.assert_array_equal(array, weights[path])


def test_training_that_only_harms_gives_back_what_came_in(taught, share, stripes):
    shared = share(taught, "uCWS", k=30)
    tuned = fine_tune(taught, shared, models.weights(taught), stripes(),
                      stripes(32, seed=2), task="multiclass", epochs=4, patience=2,
                      learning_rate=1.0, lr_cumulative=1.0, lr_schedule="constant")
    assert tuned.best_epoch == 0 and tuned.shared is shared
    assert len(tuned.history["loss"]) == 3  # patience was out


def test_patience_counts_from_half_of_the_epochs_where_rates_fall(taught, share, stripes):
    tuned = fine_tune(taught, share(taught, "uCWS", k=30), models.weights(taught), stripes(),
                      stripes(32, seed=2), task="multiclass", epochs=7, patience=1,
                      learning_rate=1.0, lr_cumulative=1.0)
    assert tuned.best_epoch == 0 and len(tuned.history["loss"]) == 1 + 7 // 2 + 1


def test_rates_fall_over_the_epochs_of_the_schedule(taught, share, stripes, tmp_path):
    shared, weights = share(taught), models.weights(taught)

    def run(epochs, **settings):
        return fine_tune(taught, shared, weights, stripes(), stripes(32, seed=2), epochs=epochs,
                         patience=9, **RATES, **settings).history["val_loss"]

    long = run(3, state_folder=tmp_path / "cosine")
    # So trains again on more images, for fewer epochs, what was best early.
    assert run(1, schedule_epochs=3) == long[:2] != run(1)
    with pytest.raises(InputError, match="with other settings"):
        run(4, state_folder=tmp_path / "cosine")
    with pytest.raises(ValueError, match="cosine, constant. Received: 'linear'"):
        run(1, lr_schedule="linear")
    constant = run(3, lr_schedule="constant", state_folder=tmp_path / "constant")
    further = run(4, lr_schedule="constant", state_folder=tmp_path / "constant")
    assert further[:4] == constant and len(further) == 5 and constant[1] != long[1]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result_and_another_seed_another(taught, share, stripes):
    shared, weights = share(taught, "uUQ", k=4), models.weights(taught)

    def run(seed):
        return fine_tune(taught, shared, weights, stripes(shuffled=seed), stripes(32, seed=2),
                         epochs=2, assign="learned", seed=seed, **RATES)

    one, again, other = run(1), run(1), run(2)
    assert one.history["val_loss"] == again.history["val_loss"]
    assert one.history["val_loss"] != other.history["val_loss"]
    assert equal(one.shared, again.shared) and not equal(one.shared, other.shared)


@pytest.mark.slow
@pytest.mark.parametrize("name, assign", [("uUQ", "learned"), ("prCWS", "fixed")])
def test_interrupted_and_resumed_equals_uninterrupted(
        taught, share, stripes, tmp_path, monkeypatch, name, assign):
    flags = {"prcnn": 30, "prfc": 30} if "pr" in name else {}
    shared, weights = share(taught, name, k=4, **flags), models.weights(taught)

    def run(folder):
        return fine_tune(taught, shared, weights, stripes(), stripes(32, seed=2), epochs=4,
                         patience=4, assign=assign, state_folder=folder, **RATES)

    whole = run(tmp_path / "whole")
    read = PartBatches.__getitem__

    def interrupted(batches, position):
        if batches.epoch == 3 and position == 2 and len(batches.part) == 48:
            raise KeyboardInterrupt
        return read(batches, position)

    monkeypatch.setattr(PartBatches, "__getitem__", interrupted)
    with pytest.raises(BaseException):  # noqa: B017 - TensorFlow wraps what a generator raises
        run(tmp_path / "parts")
    monkeypatch.undo()
    keras.utils.set_random_seed(99)
    resumed = run(tmp_path / "parts")
    assert resumed.history["val_loss"] == whole.history["val_loss"]
    assert resumed.history["loss"][1:] == whole.history["loss"][1:]
    assert resumed.best_epoch == whole.best_epoch and equal(resumed.shared, whole.shared)
    finished = run(tmp_path / "parts")
    assert finished.history["val_loss"] == resumed.history["val_loss"]
    assert [entry.name for entry in (tmp_path / "parts").iterdir()] == ["fine_tuning.npz"]


def test_a_run_of_other_data_or_settings_is_not_continued(taught, share, stripes, tmp_path):
    shared, weights = share(taught), models.weights(taught)

    def run(train, **changes):
        return fine_tune(taught, shared, weights, train, stripes(32, seed=2), epochs=1,
                         state_folder=tmp_path, **(RATES | changes))

    run(stripes())
    with pytest.raises(InputError, match="other training data;"):
        run(stripes(seed=8))
    with pytest.raises(InputError, match="other settings;"):
        run(stripes(), learning_rate=0.5)
    redrawn = stripes()
    redrawn.part.images[20:24] += 1
    with pytest.raises(InputError, match="other training data;"):
        run(redrawn)
    (tmp_path / "fine_tuning.npz").write_bytes(b"broken")
    with pytest.raises(InputError, match="not a readable state"):
        run(stripes())


def test_a_loss_that_is_no_number_stops_and_is_said(taught, share, stripes):
    shared, weights = share(taught, "uCWS", k=4), models.weights(taught)
    tuned = fine_tune(taught, shared, weights, stripes(), stripes(32, seed=2), epochs=5,
                      assign="learned", task="multiclass", learning_rate=1e38, lr_cumulative=1e38)
    assert tuned.best_epoch == 0 and tuned.shared is shared
    assert len(tuned.history["loss"]) < 6
    assert "became NaN at learning rates 1e+38" in tuned.notes[0]


class NotANumberFrom(PartBatches):
    """Inputs of epoch 3 on are NaN."""

    def __getitem__(self, position):
        inputs, labels = super().__getitem__(position)
        return (inputs * np.float32(np.nan) if self.epoch >= 3 else inputs), labels


@pytest.mark.parametrize("judged", [True, False])
def test_a_later_loss_that_is_no_number_gives_back_the_best_epoch_before(
        taught, share, stripes, judged):
    shared, weights = share(taught, "uUQ", k=3), models.weights(taught)
    batches, val = stripes(), stripes(32, seed=2, shuffled=None)
    train = NotANumberFrom(batches.part, batches.preprocessing, 16, 0)
    tuned = fine_tune(taught, shared, weights, train, val if judged else None, epochs=6,
                      assign="learned", distill=False, **RATES)
    assert 0 < tuned.best_epoch < 3 and len(tuned.history["loss"]) < 7
    assert f"epoch {tuned.best_epoch} is kept" in tuned.notes[0]
    if judged:
        assert min(tuned.history["val_loss"][:3]) == pytest.approx(
            cross_entropy(taught, tuned.shared, val), rel=1e-4)
    else:
        assert tuned.best_epoch == 2 and not equal(tuned.shared, shared)


def test_an_update_that_breaks_the_weights_shows_without_validation_data(taught, share, stripes):
    shared = share(taught, "uUQ", k=3)
    tuned = fine_tune(taught, shared, models.weights(taught), stripes(16), None, epochs=1,
                      task="multiclass", learning_rate=1e39, lr_cumulative=1e39)
    assert tuned.best_epoch == 0 and tuned.shared is shared and "became NaN" in tuned.notes[0]


@pytest.mark.parametrize(("where", "unknown"), [("train", True), ("both", False)])
def test_images_without_labels_are_enough(taught, share, stripes, where, unknown):
    class WithoutLabels(PartBatches):
        def __getitem__(self, position):
            return super().__getitem__(position)[:1]

    def unlabelled(batches, unknown):
        if unknown:  # as a folder of images comes
            nan = np.full_like(batches.part.labels, np.nan)
            return PartBatches(replace(batches.part, labels=nan), batches.preprocessing, 16, 0)
        return WithoutLabels(replace(batches.part, labels=np.full((len(batches.part), 3), np.nan)),
                             batches.preprocessing, 16, 0)

    shared, weights = share(taught, "uUQ", k=3), models.weights(taught)
    val = stripes(32, seed=2)
    tuned = fine_tune(taught, shared, weights, unlabelled(stripes(), unknown),
                      unlabelled(val, unknown) if where == "both" else val, epochs=5,
                      assign="learned", **RATES)
    assert tuned.best_epoch > 0
    assert cross_entropy(taught, tuned.shared, val) < cross_entropy(taught, shared, val)
    with pytest.raises(InputError, match="have no labels"):
        fine_tune(taught, shared, weights, unlabelled(stripes(), True), val, distill=False, **RATES)


def test_data_that_are_no_partbatches_are_taught_by_a_frozen_copy(taught, share, stripes):
    class Plain(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, position):
            return stripes(16, seed=position, shuffled=None)[0]

    shared = share(taught, "uUQ", k=3)
    tuned = fine_tune(taught, shared, models.weights(taught), Plain(), stripes(32, seed=2),
                      epochs=4, assign="learned", **RATES)
    assert tuned.best_epoch > 0


def test_density_maps_are_fine_tuned_by_squared_error(share):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((16, 16, 3)), keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(3, 1, activation="relu", name="density")])
    rng = np.random.default_rng(0)

    class Fields(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, position):
            return (rng.random((2, 16, 16, 3)).astype(np.float32),
                    rng.random((2, 16, 16, 3)).astype(np.float32))

    tuned = fine_tune(model, share(model, "uUQ", k=8), models.weights(model), Fields(), Fields(),
                      task="nuclei", epochs=1)
    assert np.isfinite(tuned.history["val_loss"]).all()


def test_soft_targets_are_of_the_very_squares_that_are_cut_out(share):
    """With all its distinct values a network is the original: no loss against its outputs."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(3, 1, activation="relu", name="density")])
    fields = open_collection("synthetic:ki67_64", count=24)
    batches = DensityBatches(fields.train, Preprocessing.preset("0-1", 64, 3), 4, seed=1,
                             augment=True, crop=32)
    shared = share(model, "uCWS", k=256)
    tuned = fine_tune(model, shared, models.weights(model), batches, None, task="nuclei", epochs=2,
                      learning_rate=1e-9, lr_cumulative=1e-9, label_weight=0.0)
    outputs = model.predict(batches[0][0], verbose=0)
    assert np.var(outputs) > 1e-4 and max(tuned.history["loss"][1:]) < 1e-6 * np.var(outputs)


def test_data_that_do_not_fit_the_model_are_refused(taught, share, stripes, small_network):
    shared, weights = share(taught), models.weights(taught)
    batches = stripes(32, seed=2)
    larger = PartBatches(batches.part, Preprocessing((9, 9), 1), 16)
    with pytest.raises(InputError, match=r"training data have inputs of shape \(9, 9, 1\)"):
        fine_tune(taught, shared, weights, larger, batches, **RATES)
    two = replace(batches.part, labels=batches.part.labels[:, :2])
    with pytest.raises(InputError, match=r"validation data have labels of shape \(2,\)"):
        fine_tune(taught, shared, weights, batches, PartBatches(two, batches.preprocessing, 16),
                  **RATES)
    broken = dict(shared.unshared) | {"dense2/bias": np.full(3, np.nan, np.float32)}
    with pytest.raises(InputError, match="not a number before training"):
        fine_tune(taught, replace(shared, unshared=broken), weights, batches, batches, **RATES)


@pytest.mark.slow
def test_learned_levels_regain_what_four_levels_cost_a_published_model(shared_data, share):
    model = models.load_model(shared_data / "covid_cxr_keras2.h5")
    collection = with_validation(open_collection(
        shared_data / "covid_cxr_200px").in_class_order(("covid", "normal")))
    preprocessing = Preprocessing.preset("0-1", (200, 200), 3)
    val = PartBatches(collection.val, preprocessing, 32)
    weights = models.weights(model)
    shared = share(model, "uUQ", k=4)
    before = cross_entropy(model, replace(shared, codebooks={}, kernels={}, unshared=weights), val)
    regained = {}
    for assign in ("fixed", "learned"):
        tuned = fine_tune(model, shared, weights, PartBatches(collection.train, preprocessing, 16,
                                                              seed=0),
                          val, task="multiclass", epochs=12, patience=12, assign=assign,
                          learning_rate=3e-4, lr_cumulative=1e-4)
        start, best = tuned.history["val_loss"][0], min(tuned.history["val_loss"])
        regained[assign] = (start - best) / (start - before)
    assert regained["learned"] > 0.75 and regained["learned"] > regained["fixed"] > 0.2
