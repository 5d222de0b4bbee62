"""A file that runs: the same answers as Keras, from arrays, pictures and folders."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from cxcompress import models, runtime
from cxcompress.conversion.plans import build_plans
from cxcompress.errors import InputError
from cxcompress.images import Preprocessing
from cxcompress.pipeline.execution_plans import CLEARLY_SLOWER
from cxcompress.pipeline.sharing import share_model
from cxcompress.quantization import Compression
from cxcompress.runtime.checking import check_inputs, checked_difference, output_difference, summary
from cxcompress.storage import Container, Graph, read_container, write_container
from tests.runtime.conftest import noise_images

PLANS = ("float32", "int8", "static_int8")


@pytest.mark.parametrize("plan, most", list(zip(PLANS, (1e-5, 0.01, 0.02), strict=True)))
def test_answers_are_those_of_keras(compressed, plan, most):
    path, result, _ = compressed
    inputs = Preprocessing.preset("0-1", 16).batch(noise_images(7))
    model = runtime.load(path, plan, threads=1)
    assert (model.plan, model.input_shape, model.output_shape) == (plan, (16, 16, 1), (3,))
    expected = np.asarray(result.model()(inputs))
    outputs = model.predict(inputs)
    assert outputs.dtype == np.float32
    assert np.abs(outputs - expected).max() <= most


def test_any_number_of_inputs(compressed):
    model = runtime.load(compressed[0])
    inputs = check_inputs(model.input_shape, 3)
    whole = model.predict(inputs)
    assert model.predict(inputs[:0]).shape == (0, 3)
    np.testing.assert_array_equal(np.concatenate([model.predict(one[None]) for one in inputs]),
                                  whole)


def test_auto_is_the_recommended_plan_and_the_report_says_why(compressed):
    path, result, _ = compressed
    card = read_container(path).card
    within = [report for report in result.plans
              if report.difference <= card.metrics["execution"]["tolerance"]]
    fastest = min(report.seconds for report in within)
    nearly = [report.plan for report in within if report.seconds <= CLEARLY_SLOWER * fastest]
    expected = min(nearly, key=("static_int8", "int8", "float32").index)
    assert card.recommended_plan == expected == runtime.load(path).plan
    assert "seconds" not in str(card.metrics["execution"])  # the file's bytes would never repeat
    assert [report.recommended for report in result.plans].count(True) == 1


def test_every_plan_is_judged_on_the_same_images(compressed):
    _, result, _ = compressed
    assert [report.plan for report in result.plans] == list(PLANS)
    for report in result.plans:
        estimate = report.metrics["auroc_macro"]
        assert estimate.n == 30
        assert abs(estimate.value - result.after["auroc_macro"].value) < 0.1


def test_the_stored_check_agrees_here(compressed):
    path, _, _ = compressed
    check = read_container(path).card.metrics["execution"]["check"]
    assert checked_difference(runtime.load(path, "float32"), check) < 1e-5
    assert 0 < checked_difference(runtime.load(path, "static_int8"), check) < 0.05


def test_pictures_of_any_size_and_kind(compressed, tmp_path, caplog):
    path, _, _ = compressed
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8))
    grey.save(tmp_path / "grey.png")
    colour = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8))
    colour.save(tmp_path / "colour.jpg")
    deep = rng.integers(0, 65536, (16, 16), np.uint16)
    model = runtime.load(path, "float32")
    with caplog.at_level("INFO", logger="cxcompress"):
        found = model.predict_images(
            [tmp_path / "grey.png", str(tmp_path / "colour.jpg"), colour, deep])
    assert "colour.jpg: in colour; its luminance is used" in caplog.text
    assert found.classes == ("effusion", "mass", "nodule")
    assert found.scores.shape == found.decisions.shape == (4, 3)
    expected = model.predict(model.preprocessing().batch([np.asarray(grey)]))
    np.testing.assert_allclose(found.scores[0], expected[0], rtol=1e-6)
    thresholds = read_container(path).card.thresholds
    np.testing.assert_array_equal(found.decisions, found.scores >= np.asarray(thresholds))


def test_the_filled_flatbuffer_runs_on_stock_litert(compressed):
    from ai_edge_litert.interpreter import Interpreter

    path, _, _ = compressed
    one = check_inputs((16, 16, 1), 5, count=1)
    for plan in PLANS:
        interpreter = Interpreter(model_content=runtime.flatbuffer(path, plan), num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one)
        interpreter.invoke()
        np.testing.assert_array_equal(
            interpreter.get_tensor(interpreter.get_output_details()[0]["index"]),
            runtime.load(path, plan, 1).predict(one))


def test_bad_calls_say_what_to_mend(compressed, tmp_path):
    path, result, _ = compressed
    model = runtime.load(path)
    with pytest.raises(InputError, match=r"takes inputs of shape \(n, 16, 16, 1\)"):
        model.predict(np.zeros((2, 8, 8, 1)))
    with pytest.raises(InputError, match="NaN or infinite"):
        model.predict(np.full((1, 16, 16, 1), np.nan))
    with pytest.raises(InputError, match="has no plan 'int4'; it has float32, int8"):
        runtime.load(path, "int4")
    with pytest.raises(InputError, match="--threads 0"):
        runtime.load(path, threads=0)
    bare = tmp_path / "bare.h5"
    write_container(bare, dataclasses.replace(result.container, graph=None))
    with pytest.raises(InputError, match="holds no graph"):
        runtime.load(bare)


def _with_placement(container, change) -> dict[str, Graph]:
    graph = container.graph["int8"]
    placement = {key: value for key, value in graph.placement.items()}
    placement["kernels"] = [dict(entry) for entry in placement["kernels"]]
    change(placement)
    return {"int8": Graph(graph.flatbuffer, placement)}


@pytest.mark.parametrize("change", [
    lambda p: p["kernels"][0].update(path="no/such"),
    lambda p: p["kernels"][0].update(offset=-1),
    lambda p: p["kernels"][0].update(offset=1 << 40),
    lambda p: p["kernels"][1].update(offset=p["kernels"][0]["offset"]),
    lambda p: p["kernels"][0].update(axes=[0, 0, 1, 2]),
    lambda p: p["kernels"][0].update(shape=[1 << 40]),
    lambda p: p["kernels"][0].update(channel_axis=9),
    lambda p: p["kernels"][0].update(factors=1 << 40),
    lambda p: p["kernels"][0].update(dtype="object"),
    lambda p: p["kernels"].clear(),
    lambda p: p.update(bytes=1 << 50),
    lambda p: p.update(bytes="many"),
    lambda p: p.pop("bytes"),
    lambda p: p.update(kernels=[1, 2]),
    lambda p: p.update(kernels={}),
], ids=range(15))
def test_a_crafted_placement_is_one_line(compressed, tmp_path, change):
    container = compressed[1].container
    crafted = tmp_path / "crafted.h5"
    write_container(crafted, dataclasses.replace(
        container, graph=_with_placement(container, change)))
    with pytest.raises(InputError, match=r"crafted\.h5: its graph cannot be used"):
        runtime.load(crafted, "int8")


def test_a_graph_of_noise_is_one_line(compressed, tmp_path):
    container = compressed[1].container
    crafted = tmp_path / "noise.h5"
    noise = np.random.default_rng(0).bytes(5000)
    write_container(crafted, dataclasses.replace(container, graph={
        "int8": Graph(noise, {"bytes": 5000, "kernels": []})}))
    with pytest.raises(InputError, match="LiteRT refuses its graph"):
        runtime.load(crafted, "int8")


def test_a_graph_that_fails_at_an_answer_is_one_line(tmp_path):
    """LiteRT finds only then that an index is beyond an embedding."""
    numbers = keras.Input((4,))
    x = layers.GlobalAveragePooling1D()(layers.Embedding(10, 16)(numbers))
    model = keras.Model(numbers, layers.Dense(2)(layers.Dense(32)(x)))
    shared = share_model(model, Compression.parse("uUQ"))
    graphs = build_plans(model, shared, names=["float32"]).graphs
    path = tmp_path / "model.h5"
    write_container(path, Container(shared, models.architecture_json(model), graphs))
    network = runtime.load(path)
    assert np.isfinite(network.predict(np.float32([[0, 1, 2, 9]]))).all()
    with pytest.raises(InputError, match="model.h5: LiteRT cannot run its graph .*out of bounds"):
        network.predict(np.float32([[0, 1, 2, 1000]]))


def test_summaries_and_differences():
    outputs = np.arange(24.0).reshape(2, 3, 4)
    assert summary(outputs) == outputs.reshape(2, 12).tolist()
    short = summary(np.ones((4, 16, 16, 3)))
    assert np.shape(short) == (4, 64) and np.all(np.asarray(short) == 1)
    assert output_difference(np.array([[0.5, 1.0]]), np.array([[0.0, 1.0]])) == 0.5
    maps = np.zeros((1, 10, 10, 1)) + 2
    other = maps.copy()
    other[0, 0, 0, 0] = 4
    assert output_difference(other, maps) == pytest.approx(0.1)
