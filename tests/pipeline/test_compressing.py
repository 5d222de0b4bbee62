"""Laws of `cxcompress.compress` that hold whatever the command line says."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import cxcompress
from cxcompress import models
from cxcompress.data.collection import Collection, Part
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.pipeline import inputs
from cxcompress.quantization import Compression
from cxcompress.storage import ModelCard


def compress(*arguments, **settings):
    """Without plans, whose conversion takes seconds and has tests of its own."""
    return cxcompress.compress(*arguments, **{"plans": ()} | settings)


def collection(n=90, classes=("a", "b"), task="multiclass", parts=("train", "test")):
    """Noise images whose mean grey level says the class."""
    rng = np.random.default_rng(0)
    column = rng.integers(len(classes), size=n)
    images = (rng.integers(0, 60, (n, 12, 12, 1)) + 60 * column[:, None, None, None]).astype(
        np.uint8)
    labels = np.eye(len(classes), dtype=np.float32)[column]
    names = np.array([f"image{i}" for i in range(n)])
    whole = Part(images, labels, names, names)
    split = {name: whole.select(np.arange(n)[place::len(parts)])
             for place, name in enumerate(parts)}
    return Collection("noise", task, classes, split.get("train"), split.get("val"),
                      split.get("test"))


def network(outputs=2, activation="softmax", rescale=False):
    keras.utils.set_random_seed(3)
    layers = [keras.Input((12, 12, 1))]
    if rescale:
        layers.append(keras.layers.Rescaling(1 / 255))
    return keras.Sequential([
        *layers, keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.Flatten(),
        keras.layers.Dense(outputs, activation=activation)])


def test_the_users_model_keeps_its_weights():
    model = network()
    before = {path: value.copy() for path, value in models.weights(model).items()}
    compress(model, collection(), "uCWS", k=4, preprocessing="0-1")
    for path, value in models.weights(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_the_result_predicts_what_it_recorded(tmp_path):
    result = compress(network(), collection(), "CWS", k=4, preprocessing="0-1")
    part = collection().test
    outputs = result.model().predict(
        Preprocessing.preset("0-1", (12, 12), 1).batch(part.images), verbose=0)
    np.testing.assert_allclose(outputs, result.compressed.score, atol=1e-6)
    sizes = result.save(tmp_path / "small.h5")
    assert sizes.total == (tmp_path / "small.h5").stat().st_size
    reread = models.load_model(tmp_path / "small.h5")
    np.testing.assert_allclose(reread.predict(
        Preprocessing.preset("0-1", (12, 12), 1).batch(part.images), verbose=0), outputs,
        atol=1e-6)


def test_a_layer_kept_exactly_changes_nothing_and_a_coarser_one_more():
    model = network()
    compression = Compression.parse("CWS", clustercnn=65536, clusterfc=2)
    conv, dense = compress(model, collection(), compression,
                                      preprocessing="0-1").layers
    assert conv.output_change == 0 and conv.loss_change == 0 and conv.sqnr_db == np.inf
    assert dense.output_change > 0 and dense.levels == 2
    finer = compress(model, collection(), Compression.parse(
        "CWS", clustercnn=65536, clusterfc=64), preprocessing="0-1").layers[1]
    assert finer.output_change < dense.output_change and finer.sqnr_db > dense.sqnr_db


def test_total_sqnr_and_entropy_are_the_weighted_sums():
    model = network()
    result = compress(model, None, "uCWS", k=8)
    shared = result.container.shared
    signal = noise = bits = count = 0.0
    for kernel in models.kernels(model):
        original = kernel.variable.numpy().astype(float)
        signal += (original**2).sum()
        noise += ((shared.kernel(kernel.path) - original) ** 2).sum()
        share = np.unique(shared.kernels[kernel.path].indices, return_counts=True)[1]
        bits += -(share * np.log2(share / share.sum())).sum()
        count += original.size
    assert result.sqnr_db == pytest.approx(10 * np.log10(signal / noise), rel=1e-6)
    assert result.entropy_bits == pytest.approx(bits / count, rel=1e-6)


def test_validation_is_held_out_of_train_never_of_test():
    notes = []
    study = inputs.open_study(network(), None, collection(), None, "0-1", 0, notes)
    names = {part: set(getattr(study.collection, part).image_id)
             for part in ("train", "val", "test")}
    assert names["test"] == set(collection().test.image_id)
    assert names["train"] | names["val"] == set(collection().train.image_id)
    assert not names["train"] & names["val"]
    assert 4 <= len(names["val"]) <= 10
    assert "held out" in notes[0]


def test_automatic_preprocessing_never_sees_test_images():
    data = collection()
    blind = Collection(data.name, data.task, data.classes, data.train, None, Part(
        Unreadable(), data.test.labels, data.test.image_id, data.test.patient_id))
    notes = []
    inputs.open_study(network(), None, blind, None, "auto", 0, notes)
    assert any("training images" in note for note in notes)


class Unreadable:
    """Images that nobody may look at."""

    def __len__(self):
        return 45

    def __getitem__(self, position):
        raise AssertionError("a test image was read")


def test_a_model_that_rescales_gets_its_pixels_as_they_are():
    notes = []
    study = inputs.open_study(network(rescale=True), None, collection(), None, "auto", 0, notes)
    assert study.preprocessing.value_range == (0, 255)


def test_judging_on_validation_leaves_test_alone():
    result = compress(network(), collection(parts=("train", "val", "test")), "uCWS",
                                 k=4, preprocessing="0-1", judge_on="val")
    assert result.judged_on == "val"
    assert set(result.original.image_id) == set(
        collection(parts=("train", "val", "test")).val.image_id)


def test_logits_and_single_sigmoids_become_probabilities():
    for outputs, activation in ((2, None), (1, "sigmoid"), (2, "softmax")):
        result = compress(network(outputs, activation), collection(), "uCWS", k=16,
                                     preprocessing="0-1")
        np.testing.assert_allclose(result.compressed.score.sum(axis=1), 1, atol=1e-6)


def test_multilabel_thresholds_are_chosen_on_validation_and_stored():
    result = compress(network(3, "sigmoid"), collection(
        150, ("a", "b", "c"), "multilabel", ("train", "val", "test")), "uCWS", k=16,
        preprocessing="0-1")
    assert len(result.container.card.thresholds) == 3
    assert result.container.card.metrics["part"] == "test"


def test_the_order_of_classes_holds_for_every_collection():
    notes = []
    plain = inputs.open_study(network(), None, collection(), None, "0-1", 0, notes)
    turned = inputs.open_study(network(), None, collection(), ("b", "a"), "0-1", 0, notes)
    assert turned.task.classes == ("b", "a")
    np.testing.assert_array_equal(turned.collection.test.labels,
                                  plain.collection.test.labels[:, ::-1])
    with pytest.raises(InputError, match="--classes"):
        inputs.open_study(network(), None, collection(), ("a", "c"), "0-1", 0, notes)


def test_a_container_compressed_again_keeps_its_card(tmp_path):
    data = collection(150, ("a", "b", "c"), "multilabel", ("train", "val", "test"))
    first = compress(network(3, "sigmoid"), data, "uCWS", k=64, preprocessing="-1-1",
                                sensitivity=False)
    first.save(tmp_path / "first.h5")
    again = compress(tmp_path / "first.h5", data, "uCWS", k=8, sensitivity=False)
    assert again.container.card.preprocessing == first.container.card.preprocessing
    assert again.comparison.decisions[0].original.threshold == pytest.approx(
        first.container.card.thresholds[0])
    turned = compress(tmp_path / "first.h5", data, "uCWS", k=8, sensitivity=False,
                                 classes=("c", "b", "a"))
    # The card's thresholds are of another order: they are chosen anew, not given to wrong classes.
    assert turned.comparison.decisions[0].name == "c"
    assert turned.comparison.decisions[0].original.threshold != pytest.approx(
        first.container.card.thresholds[0])


def test_a_card_of_another_input_size_is_refused(tmp_path):
    network().save(tmp_path / "net.h5")
    card = ModelCard(preprocessing=Preprocessing.preset("0-1", (24, 24), 1).to_dict())
    (tmp_path / "net.card.json").write_text(json.dumps(card.to_dict()))
    with pytest.raises(InputError, match="12x12 pixels .* its card says 24x24"):
        compress(tmp_path / "net.h5", collection(), "uCWS")


def test_thresholds_chosen_on_the_judged_images_are_said():
    result = compress(network(3, "sigmoid"), collection(
        150, ("a", "b", "c"), "multilabel", ("train", "val", "test")), "uCWS", k=16,
        preprocessing="0-1", judge_on="val", sensitivity=False)
    assert any("where the thresholds were chosen" in note for note in result.notes)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="3"):
        compress(network(2), collection(classes=("a", "b", "c")), "uCWS",
                            preprocessing="0-1")
    with pytest.raises(InputError, match="nuclei"):
        compress(network(2), collection(task="nuclei"), "uCWS")


def test_the_card_says_how_often_a_probability_was_right_on_validation():
    data = collection(120, parts=("train", "val", "test"))
    result = compress(network(), data, "CWS", k=8, preprocessing="0-1")
    bins = result.container.card.metrics["calibration"]
    assert set(bins) == {"a", "b"}
    scores = result.model().predict(
        Preprocessing.preset("0-1", (12, 12), 1).batch(data.val.images), verbose=0)
    for column, name in enumerate(bins):
        assert sum(one["count"] for one in bins[name]) == len(data.val)
        found = sum(one["observed"] * one["count"] for one in bins[name])
        assert found == pytest.approx(data.val.labels[:, column].sum(), rel=0.02)
        mean = sum(one["predicted"] * one["count"] for one in bins[name]) / len(data.val)
        assert mean == pytest.approx(scores[:, column].mean(), rel=0.02)
        assert all(one["low"] <= one["observed"] <= one["high"] for one in bins[name])


def test_a_graph_that_litert_will_not_run_is_a_plan_unavailable(monkeypatch):
    from cxcompress.pipeline import execution_plans
    from cxcompress.storage import Graph

    build = execution_plans.build_plans

    def with_a_bad_graph(*arguments):
        plans = build(*arguments)
        good = plans.graphs["int8"]
        plans.graphs["int8"] = Graph(b"\0" * 8 + good.flatbuffer[8:], good.placement)
        return plans

    monkeypatch.setattr(execution_plans, "build_plans", with_a_bad_graph)
    result = cxcompress.compress(network(), collection(), "uUQ", k=16, preprocessing="0-1",
                                 plans=("float32", "int8"))
    assert set(result.container.graph) == {"float32"}
    assert [report.plan for report in result.plans] == ["float32"]
    assert any(note.startswith("plan int8 unavailable: int8: LiteRT refuses its graph")
               for note in result.notes)


def test_a_folder_of_units_serves_several_compressions(tmp_path):
    def compressed(k, folder):
        model = keras.Sequential([
            keras.Input((12, 12, 1)), keras.layers.Conv2D(6, 3),
            keras.layers.BatchNormalization(name="norm"), keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax")])
        for layer, of in ((model.layers[0], 0), (model.layers[-1], 1)):
            layer.set_weights(network().layers[2 * of].get_weights())
        return compress(model, collection(parts=("train", "val", "test")), "uCWS", k=k,
                        preprocessing="0-1", bn_statistics="estimate", units_folder=folder)

    apart = [compressed(k, tmp_path / str(k)) for k in (3, 30)]
    together = [compressed(k, tmp_path / "both") for k in (3, 30)]
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one.compressed.score, other.compressed.score, atol=1e-6)
        assert [layer.output_change for layer in one.layers] == pytest.approx(
            [layer.output_change for layer in other.layers], rel=1e-4)
    assert abs(together[0].layers[0].output_change - together[1].layers[0].output_change) > 1e-4
